"""Coordinates, smooth random fields and elementary solids on a voxel grid.

All points, radii and spacings are ``(z, y, x)`` millimetres in the canonical frame: z grows to superior,
y to posterior, x to patient left. x and y are 0 in the middle of the grid, z is 0 at its lower face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]
Window = tuple[slice, slice, slice]

# Standard deviation of a uniform cubic B-spline whose coefficients have unit variance. It was measured in
# three dimensions as the mean over a lattice cell. Fields are divided by it to get the wanted amplitude.
_SPLINE_STD = 0.33


@dataclass(frozen=True)
class Grid:
    """A voxel grid and the millimetre coordinates of its voxel centres."""

    shape: tuple[int, int, int]
    spacing_mm: Triple

    @cached_property
    def z(self) -> Floats:
        """Heights in mm above the grid's lower face, shape ``(Z, 1, 1)``."""
        return self._axis(0, 0.0)[:, None, None]

    @cached_property
    def y(self) -> Floats:
        """Positions in mm behind the grid's middle, shape ``(1, Y, 1)``."""
        return self._axis(1, 0.5)[None, :, None]

    @cached_property
    def x(self) -> Floats:
        """Positions in mm to the patient's left of the grid's middle, shape ``(1, 1, X)``."""
        return self._axis(2, 0.5)[None, None, :]

    @property
    def height_mm(self) -> float:
        """Extent of the grid along z in mm."""
        return self.shape[0] * self.spacing_mm[0]

    def _axis(self, axis: int, origin: float) -> Floats:
        n, step = self.shape[axis], self.spacing_mm[axis]
        return ((np.arange(n, dtype=np.float32) + 0.5 - origin * n) * step).astype(np.float32)

    def window(self, center: Triple, reach: Triple) -> Window:
        """Return the half-open slices of the voxels within `reach` of `center` on each axis; never empty."""
        slices = []
        for n, step, middle, half, origin in zip(
            self.shape, self.spacing_mm, center, reach, (0.0, 0.5, 0.5), strict=True
        ):
            at = middle / step + origin * n
            low = int(np.clip(np.floor(at - half / step), 0, n - 1))
            high = int(np.clip(np.ceil(at + half / step) + 1, low + 1, n))
            slices.append(slice(low, high))
        return slices[0], slices[1], slices[2]

    def point(self, index: NDArray[np.int64]) -> Triple:
        """Return the coordinates of a voxel index ``(k, j, i)``."""
        return (
            float(self.z[index[0], 0, 0]),
            float(self.y[0, index[1], 0]),
            float(self.x[0, 0, index[2]]),
        )


def smooth_field(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    steps: tuple[float, ...],
    length: float,
    amplitude: float,
) -> Floats:
    """Draw a smooth random field: cubic B-splines with random coefficients on a coarse lattice.

    Parameters
    ----------
    rng
        Source of randomness.
    shape, steps
        Number of samples of each axis, and the distance of neighbouring samples (any unit).
    length
        Correlation length in the unit of `steps`: the distance of the lattice's knots.
    amplitude
        Standard deviation of the field.
    """
    knots = [max(4, round(n * step / length) + 3) for n, step in zip(shape, steps, strict=True)]
    field: Floats = rng.standard_normal(knots).astype(np.float32)
    for n, k in zip(shape, knots, strict=True):
        # tensordot moves the contracted axis to the end, so the axes are in the original order after the loop
        field = np.tensordot(field, _spline_basis(n, k), (0, 1))
    return field * np.float32(amplitude / _SPLINE_STD ** (len(shape) / 3))


def _spline_basis(n: int, knots: int) -> Floats:
    """Return the ``(n, knots)`` matrix that evaluates a uniform cubic B-spline at n samples."""
    position = np.linspace(0, knots - 3 - 1e-4, n)
    cell = np.floor(position).astype(int)
    t = position - cell
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = np.zeros((n, knots), np.float32)
    rows = np.arange(n)
    for offset, weight in enumerate(weights):
        basis[rows, cell + offset] = weight / 6
    return basis


def solid(
    z: Floats, y: Floats, x: Floats, center: Triple, radii: Triple, turn: float = 0.0, power: float = 2.0
) -> Floats:
    """Return the norm of a superellipsoid: below 1 inside, 1 on the surface.

    Parameters
    ----------
    z, y, x
        Coordinates, mm, broadcastable to ``(Z, Y, X)``.
    center, radii
        mm, ``(z, y, x)``; an infinite radius makes a cylinder along that axis.
    turn
        Rotation about z, radians.
    power
        2 for an ellipsoid; larger values make the solid more like a box.
    """
    dz, dy, dx = z - np.float32(center[0]), y - np.float32(center[1]), x - np.float32(center[2])
    if turn:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    parts = [np.abs(d / np.float32(r)) for d, r in zip((dz, dy, dx), radii, strict=True)]
    if power == 2.0:
        return np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
    exponent = np.float32(power)
    total: Floats = parts[0] ** exponent + parts[1] ** exponent + parts[2] ** exponent
    return total ** np.float32(1 / power)
