"""Build the anatomy of a phantom: tissue map and lesion maps from a seed.

This is the slow step (seconds at full size). Its result can be cached and used with many `Scan`s (densities,
noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workers.phantoms import body, organs, vessels
from workers.phantoms.fields import Grid, Mask, Triple
from workers.phantoms.lesion_shapes import DISTANCE_STEP_MM, LesionMaps, LesionPlan, draw_lesions
from workers.phantoms.scene import Habitus, Scene
from workers.phantoms.settings import PLAIN, TRAINING, Setting
from workers.phantoms.tissues import LIVER_TISSUES

#: Increase this number when a change of the code gives a seed another anatomy. Then old cached anatomies are
#: not used.
GENERATION = 2

#: Grid on which training geometries are built.
TRAINING_SPACING_MM: Triple = (3.0, 1.5, 1.5)


@dataclass(frozen=True)
class Geometry:
    """A phantom without densities.

    Attributes
    ----------
    tissue
        ``(Z, Y, X)`` uint8, canonical grid, values of `Tissue`.
    lesions
        The lesion of each voxel, and the voxel's depth below the lesion's surface.
    spacing_mm
        (z, y, x).
    """

    tissue: NDArray[np.uint8]
    lesions: LesionMaps
    spacing_mm: Triple

    @property
    def liver(self) -> Mask:
        """``(Z, Y, X)``: the whole liver, its vessels and lesions included."""
        return np.isin(self.tissue, LIVER_TISSUES)

    def lesion(self, number: int, margin_mm: float = 0.0) -> Mask:
        """``(Z, Y, X)``: lesion `number` inside the liver, shrunk by `margin_mm` (grown if negative)."""
        deep = self.lesions.distance > margin_mm / DISTANCE_STEP_MM
        mask: Mask = (self.lesions.number == number) & deep & self.liver
        return mask

    def labels(self, margins_mm: Sequence[float] | None = None) -> NDArray[np.uint8]:
        """``(Z, Y, X)`` uint8: 0 background, 1 liver without lesions, 1 + n lesion n.

        `margins_mm` has, for each lesion, the depth of the outline below the lesion's surface. A negative
        depth lies outside of the lesion.
        """
        labels = self.liver.astype(np.uint8)
        surface = np.zeros(self.lesions.count + 1)
        if margins_mm is not None:
            surface[1:] = np.asarray(margins_mm) / DISTANCE_STEP_MM
        deep = self.lesions.distance > surface[self.lesions.number]
        core = deep & (self.lesions.number > 0) & (labels > 0)
        labels[core] = 1 + self.lesions.number[core]
        return labels

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file without pickle. The file gets the name `path` only when it is complete."""
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                tissue=self.tissue,
                number=self.lesions.number,
                distance=self.lesions.distance,
                count=self.lesions.count,
                spacing_mm=self.spacing_mm,
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the geometry from a file that `save` has written."""
        with np.load(path, allow_pickle=False) as data:
            z, y, x = (float(value) for value in data["spacing_mm"])
            maps = LesionMaps(data["number"], data["distance"], int(data["count"]))
            return cls(data["tissue"], maps, (z, y, x))


def build_geometry(seed: int, grid: Grid, plan: LesionPlan, setting: Setting = PLAIN) -> Geometry:
    """Build the anatomy of a seed.

    Parameters
    ----------
    seed
        The same seed, grid and plan give the same phantom.
    grid
        At least 180 mm high and 300 mm wide, so that liver and body fit.
    plan
        Lesions to place.
    setting
        How much the anatomy varies.
    """
    rng = np.random.default_rng([seed, 1])
    narrow, wide = setting.half_width_mm
    widest = min(wide, grid.shape[2] * grid.spacing_mm[2] / 2 - 8)
    scene = Scene(grid, Habitus.draw(rng, grid.height_mm, min(narrow, widest), widest), rng)
    body.draw_wall(scene)
    body.draw_diaphragm(scene)
    organs.draw_bowel(scene)
    body.draw_back_muscles(scene)
    organs.draw_stomach(scene)
    organs.draw_pancreas(scene)
    organs.draw_spleen(scene)
    kidney = organs.draw_kidneys(scene)
    liver = organs.LiverPlan.draw(scene)
    if setting.varied:
        liver = liver.varied(scene, setting)
    organs.draw_liver(scene, organs.liver_mask(scene, liver))
    if rng.random() < 0.8:
        organs.draw_gallbladder(scene, liver)
    if rng.random() < 0.9:
        organs.press_kidney_into_liver(scene, kidney)
    if rng.random() < 0.6:
        organs.draw_fissure(scene, liver)
    body.draw_chest(scene, rng.uniform(*setting.heart_drop_mm) if setting.varied else 0.0)
    body.draw_spine(scene)
    body.draw_ribs(scene)
    confluence = vessels.draw_great_vessels(scene)
    organs.keep_largest_liver_part(scene)
    vessels.draw_liver_vessels(scene, liver, confluence)
    lesions = draw_lesions(scene, plan)
    if rng.random() < 0.7:
        body.draw_table(scene)
    return Geometry(scene.tissue, lesions, grid.spacing_mm)


def training_geometry(seed: int) -> Geometry:
    """Build a random geometry for training. Height, body and lesions vary."""
    rng = np.random.default_rng([seed, 0])
    depth, width = 220, 272
    height = int(rng.uniform(210, 350) / TRAINING_SPACING_MM[0])
    plan = LesionPlan.draw(rng, TRAINING)
    return build_geometry(seed, Grid((height, depth, width), TRAINING_SPACING_MM), plan, TRAINING)
