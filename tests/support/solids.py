"""Solids whose volume, surface and diameters have a closed form. They can be sampled on any grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Solid:
    """A solid around the origin; points are (z, y, x) in mm. `axial_mm` is None if it has no closed form."""

    name: str
    inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    volume_mm3: float
    surface_mm2: float
    largest_mm: float
    reach_mm: float
    axial_mm: float | None = None

    @property
    def sphericity(self) -> float:
        return float((36 * np.pi * self.volume_mm3**2) ** (1 / 3) / self.surface_mm2)

    def sampled(self, spacing: Triple, offset: Triple = (0.2, 0.3, -0.4)) -> NDArray[np.bool_]:
        """Return the mask of voxels whose centre lies inside; `offset` (voxels) shifts grid against solid."""
        axes = []
        for step, shift in zip(spacing, offset, strict=True):
            half = int(np.ceil(self.reach_mm / step)) + 2
            axes.append((np.arange(-half, half + 1) + shift) * step)
        return self.inside(np.stack(np.meshgrid(*axes, indexing="ij"), -1))


def turn(seed: int) -> NDArray[np.float64]:
    """A random rotation matrix ``(3, 3)`` from a seed."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def ball(radius: float) -> Solid:
    volume, surface = 4 / 3 * np.pi * radius**3, 4 * np.pi * radius**2
    inside = lambda p: (p**2).sum(-1) <= radius**2  # noqa: E731
    return Solid("ball", inside, volume, surface, 2 * radius, radius, 2 * radius)


def ellipsoid(radii: Triple, rotation: NDArray[np.float64]) -> Solid:
    """An ellipsoid with half axes `radii` (descending) along the rotation's columns."""
    a, b, c = radii
    form = rotation @ np.diag(1 / np.square(radii)) @ rotation.T
    inside = lambda p: np.einsum("...i,ij,...j->...", p, form, p) <= 1  # noqa: E731
    # The slice through the middle is an ellipse; all others are similar and smaller.
    axial = 2 / np.sqrt(np.linalg.eigvalsh(form[1:, 1:])[0])
    surface = _ellipsoid_surface(a, b, c)
    return Solid("ellipsoid", inside, 4 / 3 * np.pi * a * b * c, surface, 2 * a, a, float(axial))


def cylinder(radius: float, height: float, rotation: NDArray[np.float64]) -> Solid:
    axis = rotation[:, 0]

    def inside(p: NDArray[np.float64]) -> NDArray[np.bool_]:
        along = p @ axis
        return (np.abs(along) <= height / 2) & ((p**2).sum(-1) - along**2 <= radius**2)

    volume = np.pi * radius**2 * height
    surface = 2 * np.pi * radius * (radius + height)
    diagonal = float(np.hypot(2 * radius, height))
    upright = abs(axis[0]) > 1 - 1e-9
    axial = 2 * radius if upright else None
    return Solid("cylinder", inside, volume, surface, diagonal, diagonal / 2, axial)


def touching_balls(radius: float, rotation: NDArray[np.float64]) -> Solid:
    """Two balls that touch at the origin."""
    middle = rotation[:, 0] * radius

    def inside(p: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (((p - middle) ** 2).sum(-1) <= radius**2) | (((p + middle) ** 2).sum(-1) <= radius**2)

    flat = abs(rotation[0, 0]) < 1e-9
    volume, surface = 8 / 3 * np.pi * radius**3, 8 * np.pi * radius**2
    axial = 4 * radius if flat else None
    return Solid("two touching balls", inside, volume, surface, 4 * radius, 2 * radius, axial)


def _ellipsoid_surface(a: float, b: float, c: float) -> float:
    """The surface of an ellipsoid by the midpoint rule over the sphere's angles, exact to six digits."""
    u = (np.arange(800) + 0.5) * np.pi / 800
    v = (np.arange(1600) + 0.5) * np.pi / 800
    u, v = u[:, None], v[None, :]
    across = (b * c * np.sin(u) * np.cos(v)) ** 2 + (a * c * np.sin(u) * np.sin(v)) ** 2
    density = np.sin(u) * np.sqrt(across + (a * b * np.cos(u)) ** 2)
    return float(density.sum() * (np.pi / 800) ** 2)
