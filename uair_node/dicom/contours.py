"""Fill closed contours on the pixel grid of a slice, and interpolate a shape between two slices.

Points are (row, column) on the slice's grid; pixel centres have whole coordinates. A pixel belongs to a
contour if its centre lies inside the contour or on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Points = npt.NDArray[np.float64]
"""``(n, 2)``: row, column."""
Mask = npt.NDArray[np.bool_]
_Places = npt.NDArray[np.int64]

_ON_EDGE = 0.01
"""A contour counts as running through a pixel's centre if their distance is at most this many pixels.

Writers round coordinates.
"""


def fill_plane(contours: Sequence[Points], shape: tuple[int, int], *, by_parity: bool) -> Mask:
    """Return the pixels ``(rows, columns)`` that contours of one slice enclose.

    Parameters
    ----------
    by_parity
        True: a pixel belongs to the shape if an odd number of contours contain it (CLOSEDPLANAR_XOR). False:
        a contour inside another contour is a hole, and a contour inside a hole is an island. Overlapping
        contours are joined.
    """
    filled = np.zeros(shape, bool)
    insides = [_inside(points, shape) for points in contours]
    if by_parity:
        for inside in insides:
            filled ^= inside
    else:
        _nest(insides, filled)
    for points in contours:
        rows, columns = _centres_on(points, shape)
        filled[rows, columns] = True
    return filled


def between(lower: Mask, upper: Mask, share: float, spacing_mm: tuple[float, float]) -> Mask:
    """Return the shape between two slices, interpolated from their signed distance maps.

    Parameters
    ----------
    share
        Position between the slices: 0 at the lower slice, 1 at the upper slice.
    spacing_mm
        Distances between rows and between columns.
    """
    box = _box_around(lower | upper)
    heights = [_height(mask[box], spacing_mm) for mask in (lower, upper)]
    shape = np.zeros(lower.shape, bool)
    shape[box] = (1.0 - share) * heights[0] + share * heights[1] > 0.0
    return shape


def _nest(insides: Sequence[Mask], filled: Mask) -> None:
    """Fill contours from the largest to the smallest. A contour inside a filled area is a hole."""
    before: Mask | None = None
    for inside in sorted(insides, key=np.count_nonzero, reverse=True):
        if before is not None and np.array_equal(inside, before):
            continue  # the same contour, written twice
        before = inside
        if inside.any() and filled[inside].all():
            filled &= ~inside
        else:
            filled |= inside


def _inside(points: Points, shape: tuple[int, int]) -> Mask:
    """Return the mask of the pixels whose centre lies in or on a contour."""
    low = np.floor(points.min(axis=0)).clip(0, shape).astype(int)
    high = np.ceil(points.max(axis=0) + 1).clip(low, shape).astype(int)
    inside = np.zeros(shape, bool)
    box = slice(low[0], high[0]), slice(low[1], high[1])
    inside[box] = _inside_box(points - low, *(high - low).tolist())
    return inside


def _inside_box(points: Points, height: int, width: int) -> Mask:
    """Return the mask of the pixel centres that have an odd number of contour edges to their left."""
    (rows, columns), (rows_on, columns_on) = points.T, np.roll(points, -1, axis=0).T
    first = np.ceil(np.minimum(rows, rows_on)).clip(0, height).astype(int)
    stop = np.ceil(np.maximum(rows, rows_on)).clip(0, height).astype(int)
    edge, row = _runs(first, stop - first)
    steps = (row - rows[edge]) / (rows_on - rows)[edge]
    crossed = columns[edge] + steps * (columns_on - columns)[edge]
    edges = np.zeros((height, width + 1), np.uint16)
    np.add.at(edges, (row, np.ceil(crossed).clip(0, width).astype(int)), 1)
    parity: Mask = np.cumsum(edges, axis=1, dtype=np.uint16)[:, :width] % 2 == 1
    return parity


def _centres_on(points: Points, shape: tuple[int, int]) -> tuple[_Places, _Places]:
    """Return rows and columns of the pixels whose centre lies on a contour."""
    rows, columns = _centres_by_row(points, shape)
    turned_rows, turned_columns = _centres_by_row(points[:, ::-1], shape[::-1])
    return np.concatenate([rows, turned_columns]), np.concatenate([columns, turned_rows])


def _centres_by_row(points: Points, shape: tuple[int, int]) -> tuple[_Places, _Places]:
    """Return rows and columns of the pixel centres that lie where an edge crosses a row."""
    (rows, columns), (rows_on, columns_on) = points.T, np.roll(points, -1, axis=0).T
    first = np.ceil(np.minimum(rows, rows_on) - _ON_EDGE).clip(0, shape[0]).astype(int)
    stop = np.floor(np.maximum(rows, rows_on) + _ON_EDGE).clip(-1, shape[0] - 1).astype(int) + 1
    edge, row = _runs(first, np.maximum(stop - first, 0))
    rise = (rows_on - rows)[edge]
    steps = np.divide(row - rows[edge], rise, out=np.zeros(len(edge)), where=rise != 0.0).clip(0.0, 1.0)
    crossed = columns[edge] + steps * (columns_on - columns)[edge]
    column = np.rint(crossed).astype(np.int64)
    on = (np.abs(crossed - column) <= _ON_EDGE) & (column >= 0) & (column < shape[1])
    return row[on], column[on]


def _runs(first: _Places, lengths: _Places) -> tuple[_Places, _Places]:
    """Return an array of edges and an array of rows. Edge e has `lengths[e]` rows, from `first[e]` on."""
    edge = np.repeat(np.arange(len(first)), lengths)
    offsets = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return edge, first[edge] + offsets


def _box_around(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _height(mask: Mask, spacing_mm: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return the signed distance of each pixel to the edge of a mask, in mm, negative outside."""
    padded = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~padded, sampling=spacing_mm)
    height: npt.NDArray[np.float64] = (inside - outside)[1:-1, 1:-1]
    return height
