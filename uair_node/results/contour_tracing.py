"""Trace the closed contours of a mask on a slice. A channel (keyhole) joins a hole to its outer contour.

Contours run between the centres of pixels. So every program finds the same pixel centres inside a contour.
All programs that read CLOSED_PLANAR support a keyhole (PS3.3 C.8.8.6.3). The channel runs along pixel edges,
too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours

Ring = npt.NDArray[np.float64]
"""Points ``(n, 2)``: row, column. A pixel's centre has whole numbers. The last point joins the first."""


def trace(mask: npt.NDArray[np.bool_]) -> list[Ring]:
    """Return the contours of a mask ``(rows, columns)``. Pixels that touch only at a corner are separate."""
    if not mask.any():
        return []
    box = _box(mask)
    first = np.array([span.start for span in box], np.float64) - 1.0  # padded by a pixel
    rings = [ring[:-1] + first for ring in find_contours(np.pad(mask[box], 1).astype(np.float32), 0.5)]
    areas = [_area(ring) for ring in rings]
    sign = np.sign(max(areas, key=abs))  # the largest contour is no hole
    outer = [ring for ring, area in zip(rings, areas, strict=True) if area * sign > 0]
    holes = [_from_top_left(ring) for ring, area in zip(rings, areas, strict=True) if area * sign < 0]
    for hole in sorted(holes, key=lambda ring: (ring[0, 0], ring[0, 1])):
        _join(outer, hole)
    return [_without_needless_points(ring) for ring in outer]


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _area(ring: Ring) -> float:
    """Return the signed area of a contour in pixels. The sign gives the direction of the contour."""
    rows, columns = ring.T
    return float(np.dot(rows, np.roll(columns, -1)) - np.dot(columns, np.roll(rows, -1))) / 2.0


def _from_top_left(ring: Ring) -> Ring:
    first = np.lexsort((ring[:, 1], ring[:, 0]))[0]
    return np.roll(ring, -first, axis=0)


def _join(outer: list[Ring], hole: Ring) -> None:
    """Join a hole to the nearest contour on the left of its first point, by a channel along the row.

    All pixels above and below the channel are in the mask. So the nearest contour is an outer contour, or a
    hole that is already joined to an outer contour.
    """
    row, column = hole[0]
    met = [_left_of(ring, row, column) for ring in outer]
    number = int(np.argmax([place for place, _ in met]))
    place, index = met[number]
    detour = np.concatenate([[(row, place)], hole, hole[:1], [(row, place)]])
    outer[number] = np.insert(outer[number], index + 1, detour, axis=0)


def _left_of(ring: Ring, row: float, column: float) -> tuple[float, int]:
    """Return the nearest column left of `column` where a contour crosses `row`, and the index of its point.

    A contour crosses a row at a point, or in the middle of a vertical edge. For an edge, the index is the
    index of the point before the crossing. If the contour does not cross the row, then the column is minus
    infinity.
    """
    next_rows = np.roll(ring[:, 0], -1)
    meets = (ring[:, 0] == row) | ((ring[:, 0] - row) * (next_rows - row) < 0.0)
    found = np.flatnonzero(meets & (ring[:, 1] < column))
    if not len(found):
        return -np.inf, 0
    index = int(found[np.argmax(ring[found, 1])])
    return float(ring[index, 1]), index


def _without_needless_points(ring: Ring) -> Ring:
    """Remove repeated points, and points in the middle of a straight line."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    returns = (before * after).sum(axis=1) < 0.0
    return ring[turns | returns]
