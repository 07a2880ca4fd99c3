"""The working state of phantom construction: grid, tissue map, warped coordinates, body measures.

The builders in `body`, `organs`, `vessels` and `lesion_shapes` each paint their structures into one `Scene`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.fields import Floats, Grid, Mask, Triple, Window, smooth_field, solid
from workers.phantoms.tissues import Tissue


@dataclass(frozen=True)
class Habitus:
    """Measures of a patient in mm. `power` has no unit."""

    half_width: float
    half_depth: float
    fat: float
    wall: float
    power: float
    right_dome: float
    left_dome: float

    @classmethod
    def draw(cls, rng: np.random.Generator, grid_height: float, narrow: float, wide: float) -> Self:
        """Draw a patient whose diaphragm lies in the upper part of a grid with the height `grid_height`.

        `narrow` and `wide` limit the body's half width. All parameters are in mm.
        """
        half_width = rng.uniform(narrow, wide)
        # the dome leaves at least 15 mm of lung above it and 130 mm of abdomen below
        right_dome = float(np.clip(grid_height * rng.uniform(0.70, 0.95), 130, grid_height - 15))
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.58, 0.80),
            fat=rng.uniform(4, 34) if rng.random() < 0.8 else rng.uniform(4, 10),
            wall=rng.uniform(9, 20),
            power=rng.uniform(2.1, 2.7),
            right_dome=right_dome,
            left_dome=right_dome - rng.uniform(0, 18),
        )

    @property
    def inner_width(self) -> float:
        """Half width of the abdominal cavity in mm."""
        return self.half_width - 0.8 * self.fat - self.wall

    @property
    def inner_depth(self) -> float:
        """Half depth of the abdominal cavity in mm."""
        return self.half_depth - self.fat - self.wall


class Scene:
    """A phantom under construction.

    Attributes
    ----------
    tissue
        ``(Z, Y, X)`` uint8, values of `Tissue`.
    warped
        Coordinates (z, y, x) after a smooth random deformation, for drawing organs.
    bent
        Coordinates (y, x) after a very smooth deformation, for drawing the body wall.
    bump
        Unit-variance field that roughens surfaces.
    cavity, chest
        `cavity` is the mask of the abdominal and thoracic cavity. `chest` is the part above the diaphragm.
        The module `body` sets them.
    """

    cavity: Mask
    chest: Mask
    wall_norm: Floats
    ceiling: Floats
    spine_y: float
    vertebra_radius: float

    def __init__(self, grid: Grid, habitus: Habitus, rng: np.random.Generator) -> None:
        self.grid = grid
        self.habitus = habitus
        self.rng = rng
        self.tissue: NDArray[np.uint8] = np.zeros(grid.shape, np.uint8)
        amplitude = rng.uniform(4, 12)
        self.warped: tuple[Floats, Floats, Floats] = (
            grid.z + self.field(70, amplitude * 0.9),
            grid.y + self.field(70, amplitude * 0.9) + self.field(25, amplitude * 0.18),
            grid.x + self.field(70, amplitude) + self.field(25, amplitude * 0.18),
        )
        self.bent: tuple[Floats, Floats] = (grid.y + self.field(120, 6), grid.x + self.field(120, 6))
        self.bump = self.field(22, 1.0)

    def field(self, length_mm: float, amplitude: float) -> Floats:
        """Draw a smooth random field over the whole grid."""
        return smooth_field(self.rng, self.grid.shape, self.grid.spacing_mm, length_mm, amplitude)

    def organ(
        self,
        center: Triple,
        radii: Triple,
        *,
        turn: float = 0.0,
        power: float = 2.0,
        roughness: float = 0.02,
    ) -> tuple[Window, Floats]:
        """Return a window, and the norm of a roughened superellipsoid in this window (below 1 inside)."""
        flat = max(radii[1], radii[2])
        # the deformation moves a surface by up to about 30 mm (three standard deviations)
        window = self.grid.window(center, (radii[0] * 1.1 + 25, flat * 1.1 + 30, flat * 1.1 + 30))
        norm = solid(*self.coordinates(window), center, radii, turn, power)
        return window, norm + self.bump[window] * np.float32(roughness)

    def coordinates(self, window: Window) -> tuple[Floats, Floats, Floats]:
        """Return the deformed coordinates (z, y, x) in a window."""
        z, y, x = self.warped
        return z[window], y[window], x[window]

    def paint(self, window: Window, mask: Mask, tissue: Tissue) -> None:
        """Set the tissue where `mask` (with the window's shape) is true."""
        self.tissue[window][mask] = tissue

    def abdomen(self, window: Window) -> Mask:
        """Return the part of a window that lies inside the cavity and below the diaphragm."""
        inside: Mask = self.cavity[window] & ~self.chest[window]
        return inside
