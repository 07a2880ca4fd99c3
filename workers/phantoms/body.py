"""Body wall, diaphragm, lungs, heart, skeleton and table of a phantom."""

from __future__ import annotations

import numpy as np

from workers.phantoms.fields import Floats, Mask, solid
from workers.phantoms.scene import Scene
from workers.phantoms.tissues import Tissue

_ENDLESS = float("inf")


def _flat_norm(y: Floats, x: Floats, depth: float, width: float, power: float) -> Floats:
    return solid(np.zeros((1, 1, 1), np.float32), y, x, (0.0, 0.0, 0.0), (1.0, depth, width), power=power)


def draw_wall(scene: Scene) -> None:
    """Paint skin, subcutaneous fat, muscle and the fat-filled cavity; set `cavity` and `wall_norm`."""
    body, (y, x) = scene.habitus, scene.bent
    outline = _flat_norm(y, x, body.half_depth, body.half_width, body.power)
    fascia = _flat_norm(
        y - 0.15 * body.fat, x, body.half_depth - body.fat, body.half_width - 0.8 * body.fat, body.power
    )
    depth, width = body.inner_depth, body.inner_width
    scene.wall_norm = _flat_norm(y + 0.03 * depth, x, depth, width, body.power)
    scene.cavity = scene.wall_norm < 1
    scene.tissue[outline < 1] = Tissue.FAT
    scene.tissue[(outline < 1) & (fascia < 1)] = Tissue.MUSCLE
    scene.tissue[scene.cavity] = Tissue.FAT
    scene.tissue[(outline < 1) & (outline > 1 - 2.0 / body.half_width)] = Tissue.SKIN
    scene.spine_y = body.inner_depth * scene.rng.uniform(0.60, 0.72)
    scene.vertebra_radius = scene.rng.uniform(17, 24)


def draw_diaphragm(scene: Scene) -> None:
    """Set `ceiling`, the height of the diaphragm, and `chest`, the region above the diaphragm."""
    body, rng, (y, x) = scene.habitus, scene.rng, scene.bent
    inner = body.inner_width

    def dome(top: float, x0: float, y0: float) -> Floats:
        steepness = 0.0022 * rng.uniform(0.5, 1.6)
        return (top - steepness * ((x - x0) ** 2 + (y - y0) ** 2)).astype(np.float32)

    ceiling = np.maximum(dome(body.right_dome, -0.45 * inner, -5), dome(body.left_dome, 0.5 * inner, 0))
    # the lungs reach lowest at the back
    recess = np.clip((y - 0.25 * body.inner_depth) / (0.6 * body.inner_depth), 0, 1) * rng.uniform(15, 60)
    scene.ceiling = ceiling - recess + scene.field(60, 4)
    scene.chest = scene.cavity & (scene.grid.z > scene.ceiling)


def draw_chest(scene: Scene, heart_drop_mm: float) -> None:
    """Paint lungs, mediastinal fat and the heart above the diaphragm."""
    body, rng = scene.habitus, scene.rng
    _, x = scene.bent
    lung = scene.chest & (np.abs(x - rng.uniform(-5, 12)) > rng.uniform(20, 34))
    scene.tissue[scene.chest] = Tissue.FAT
    scene.tissue[lung] = Tissue.LUNG
    center = (
        body.left_dome + rng.uniform(14, 34) - heart_drop_mm,
        -body.inner_depth * rng.uniform(0.1, 0.4),
        rng.uniform(8, 32),
    )
    window, norm = scene.organ(center, (rng.uniform(30, 45), rng.uniform(32, 50), rng.uniform(40, 58)))
    scene.paint(window, (norm < 1) & scene.chest[window], Tissue.HEART)


def draw_back_muscles(scene: Scene) -> None:
    """Paint the erector spinae and the psoas."""
    (y, x), z = scene.bent, scene.grid.z
    spine, radius = scene.spine_y, scene.vertebra_radius
    side = np.abs(x)
    erector = solid(z, y, side, (0, spine + radius * 1.1, 30), (_ENDLESS, 20, 28)) < 1
    psoas = solid(z, y, side, (0, spine - 2, radius + 16), (_ENDLESS, 17, 15)) < 1
    scene.tissue[erector & (scene.tissue > 0)] = Tissue.MUSCLE
    scene.tissue[psoas & (z < scene.habitus.right_dome - 90) & (scene.tissue > 0)] = Tissue.MUSCLE


def draw_spine(scene: Scene) -> None:
    """Paint vertebrae, discs, the spinal canal and the arches."""
    (y, x), z = scene.bent, scene.grid.z
    spine, radius = scene.spine_y, scene.vertebra_radius
    body: Mask = scene.tissue > 0
    phase = (z / scene.rng.uniform(30, 38)) % 1.0
    column = solid(z, y, x, (0, spine, 0), (_ENDLESS, radius, radius * 1.15))
    vertebra = (column < 1) & body
    end_plate = ((phase > 0.83) & (phase <= 0.86)) | (phase < 0.03)
    scene.tissue[vertebra] = Tissue.MARROW
    scene.tissue[vertebra & ((column > 0.87) | end_plate)] = Tissue.CORTEX
    scene.tissue[vertebra & (phase > 0.86)] = Tissue.DISC
    canal = solid(z, y, x, (0, spine + radius + 8, 0), (_ENDLESS, 8, 9)) < 1
    arch = solid(z, y, x, (0, spine + radius + 9, 0), (_ENDLESS, 14, 17)) < 1
    process = (np.abs(x) < 3.5) & (y > spine + radius + 10) & (y < spine + radius + 36) & (phase < 0.6)
    transverse = (np.abs(y - spine - radius) < 4) & (np.abs(x) < radius + 22) & (phase > 0.2) & (phase < 0.5)
    scene.tissue[(arch | process | transverse) & body & (column >= 1)] = Tissue.CORTEX
    scene.tissue[canal & body & (column >= 1)] = Tissue.SOFT_TISSUE


def draw_ribs(scene: Scene) -> None:
    """Paint oblique ribs with marrow into the body wall around chest and upper abdomen."""
    body, rng, (y, x), z = scene.habitus, scene.rng, scene.bent, scene.grid.z
    inner = body.inner_width
    cosine = np.cos(np.arctan2(x, -y))
    phase = ((z - z.mean() + rng.uniform(35, 70) * cosine) / rng.uniform(24, 32)) % 1.0
    norm = scene.wall_norm
    shell = (norm > 1.0) & (norm < 1 + 9.0 / inner) & (scene.tissue > 0)
    cage = z > body.right_dome - rng.uniform(90, 150) - 45 * cosine
    sternal_gap = (y < -0.5 * body.inner_depth) & (np.abs(x) < 30)
    rib = shell & (phase < 0.38) & cage & ~sternal_gap
    marrow = rib & (norm > 1 + 2.2 / inner) & (norm < 1 + 6.5 / inner) & (phase > 0.07) & (phase < 0.31)
    scene.tissue[rib] = Tissue.CORTEX
    scene.tissue[marrow] = Tissue.MARROW


def draw_table(scene: Scene) -> None:
    """Paint the curved table top under the patient."""
    rng, grid = scene.rng, scene.grid
    top = scene.habitus.half_depth + rng.uniform(4, 10)
    sag = grid.x**2 * np.float32(rng.uniform(0.0, 0.0012))
    depth = grid.y + sag - np.float32(top)
    slab = (depth >= 0) & (depth < 4.5) & np.ones_like(grid.z, bool)
    scene.tissue[slab & (scene.tissue == Tissue.AIR)] = Tissue.TABLE
