"""Compute where a graphic lies on a case's canonical grid.

A graphic on an image of the case is placed by its slice. A graphic in space is placed by the frame of
reference. A graphic on another image is placed by that image's plane, if the image has the case's frame of
reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.graphics import Graphic, Points
from uair_node.dicom.volume import FloatArray, Volume

FindHeader = Callable[[str], Dataset | None]
"""Returns the header of an image by its SOP Instance UID; None if the node does not have the image."""


@dataclass(frozen=True)
class Grid:
    """The grid of a case, with a function that finds images of other series on which graphics were drawn.

    Attributes
    ----------
    volume
        The source grid; its voxels are not read.
    find_header
        A function that finds images of other series.
    """

    volume: Volume
    find_header: FindHeader

    def place(self, graphic: Graphic) -> Points:
        """Return the points of a graphic, ``(n, 3)`` z, y, x on the canonical grid, counted from voxel edges.

        Raises
        ------
        InputError
            ``mark-slice-unknown``: the case lacks the slice or frame. ``mark-other-frame-of-reference``: the
            graphic is on another series or in another space, without the case's frame of reference.
        """
        canonical = self.volume.canonical()
        inverse = np.linalg.inv(canonical.affine)
        places = _homogeneous(self._in_space(graphic)) @ inverse.T
        edges: Points = places[:, :3] + 0.5
        depth = edges[:, 0]
        if (depth < 0.0).any() or (depth > canonical.shape[0]).any():
            raise _no_slice()
        return edges

    def _in_space(self, graphic: Graphic) -> Points:
        """Return a graphic's points in LPS mm, ``(n, 3)``."""
        if graphic.points.shape[1] == 3:
            if graphic.frame_of_reference_uid != self.volume.frame_of_reference_uid:
                raise _other_space()
            return graphic.points
        centred = graphic.points - 0.5  # from the outer corner of the first pixel to its centre
        own = self.volume.slices_of(graphic.image_uid)
        if not own:
            return _on_plane(self._plane_of(graphic.image_uid), centred)
        places = [k for k, frame in own.items() if graphic.frame is None or (frame or 1) == graphic.frame]
        if len(places) != 1:
            raise _no_slice()
        index = np.column_stack([np.full(len(centred), float(places[0])), centred[:, 1], centred[:, 0]])
        lps: Points = (_homogeneous(index) @ self.volume.affine.T)[:, :3]
        return lps

    def _plane_of(self, image_uid: str) -> FloatArray:
        """Return the affine of an image of another series: (column, row, 1) to LPS mm (PS3.3 C.7.6.2.1.1)."""
        header = self.find_header(image_uid)
        if header is None:
            raise _no_slice()
        if header.get("FrameOfReferenceUID") != self.volume.frame_of_reference_uid:
            raise _other_space()
        try:
            row, column = np.asarray(header.ImageOrientationPatient, np.float64).reshape(2, 3)
            down, along = (float(mm) for mm in header.PixelSpacing)
            origin = np.asarray(header.ImagePositionPatient, np.float64)
            return np.column_stack([row * along, column * down, origin])
        except (AttributeError, TypeError, ValueError):
            raise _other_space() from None


def _on_plane(plane: FloatArray, centred: Points) -> Points:
    lps: Points = np.column_stack([centred, np.ones(len(centred))]) @ plane.T
    return lps


def _homogeneous(points: Points) -> Points:
    return np.column_stack([points, np.ones(len(points))])


def _no_slice() -> InputError:
    return InputError(
        "mark-slice-unknown",
        "A mark lies on a slice that the case does not have.",
        "Measure on the series that the candidates were made from.",
    )


def _other_space() -> InputError:
    return InputError(
        "mark-other-frame-of-reference",
        "A mark was drawn on another series, which shares no frame of reference with the case.",
        "Measure on the series that the candidates were made from.",
    )
