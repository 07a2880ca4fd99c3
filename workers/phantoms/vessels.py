"""Draw aorta, vena cava, and the trees of vessels inside the liver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.fields import Mask
from workers.phantoms.organs import LiverPlan
from workers.phantoms.scene import Scene
from workers.phantoms.tissues import Tissue

Point = NDArray[np.float64]

_STEP_MM = 2.0


def draw_tube(
    scene: Scene, points: Sequence[Point], radii: Sequence[float], tissue: Tissue, within: Mask | None = None
) -> None:
    """Paint a vessel as balls along a polyline.

    Parameters
    ----------
    scene
        The scene.
    points
        Corners, (z, y, x) mm.
    radii
        Radii of balls in mm at evenly spaced points of the polyline. Between these points, the radii are
        interpolated.
    tissue
        The tissue to paint.
    within
        Mask on the grid. The tissue is painted only inside this mask; None paints everywhere.
    """
    path = _resample(np.asarray(points, np.float64))
    widths = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(radii)), radii)
    grid = scene.grid
    for center, radius in zip(path, widths, strict=True):
        z, y, x = (float(value) for value in center)
        window = grid.window((z, y, x), (radius, radius, radius))
        square = (grid.z[window[0]] - z) ** 2 + (grid.y[:, window[1]] - y) ** 2
        ball: Mask = square + (grid.x[:, :, window[2]] - x) ** 2 < radius * radius
        if within is not None:
            ball &= within[window]
        scene.paint(window, ball, tissue)


def _resample(corners: Point) -> Point:
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    stations = np.linspace(0, lengths[-1], max(2, int(lengths[-1] / _STEP_MM) + 1))
    return np.stack([np.interp(stations, lengths, corners[:, axis]) for axis in range(3)], axis=1)


def draw_great_vessels(scene: Scene) -> Point:
    """Paint aorta and vena cava. Return the point where the hepatic veins meet the cava, (z, y, x) mm."""
    rng, body = scene.rng, scene.habitus
    heights = np.linspace(-5, scene.grid.height_mm + 5, 7)
    before = scene.spine_y - scene.vertebra_radius
    depth, side = before - rng.uniform(8, 16), rng.uniform(2, 16)
    aorta = np.stack([heights, depth + rng.normal(0, 2.5, 7), side + rng.normal(0, 2.5, 7)], axis=1)
    draw_tube(scene, list(aorta), [rng.uniform(8, 14)] * 2, Tissue.AORTA)
    depth, side = before - rng.uniform(4, 18), rng.uniform(-32, -14)
    cava = np.stack([heights, depth + rng.normal(0, 3, 7), side + rng.normal(0, 2.5, 7)], axis=1)
    cava = cava[cava[:, 0] < body.right_dome + 30]
    draw_tube(scene, list(cava), [rng.uniform(8, 14)] * 2, Tissue.CAVA)
    return np.array([body.right_dome - 22, depth - 8, side])


def draw_liver_vessels(scene: Scene, plan: LiverPlan, confluence: Point) -> None:
    """Paint the portal vein with its tree and the hepatic veins."""
    rng = scene.rng
    liver: Mask = scene.tissue == Tissue.LIVER
    voxels = np.argwhere(liver)
    if len(voxels) == 0:
        return
    hilum = np.array(
        [
            plan.right[0] + rng.uniform(-25, 15),
            rng.uniform(-15, 15),
            plan.right[2] + plan.right_beside * rng.uniform(0.35, 0.7),
        ]
    )
    trunk = [hilum + np.array(offset) for offset in ((-50, 15, 45), (-18, 8, 20), (0, 0, 0))]
    draw_tube(scene, trunk, [6.5, 6.5], Tissue.PORTAL_TRUNK, scene.tissue == Tissue.FAT)

    def somewhere() -> Point:
        return np.array(scene.grid.point(voxels[rng.integers(len(voxels))]))

    portal = (hilum, Tissue.PORTAL_VEIN, rng.uniform(3.5, 6.5), int(rng.integers(4, 10)))
    hepatic = (confluence, Tissue.HEPATIC_VEIN, rng.uniform(3, 6.5), int(rng.integers(3, 8)))
    for root, tissue, radius, branches in (portal, hepatic):
        for _ in range(branches):
            tip = somewhere()
            fork = (root + tip) / 2 + rng.normal(0, 8, 3)
            draw_tube(scene, [root, fork, tip], [radius, radius * 0.6, 1.3], tissue, liver)
            for _ in range(int(rng.integers(0, 3))):
                end = fork + (somewhere() - fork) * rng.uniform(0.3, 0.6)
                bend = (fork + end) / 2 + rng.normal(0, 5, 3)
                draw_tube(scene, [fork, bend, end], [radius * 0.5, radius * 0.35, 1.2], tissue, liver)
