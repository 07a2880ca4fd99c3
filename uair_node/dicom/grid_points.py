"""Convert points between the canonical grid and the source grid of a series.

Coordinates are in voxels, counted from the outer edge of the first voxel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uair_node.dicom.volume import CanonicalVolume

Points = npt.NDArray[np.float64]


def points_to_source(points: Points, canonical: CanonicalVolume) -> Points:
    """Convert points ``(N, 3)`` from the canonical grid to the source grid."""
    return _flipped(points, canonical)[:, np.argsort(canonical.transpose)]


def points_from_source(points: Points, canonical: CanonicalVolume) -> Points:
    """Convert points ``(N, 3)`` from the source grid to the canonical grid."""
    return _flipped(points[:, list(canonical.transpose)], canonical)


def _flipped(points: Points, canonical: CanonicalVolume) -> Points:
    flipped = points.copy()
    for axis in canonical.flips:
        flipped[:, axis] = canonical.shape[axis] - flipped[:, axis]
    return flipped
