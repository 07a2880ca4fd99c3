"""Find the slice of a series' grid on which an image plane lies, by position and orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uair_node.dicom.volume import Volume
from workers.truth.metrics import Mask

# Limits for a match: the distance of a plane from a slice, and the distance of the plane's pixels from the
# grid's pixels.
_TOLERANCE_VOXELS = 0.2


@dataclass(frozen=True)
class Placement:
    """The place of an image plane: the number of its slice on the source grid, and the flips of its axes."""

    slice: int
    rows_flipped: bool
    columns_flipped: bool

    def turned(self, plane: Mask) -> Mask:
        """Return the plane's pixels in the order of the grid."""
        rows = slice(None, None, -1 if self.rows_flipped else 1)
        columns = slice(None, None, -1 if self.columns_flipped else 1)
        return plane[rows, columns]


def place_by_geometry(
    position: Sequence[float],
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    size: tuple[int, int],
    volume: Volume,
) -> Placement | None:
    """Return the slice on which a plane lies; None if the plane does not lie on the volume's grid.

    Parameters
    ----------
    position, orientation, pixel_spacing
        Image Position, Image Orientation (Patient), Pixel Spacing (PS3.3 C.7.6.2.1.1).
    size
        Rows and columns of the plane.
    volume
        The series.
    """
    if size != volume.shape[1:]:
        return None
    first = np.array([float(value) for value in position])
    along_row, along_column = np.array([float(value) for value in orientation]).reshape(2, 3)
    row_step, column_step = (float(value) for value in pixel_spacing)
    last = first + along_row * column_step * (size[1] - 1) + along_column * row_step * (size[0] - 1)
    to_voxel = np.linalg.inv(volume.affine)
    start, stop = ((to_voxel @ np.append(corner, 1.0))[:3] for corner in (first, last))
    if abs(start[0] - stop[0]) > _TOLERANCE_VOXELS:
        return None
    k = round(float(start[0]))
    ends = np.array([k, *np.minimum(start, stop)[1:], *np.maximum(start, stop)[1:]])
    grid = np.array([start[0], 0, 0, size[0] - 1, size[1] - 1])
    if not 0 <= k < volume.shape[0] or np.abs(ends - grid).max() > _TOLERANCE_VOXELS:
        return None
    return Placement(k, bool(start[1] > stop[1]), bool(start[2] > stop[2]))
