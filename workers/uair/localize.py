"""Locate the liver: turn a coarse probability map into a box and a coarse mask (docs/engine.md).

A `Localizer` returns a `Location`. It may use a trained network or templates. All localizers use this module
to convert to and from the coarse isotropic grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.grids import (
    Box,
    Coordinates,
    Float32,
    Mask,
    Spacing,
    bounding_box,
    resampled,
    sampling_matrix,
)

SEARCH_MM = (45.0, 6.0)
"""The liver's ends are searched this many mm below and above the extended box."""
UNCOVERED = 0.1
"""The fraction of a coarse voxel by which a coarse grid may be shorter than the volume."""
BODY_HU = -300.0
MIN_LIVER_ML = 150.0
"""A smaller region, in ml, is a mistake. The smallest adult liver remnants are larger."""
EXTENSION_MM = (6.0, 7.5, 7.5)
"""Extension of the box (z, y, x) in mm.

The paper extends by [2, 10, 10] voxels of 3 mm. A quarter of the paper's extension is enough in-plane,
because the coarse mask guides the prompts, too.
"""


@dataclass(frozen=True)
class CoarseMap:
    """Probabilities ``(z, y, x)`` on an isotropic grid over a volume, or over a box of a volume.

    `origin` is the start of the grid's first voxel in the volume's edge coordinates (z, y, x).
    """

    probability: Float32
    spacing_mm: float
    volume_spacing: Spacing
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def at(self, z: Coordinates, y: Coordinates, x: Coordinates) -> Float32:
        """Interpolate linearly at the outer product of volume edge coordinates. The value outside is 0.

        The outer half of a voxel at the grid's border has the voxel's value, because an organ may continue
        beyond the scan.
        """
        places = zip((z, y, x), self.origin, self.volume_spacing, strict=True)
        grids = [(values - start) * step / self.spacing_mm - 0.5 for values, start, step in places]
        mesh = np.meshgrid(*grids, indexing="ij")
        sampled = ndimage.map_coordinates(self.probability, mesh, order=1, mode="nearest")
        for grid, count in zip(mesh, self.probability.shape, strict=True):
            sampled[np.abs(grid - (count - 1) / 2) > count / 2 + UNCOVERED] = 0.0
        return np.asarray(sampled, np.float32)


@dataclass(frozen=True)
class Location:
    """A located liver: its extended box in edge coordinates, and its coarse probability over the volume."""

    box: Box
    coarse: CoarseMap

    def search_box(self, spacing: Spacing, shape: tuple[int, ...]) -> Box:
        """Return the box in which the liver's ends are searched (`SEARCH_MM` below and above)."""
        below, above = (mm / spacing[0] for mm in SEARCH_MM)
        (z0, y0, x0), (z1, y1, x1) = self.box.start, self.box.stop
        return Box((max(0.0, z0 - below), y0, x0), (min(float(shape[0]), z1 + above), y1, x1))


class Localizer(Protocol):
    """Finds the liver in a CT."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result (weights, templates)."""
        ...

    def locate(self, hu: NDArray[np.generic], spacing: Spacing) -> Location | None:
        """Return the location of the liver; None if no liver is found.

        `hu` is ``(Z, Y, X)`` on the canonical grid (superior, posterior, left).
        """
        ...


def to_isotropic(hu: NDArray[np.generic], spacing: Spacing, target_mm: float) -> Float32:
    """Average a volume onto isotropic voxels of `target_mm`; the last voxel may reach beyond the end.

    Beyond the end, the last slice, row or column is repeated. So every voxel of the volume is used.
    """
    extents = (n * s / target_mm for n, s in zip(hu.shape, spacing, strict=True))
    counts = [max(1, int(np.ceil(extent - UNCOVERED))) for extent in extents]
    matrices = [
        sampling_matrix(n, np.arange(count + 1, dtype=np.float64) * target_mm / s)
        for n, s, count in zip(hu.shape, spacing, counts, strict=True)
    ]
    planes = np.empty((hu.shape[0], counts[1], counts[2]), np.float32)
    for z in range(hu.shape[0]):
        clipped = np.clip(hu[z], -1024, 1500).astype(np.float32)
        planes[z] = resampled(matrices[1], clipped, matrices[2])
    flat = matrices[0] @ planes.reshape(len(planes), -1)
    return np.asarray(flat, np.float32).reshape(counts[0], counts[1], counts[2])


def body_region(hu: Float32) -> tuple[slice, slice, slice]:
    """Return the region of the largest body in coarse HU: all slices, and two voxels around it in-plane."""
    body = ndimage.binary_opening(hu > BODY_HU, iterations=2)
    largest = largest_component(body)
    box = bounding_box(largest)
    if box is None:
        return slice(0, hu.shape[0]), slice(0, hu.shape[1]), slice(0, hu.shape[2])
    y, x = (slice(max(0, int(box.start[a]) - 2), min(hu.shape[a], int(box.stop[a]) + 2)) for a in (1, 2))
    return slice(0, hu.shape[0]), y, x


def largest_component(mask: Mask) -> Mask:
    """Return the largest face-connected component of a mask. An empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def location_of(
    probability: Float32, spacing_mm: float, volume_spacing: Spacing, volume_shape: tuple[int, ...]
) -> Location | None:
    """Return the location of the liver from coarse probabilities ``(z, y, x)`` of the whole volume.

    The largest component above one half is the liver, and its box is the location's box. The result is None
    if the component is smaller than `MIN_LIVER_ML`.
    """
    mask = _liver_in(probability, spacing_mm)
    box = bounding_box(mask)
    if box is None:
        return None
    return _location(probability, mask, box, spacing_mm, volume_spacing, volume_shape, EXTENSION_MM)


def location_in(
    probability: Float32,
    box: Box,
    spacing_mm: float,
    volume_spacing: Spacing,
    volume_shape: tuple[int, ...],
    extension_mm: tuple[float, float, float],
) -> Location | None:
    """Return the location from coarse probabilities and a box on their grid; None as in `location_of`."""
    mask = _liver_in(probability, spacing_mm)
    if not mask.any():
        return None
    return _location(probability, mask, box, spacing_mm, volume_spacing, volume_shape, extension_mm)


def _liver_in(probability: Float32, spacing_mm: float) -> Mask:
    """Return the largest component above one half, empty if it holds less than `MIN_LIVER_ML`."""
    mask = largest_component(probability > 0.5)
    enough = mask.sum() * spacing_mm**3 / 1000.0 >= MIN_LIVER_ML
    return mask if enough else np.zeros_like(mask)


def _location(
    probability: Float32,
    mask: Mask,
    box: Box,
    spacing_mm: float,
    volume_spacing: Spacing,
    volume_shape: tuple[int, ...],
    extension_mm: tuple[float, float, float],
) -> Location:
    z0, y0, x0 = (a * spacing_mm / s for a, s in zip(box.start, volume_spacing, strict=True))
    z1, y1, x1 = (b * spacing_mm / s for b, s in zip(box.stop, volume_spacing, strict=True))
    tight = Box((z0, y0, x0), (z1, y1, x1))
    # Probability outside the component belongs to other organs. The component's own soft edge is kept.
    near = ndimage.binary_dilation(mask, iterations=2)
    coarse = CoarseMap(np.where(near, probability, 0.0).astype(np.float32), spacing_mm, volume_spacing)
    return Location(tight.extended(extension_mm, volume_spacing, volume_shape), coarse)
