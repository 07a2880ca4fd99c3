"""Shapes of liver lesions: the signed distance of each voxel from the surface of a lesion.

The tissue map does not contain lesions. `appearance` and `looks` define the densities of lesions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.fields import Floats, Mask, Triple, Window, solid
from workers.phantoms.scene import Scene
from workers.phantoms.settings import Setting
from workers.phantoms.tissues import LIVER_TISSUES, LIVER_VESSELS, Tissue

#: Distances are stored as int8 in this unit.
DISTANCE_STEP_MM = 0.125
_REACH_MM = 15.75
_TRIALS = 40
_LARGE_MM = 22.0


@dataclass(frozen=True)
class LesionPlan:
    """The number of lesions, and the range of their radii in mm.

    With `large`, the first lesion has a radius of 22 mm to `max_radius`. This lesion lies at the liver's
    capsule or under the dome, and bulges out of the liver.
    """

    count: int
    min_radius: float = 3.5
    max_radius: float = 45.0
    median_radius: float = 10.5
    spread: float = 0.60
    min_inside: float = 0.35
    large: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, setting: Setting, count: int | None = None) -> LesionPlan:
        """Draw a plan for the lesions of a patient. If `count` is given, then it is the number of lesions."""
        if count is None:
            count = 0 if rng.random() < setting.few_lesions else int(min(8, 1 + rng.poisson(2.5)))
        smallest, largest = setting.radius_mm
        return cls(count, smallest, largest, large=bool(rng.random() < setting.large))

    def radius(self, rng: np.random.Generator) -> float:
        """Draw a radius in mm from a log-normal distribution. The radius is clipped to the plan's range."""
        drawn = self.median_radius * np.exp(rng.normal(0, self.spread))
        return float(np.clip(drawn, self.min_radius, self.max_radius))


@dataclass(frozen=True)
class LesionMaps:
    """Lesions of a phantom.

    Attributes
    ----------
    number
        ``(Z, Y, X)`` uint8: number of the lesion in which or near which the voxel lies, 0 for no lesion.
    distance
        ``(Z, Y, X)`` int8: distance to that lesion's surface in steps of 1/8 mm, positive inside.
    count
        Number of lesions.
    """

    number: NDArray[np.uint8]
    distance: NDArray[np.int8]
    count: int


def draw_lesions(scene: Scene, plan: LesionPlan) -> LesionMaps:
    """Place lesions in the liver. In the tissue map, vessels inside lesions become liver.

    A lesion without enough space is left out.
    """
    number = np.zeros(scene.grid.shape, np.uint8)
    distance = np.full(scene.grid.shape, -127, np.int8)
    liver: Mask = np.isin(scene.tissue, LIVER_TISSUES)
    voxels = np.argwhere(liver)
    texture = scene.field(14, 1.0)
    placed = 0
    for index in range(plan.count if len(voxels) else 0):
        large = plan.large and index == 0
        found = _place(scene, plan, voxels, liver, number, texture, large=large)
        if found is None:
            continue
        placed += 1
        window, depth = found
        if large:
            _bulge(scene, liver, window, depth)
        steps = np.clip(depth, -_REACH_MM, _REACH_MM) / DISTANCE_STEP_MM
        nearer = liver[window] & (depth > -_REACH_MM) & (steps > distance[window])
        distance[window][nearer] = steps[nearer].astype(np.int8)
        number[window][nearer] = placed
        drowned = (depth > 1) & np.isin(scene.tissue[window], LIVER_VESSELS)
        scene.paint(window, drowned, Tissue.LIVER)
    return LesionMaps(number, distance, placed)


def _place(
    scene: Scene,
    plan: LesionPlan,
    voxels: NDArray[np.int64],
    liver: Mask,
    number: NDArray[np.uint8],
    texture: Floats,
    *,
    large: bool,
) -> tuple[Window, Floats] | None:
    """Find space for a lesion. Return a window, and each voxel's depth in mm below the lesion's surface."""
    rng = scene.rng
    for _ in range(_TRIALS):
        if large:
            center, radius = _superficial(scene, voxels), rng.uniform(_LARGE_MM, plan.max_radius)
        else:
            center, radius = scene.grid.point(voxels[rng.integers(len(voxels))]), plan.radius(rng)
        window, depth = _shape(scene, center, radius, texture)
        whole = depth > 0
        inside = whole & liver[window]
        if inside.sum() < max(8, plan.min_inside * whole.sum()):
            continue
        if (number[window][depth > -3] > 0).any():
            continue
        return window, depth
    return None


def _superficial(scene: Scene, voxels: NDArray[np.int64]) -> Triple:
    """Draw a few places in the liver. Return the place nearest to the body wall, or the highest place."""
    few = voxels[scene.rng.integers(len(voxels), size=5)]
    highest = scene.rng.random() < 0.4
    rank = few[:, 0] if highest else scene.wall_norm[few[:, 0], few[:, 1], few[:, 2]]
    return scene.grid.point(few[int(np.argmax(rank))])


def _bulge(scene: Scene, liver: Mask, window: Window, depth: Floats) -> None:
    """Turn fat into liver, in place, where a tumour bulges out of the liver."""
    out = (depth > 0) & (scene.tissue[window] == Tissue.FAT) & scene.abdomen(window)
    scene.paint(window, out, Tissue.LIVER)
    liver[window] |= out


def _shape(scene: Scene, center: Triple, radius: float, texture: Floats) -> tuple[Window, Floats]:
    """Return a window, and the depth in mm below the surface of a rough, sometimes lobulated ellipsoid."""
    rng, grid = scene.rng, scene.grid
    radii = (
        radius * rng.uniform(0.8, 1.2),
        radius * rng.uniform(0.8, 1.25),
        radius * rng.uniform(0.8, 1.25),
    )
    reach = max(radii) * 1.4 + 5
    window = grid.window(center, (reach, reach, reach))
    z, y, x = grid.z[window[0]], grid.y[:, window[1]], grid.x[:, :, window[2]]
    depth = 1 - solid(z, y, x, center, radii, rng.uniform(-0.8, 0.8))
    if rng.random() < 0.2:
        lobe = rng.normal(0, 1, 3)
        lobe *= radius * 0.6 / np.linalg.norm(lobe)
        beside = (center[0] + lobe[0], center[1] + lobe[1], center[2] + lobe[2])
        size = radius * rng.uniform(0.45, 0.75)
        depth = np.maximum(depth, (1 - solid(z, y, x, beside, (size, size, size))) * (size / radius))
    depth = depth * radius
    depth = depth + scene.bump[window] * radius * rng.uniform(0.02, 0.13)
    depth = depth + texture[window] * min(radius * 0.08, 2.0)
    return window, depth.astype(np.float32)
