"""Measurements of an accepted segmentation: volumes, diameters, density.

This module works on arrays, without DICOM. It defines the volumes, diameters and densities of the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from uair_node.findings.volumes import describe

_LIVER_LABEL = 1
_MM3_PER_ML = 1000.0
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
# Points midway between a pixel's centre and its four sides, as offsets in pixels; see `axial_diameters`.
_MIDWAY = np.array([(-0.25, 0.0), (0.25, 0.0), (0.0, -0.25), (0.0, 0.25)])

FloatArray = NDArray[np.float64]
Point = tuple[float, float]
Segment = tuple[Point, Point]


@dataclass(frozen=True)
class Diameters:
    """The longest diameter in any axial slice, and the longest perpendicular diameter in the same slice.

    Parameters
    ----------
    slice_index
        Index of the slice along axis 0.
    long_mm, short_mm
        Lengths in mm, `short_mm` at most `long_mm`.
    long_axis, short_axis
        End points of the two diameters, each ``(row, column)`` in voxel indices. Pixel centres have integer
        indices.
    """

    slice_index: int
    long_mm: float
    short_mm: float
    long_axis: Segment
    short_axis: Segment


@dataclass(frozen=True)
class Density:
    """Statistics of a lesion's voxel values, in the unit of the values.

    `sd` is the population standard deviation.
    """

    mean: float
    sd: float
    min: float
    max: float


@dataclass(frozen=True)
class LesionMeasurements:
    """A lesion: its number, volume in ml, density and diameters."""

    number: int
    volume_ml: float
    density: Density
    diameters: Diameters


@dataclass(frozen=True)
class Measurements:
    """All numbers of a segmentation.

    Parameters
    ----------
    liver_ml
        Volume in ml of the whole organ with its lesions, as radiology reports liver volume.
    parenchyma_ml, parenchyma_mean
        Volume in ml and mean density of the liver without its lesions. The density is None without voxels.
    lesions
        The lesions, by ascending number.
    """

    liver_ml: float
    parenchyma_ml: float
    parenchyma_mean: float | None
    lesions: tuple[LesionMeasurements, ...]

    @property
    def lesions_ml(self) -> float:
        """Volume of all lesions in ml."""
        return sum(lesion.volume_ml for lesion in self.lesions)

    @property
    def burden_percent(self) -> float:
        """Tumour burden: volume of all lesions as percentage of `liver_ml`; 0 without liver."""
        return 100.0 * self.lesions_ml / self.liver_ml if self.liver_ml else 0.0


def measure(
    values: NDArray[Any], labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]
) -> Measurements:
    """Measure liver and lesions.

    Parameters
    ----------
    values
        ``(Z, Y, X)``, HU or the scanner's units. Axis 0 is the index of the axial slices.
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver, 1 + n lesion n; liver and lesions disjoint.
    spacing_mm
        ``(z, y, x)`` in mm.

    Raises
    ------
    ValueError
        The shapes of `values` and `labels` differ.
    """
    if values.shape != labels.shape:
        raise ValueError(f"labels {labels.shape} are not on the grid of the volume {values.shape}")
    volumes = describe(labels, spacing_mm)
    counts = np.bincount(labels.ravel(), minlength=2)
    boxes = ndimage.find_objects(labels)
    lesions = []
    for number, volume_ml in volumes.lesions_ml:
        box = boxes[number]  # the box of label value `number` + 1, because the list begins with value 1
        mask = labels[box] == number + 1
        diameters = axial_diameters(mask, spacing_mm[1:], (box[0].start, box[1].start, box[2].start))
        lesions.append(LesionMeasurements(number, volume_ml, _density(values[box], mask), diameters))
    parenchyma = labels == _LIVER_LABEL
    return Measurements(
        liver_ml=volumes.liver_ml,
        parenchyma_ml=int(counts[_LIVER_LABEL]) * float(np.prod(spacing_mm)) / _MM3_PER_ML,
        parenchyma_mean=_mean(values, parenchyma) if counts[_LIVER_LABEL] else None,
        lesions=tuple(lesions),
    )


def axial_diameters(
    mask: NDArray[np.bool_], pixel_mm: tuple[float, float], origin: tuple[int, int, int] = (0, 0, 0)
) -> Diameters:
    """Measure the longest axial diameter and its perpendicular.

    The outline of a lesion in a slice runs midway between the centres of its outermost pixels and their outer
    sides. A distance between pixel centres is up to a pixel too short, since centres lie inside. For a ball,
    the largest distance between pixel sides is up to 0.9 pixels too long, since some direction always fits
    well. (pyradiomics' Maximum 2D diameter and marching squares of a binary mask measure the distance between
    sides.) With an outline midway, the error for balls, ellipsoids and touching balls is at most half a
    pixel.

    The long diameter joins the farthest pair of vertices of the outline's convex hull. It is exact, because
    all pairs are compared. The short diameter is the longest chord of the convex hull that is perpendicular
    to the long diameter. The length of such a chord is concave along the long axis, so the longest chord
    starts in a vertex. Parts that do not touch in the slice, not even at corners, are measured separately. So
    a stray voxel does not change a diameter.

    Parameters
    ----------
    mask
        ``(Z, Y, X)`` with at least one true voxel.
    pixel_mm
        ``(y, x)`` in mm.
    origin
        Index of the mask's first voxel. It is added to the returned indices.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    best: tuple[float, int, FloatArray] | None = None
    for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        parts, count = ndimage.label(mask[k], _EIGHT_NEIGHBOURS)
        for part in range(1, count + 1):
            hull = _hull_mm(parts == part, pixel_mm)
            longest = float(pdist(hull).max())
            # The margin 1e-9 mm ensures that rounding does not choose between slices of equal length.
            if best is None or longest > best[0] + 1e-9:
                best = longest, k, hull
    if best is None:
        raise ValueError("an empty mask has no diameter")
    _, k, hull = best
    long_axis, short_axis = _long_and_short(hull)
    offset = np.array(origin[1:])
    return Diameters(
        slice_index=k + origin[0],
        long_mm=_length(long_axis),
        short_mm=_length(short_axis),
        long_axis=_as_segment(long_axis / pixel_mm + offset),
        short_axis=_as_segment(short_axis / pixel_mm + offset),
    )


