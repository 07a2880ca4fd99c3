"""Compute the geometry of a stack of parallel slices: order, affine, distances, angles.

The functions take header records. They measure only; the gate decides what is acceptable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uair_node.dicom.headers import SliceHeader

FloatArray = npt.NDArray[np.float64]


def plane_axes(orientation: Sequence[float]) -> FloatArray:
    """Return the orthonormal axes `(3, 3)` of Image Orientation (Patient), as columns.

    Columns are in LPS. They are the slice normal (row direction x column direction, PS3.3 C.7.6.2.1.1), then
    the directions of increasing row index and column index.

    Raises
    ------
    ValueError
        If the six cosines are not two perpendicular directions.
    """
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.all(np.isfinite(lengths)) or min(lengths) < 0.9 or max(lengths) > 1.1:
        raise ValueError("direction cosines are not of unit length")
    row, column = row / lengths[0], column / lengths[1]
    # The limit 0.001 accepts cosines that were written with four digits.
    if abs(row @ column) > 1e-3:
        raise ValueError("row and column direction are not perpendicular")
    column = column - (row @ column) * row
    column /= np.linalg.norm(column)
    return np.column_stack([np.cross(row, column), column, row])


@dataclass(frozen=True, eq=False)
class Stack:
    """At least one slice, sorted ascending along the slice normal.

    Attributes
    ----------
    order
        Indices into the header records, in stack order.
    axes
        `(3, 3)`, see `plane_axes`.
    positions_mm
        `(Z, 3)`, LPS of each slice's first voxel, in stack order.
    pixel_spacing_mm
        (between rows, between columns).
    """

    order: tuple[int, ...]
    axes: FloatArray
    positions_mm: FloatArray
    pixel_spacing_mm: tuple[float, float]

    @property
    def distances_mm(self) -> FloatArray:
        """Distances `(Z - 1,)` in mm between neighbours along the normal."""
        return np.diff(self.positions_mm @ self.axes[:, 0])

    @property
    def tilt_deg(self) -> float:
        """Gantry tilt: the angle in degrees between slice normal and stacking direction."""
        return _angle_deg(self.axes[:, 0], self.positions_mm[-1] - self.positions_mm[0])

    @property
    def oblique_deg(self) -> float:
        """Angle in degrees between slice normal and the patient's long axis, 0 to 90."""
        angle = _angle_deg(self.axes[:, 0], np.array([0.0, 0.0, 1.0]))
        return min(angle, 180.0 - angle)

    @property
    def affine(self) -> FloatArray:
        """4x4 affine from the voxel index (k, j, i, 1) to LPS mm. A single slice gets the distance 1 mm.

        The slice step is the mean distance between the first and the last position.
        """
        affine = np.eye(4)
        affine[:3, 0] = self.axes[:, 0]
        if len(self.order) > 1:
            affine[:3, 0] = (self.positions_mm[-1] - self.positions_mm[0]) / (len(self.order) - 1)
        affine[:3, 1:3] = self.axes[:, 1:] * np.asarray(self.pixel_spacing_mm)
        affine[:3, 3] = self.positions_mm[0]
        return affine


def build_stack(headers: Sequence[SliceHeader]) -> Stack:
    """Sort slices of one orientation and one pixel spacing along their normal.

    Slices at equal positions have the order of their SOP Instance UIDs. So the result does not depend on the
    order of arrival.

    Raises
    ------
    ValueError
        If a position, an orientation or a pixel spacing is missing or unusable.
    """
    first = headers[0]
    if first.orientation is None or first.pixel_spacing_mm is None:
        raise ValueError("orientation or pixel spacing is missing")
    if any(header.position_mm is None for header in headers):
        raise ValueError("a position is missing")
    if not all(np.isfinite(spacing) and spacing > 0 for spacing in first.pixel_spacing_mm):
        raise ValueError("pixel spacing is not positive")
    axes = plane_axes(first.orientation)
    positions = np.asarray([header.position_mm for header in headers], dtype=np.float64)
    along = positions @ axes[:, 0]
    order = sorted(range(len(headers)), key=lambda n: (along[n], headers[n].sop_instance_uid))
    return Stack(tuple(order), axes, positions[order], first.pixel_spacing_mm)


@dataclass(frozen=True, eq=False)
class EvenGrid:
    """The evenly spaced positions that fit a stack's positions best (least squares).

    Attributes
    ----------
    spacing_mm
        Distance of neighbours along the normal.
    missing
        The number of grid positions between the first and the last slice that have no slice.
    along_mm, lateral_mm
        `(Z,)`, the distance of each slice from its grid position: along the normal (signed), and across it.
    """

    spacing_mm: float
    missing: int
    along_mm: FloatArray
    lateral_mm: FloatArray


def fit_even_grid(stack: Stack) -> EvenGrid:
    """Fit an even grid to a stack of at least two slices at different positions.

    Each distance of neighbours is divided by the usual spacing and rounded to a whole number, at least 1. The
    usual spacing is the mean of the ordinary distances. So rounded positions do not lead to a wrong count in
    wide gaps.
    """
    distances = stack.distances_mm
    usual = float(distances[distances < 1.5 * np.median(distances)].mean())
    gaps = np.maximum(np.rint(distances / usual), 1)
    places = np.concatenate([[0.0], np.cumsum(gaps)])
    design = np.column_stack([np.ones(len(places)), places])
    fitted, *_ = np.linalg.lstsq(design, stack.positions_mm, rcond=None)
    off = stack.positions_mm - design @ fitted
    normal = stack.axes[:, 0]
    along = off @ normal
    lateral = np.linalg.norm(off - along[:, None] * normal, axis=1)
    return EvenGrid(float(fitted[1] @ normal), int(gaps.sum()) - len(gaps), along, lateral)


def _angle_deg(a: FloatArray, b: FloatArray) -> float:
    # atan2 keeps its accuracy at small angles, where arccos of a rounded cosine loses it.
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