def _hull_mm(part: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> FloatArray:
    """Return the vertices (y, x) in mm of the convex hull of a part's outline, in order around it."""
    pixels = np.argwhere(part & ~ndimage.binary_erosion(part))
    points = (pixels[:, None] + _MIDWAY).reshape(-1, 2) * pixel_mm
    return np.asarray(points[ConvexHull(points).vertices])


def _long_and_short(hull: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the farthest pair of vertices and the longest perpendicular chord, each 2 x (y, x) in mm."""
    distances = squareform(pdist(hull))
    first, last = np.unravel_index(int(distances.argmax()), distances.shape)
    long_axis = hull[[first, last]]
    along = (long_axis[1] - long_axis[0]) / distances[first, last]
    across = np.array([-along[1], along[0]])
    u, v = hull @ along, hull @ across
    # The farthest pair are also the outermost points along their own direction. So they divide the hull into
    # two sides.
    first_side = _side(u, v, int(first), int(last))
    second_side = _side(u, v, int(last), int(first))
    lengths = np.abs(np.interp(u, *first_side) - np.interp(u, *second_side))
    middle = (u[first] + u[last]) / 2
    # If chords have equal lengths, as in a square, then the most central chord counts.
    longest = np.flatnonzero(lengths > lengths.max() - 1e-9)
    at = u[longest[np.argmin(np.abs(u[longest] - middle))]]
    ends = [at * along + np.interp(at, *side) * across for side in (first_side, second_side)]
    return long_axis, np.array(ends)


def _side(u: FloatArray, v: FloatArray, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    """Return u and v of the hull's vertices from `start` to `stop`, by ascending u."""
    count = (stop - start) % len(u) + 1
    vertices = (start + np.arange(count)) % len(u)
    if u[start] > u[stop]:
        vertices = vertices[::-1]
    return u[vertices], v[vertices]


def _length(segment: FloatArray) -> float:
    return float(np.linalg.norm(segment[1] - segment[0]))


def _as_segment(ends: FloatArray) -> Segment:
    (y0, x0), (y1, x1) = ends.tolist()
    return (y0, x0), (y1, x1)


def _density(values: NDArray[Any], mask: NDArray[np.bool_]) -> Density:
    inside = values[mask].astype(np.float64)
    return Density(*(float(number) for number in (inside.mean(), inside.std(), inside.min(), inside.max())))


def _mean(values: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    return float(values[mask].mean(dtype=np.float64))
