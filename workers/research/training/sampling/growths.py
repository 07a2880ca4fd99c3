"""Add random lesions to a sample on the sample's own grid: their shapes, places and densities.

The densities come from `workers.phantoms.looks`, as for phantoms. Some large lesions contain mosaics of
densities or necroses. Some large lesions lie at the liver's surface or bulge out of the liver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.lesion_net import SPACING_MM
from workers.phantoms.appearance import Scan
from workers.phantoms.fields import Floats, Mask, Window, smooth_field
from workers.phantoms.looks import draw_look
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import Tissue

_NONE = 0.12
_MORE = 3.0
# Part of the livers whose lesions have different kinds and clear contrasts. In other livers, the lesions are
# similar to each other.
_VARIED = 0.75
_MOST = 12
_RADII_MM = (4.0, 46.0)
_LARGE_MM = 12.0
_TRIALS = 6
_LEAST_INSIDE = 0.35
_LEAST_VOXELS = 2
# At 3 mm, partial volume softens every edge by at least this much.
_LEAST_SOFTNESS_MM = 1.2
# Part of the large lesions whose rim is calcified.
_CALCIFIED = 0.12
# Tissues that a lesion displaces if it bulges out of the liver.
YIELDING = (Tissue.FAT, Tissue.LUNG, Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.COLON_CONTENT)


@dataclass(frozen=True)
class Growth:
    """A lesion in a sample: the window of the grid around it, and its voxels in the window."""

    window: Window
    inside: Mask


@dataclass(frozen=True)
class _Site:
    """Values that the lesions of one sample share."""

    liver: Mask
    surface: NDArray[np.intp]
    voxels: NDArray[np.intp]
    yielding: Mask
    rough: Floats
    coarse: Floats
    fine: Floats


def grow_lesions(
    hu: Floats,
    share: Floats,
    liver: Mask,
    tissue: NDArray[np.uint8],
    scan: Scan,
    rng: np.random.Generator,
) -> list[Growth]:
    """Add lesions to `hu` in place and return them.

    Parameters
    ----------
    hu
        ``(Z, Y, X)`` noiseless densities at `SPACING_MM`.
    share
        ``(Z, Y, X)`` the part of each voxel that is liver, changed in place: voxels that a lesion covers
        become liver.
    liver
        ``(Z, Y, X)`` the possible places of lesions: the liver as experts draw it, which includes thin fat.
    tissue
        ``(Z, Y, X)`` values of `Tissue`.
    scan
        The examination, which has the densities of tissues.
    """
    count = 0 if rng.random() < _NONE else int(min(_MOST, 1 + rng.poisson(_MORE)))
    if count == 0 or not liver.any():
        return []
    rough, coarse, fine = (_field(rng, liver.shape, length) for length in (16.0, 18.0, 7.5))
    surface = np.argwhere(liver & ~ndi.binary_erosion(liver, iterations=2))
    yielding = np.isin(tissue, YIELDING)
    site = _Site(liver, surface, np.argwhere(liver), yielding, rough, coarse, fine)
    start, varied = int(rng.integers(16)), bool(rng.random() < _VARIED)
    taken = np.zeros(liver.shape, bool)
    growths = []
    for number in range(count):
        radius = float(np.exp(rng.uniform(*np.log(_RADII_MM))))
        placed = _placed(site, taken, radius, rng)
        if placed is None:
            continue
        window, depth, allowed = placed
        look = draw_look(rng, float(scan.hu[Tissue.LIVER]), start, number, varied, TRAINING)
        look = replace(look, softness=max(look.softness, _LEAST_SOFTNESS_MM))
        added = look.contrast(depth.ravel(), site.coarse[window].ravel(), site.fine[window].ravel())
        added = added.reshape(depth.shape) + _inner_life(site, window, depth, look.core, radius, rng)
        # Readers draw a lesion with some of its surroundings.
        inside = (depth > rng.uniform(*TRAINING.margin_mm)) & allowed
        beyond = inside & (share[window] < 0.5)
        hu[window][beyond] = scan.hu[Tissue.LIVER]
        share[window][beyond] = 1.0
        hu[window] += added * share[window]
        taken[window] |= inside
        growths.append(Growth(window, inside))
    return growths


def _placed(
    site: _Site, taken: Mask, radius: float, rng: np.random.Generator
) -> tuple[Window, Floats, Mask] | None:
    """Find space. Return the window, the depth in mm below the lesion's surface, and the permitted voxels."""
    large = radius > _LARGE_MM
    for _ in range(_TRIALS):
        places = site.surface if large and rng.random() < 0.6 else site.voxels
        center = places[rng.integers(len(places))]
        window, depth = _shape(site, center, radius, rng)
        whole = depth > 0
        allowed = site.liver[window]
        if large and rng.random() < 0.15:
            allowed = allowed | site.yielding[window]
        inside = whole & allowed
        if inside.sum() < max(_LEAST_VOXELS, _LEAST_INSIDE * whole.sum()) or taken[window][inside].any():
            continue
        return window, depth, allowed
    return None


def _shape(
    site: _Site, center: NDArray[np.intp], radius: float, rng: np.random.Generator
) -> tuple[Window, Floats]:
    """Return a window, and the depth in mm below the surface of a rough, sometimes lobulated ellipsoid."""
    reach = int(np.ceil(1.5 * radius / SPACING_MM)) + 2
    window: Window = tuple(  # type: ignore[assignment]
        slice(max(0, int(at) - reach), min(n, int(at) + reach + 1))
        for at, n in zip(center, site.liver.shape, strict=True)
    )
    offset = rng.uniform(-0.5, 0.5, 3)
    grids = [np.arange(part.start, part.stop) for part in window]
    mesh = np.meshgrid(*grids, indexing="ij")
    at = [
        (grid - middle + shift) * SPACING_MM for grid, middle, shift in zip(mesh, center, offset, strict=True)
    ]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    axes = radius * rng.uniform(0.75, 1.25, 3)
    depth: Floats = 1 - ellipsoid_norm(at, turn, axes)
    if rng.random() < 0.25:
        lobe = rng.normal(size=3)
        lobe *= 0.6 * radius / np.linalg.norm(lobe)
        size = rng.uniform(0.45, 0.8)
        beside = [values - step for values, step in zip(at, lobe, strict=True)]
        depth = np.maximum(depth, np.float32(size) * (1 - ellipsoid_norm(beside, turn, size * axes)))
    return window, np.float32(radius) * (depth + site.rough[window] * np.float32(rng.uniform(0.02, 0.12)))


def ellipsoid_norm(
    at: Sequence[NDArray[np.float64]], turn: NDArray[np.float64], axes: NDArray[np.float64]
) -> Floats:
    """Return the norm of points (z, y, x): below 1 inside a turned ellipsoid, 1 on the surface."""
    turned = [sum(turn[row, column] * at[column] for column in range(3)) / axes[row] for row in range(3)]
    norm: Floats = np.sqrt(sum(part**2 for part in turned)).astype(np.float32)
    return norm


def _inner_life(
    site: _Site, window: Window, depth: Floats, core: float, radius: float, rng: np.random.Generator
) -> Floats:
    """Return the HU to add for a large lesion's inner structure: mosaic, necrosis, calcified rim."""
    added = np.zeros(depth.shape, np.float32)
    if radius < _LARGE_MM:
        return added
    inside = np.clip(depth / 3.0, 0.0, 1.0)
    if rng.random() < 0.5:
        field = site.coarse if rng.random() < 0.5 else site.fine
        added += inside * field[window] * np.float32(rng.uniform(0.2, 0.8) * abs(core))
    if rng.random() < 0.3:
        edge = rng.uniform(0.3, 0.7) * radius
        hidden = 1.0 / (1.0 + np.exp(-np.clip((depth + 4 * site.rough[window] - edge) / 1.5, -20.0, 20.0)))
        added -= (hidden * rng.uniform(10, 45)).astype(np.float32)
    if rng.random() < _CALCIFIED:
        thickness = rng.uniform(1.5, 4.0)
        rim = np.clip(1.5 - np.abs(depth - 0.5 * thickness) / np.float32(thickness), 0.0, 1.0)
        rim *= site.coarse[window] > rng.uniform(-1.5, 0.8)
        added += rim * np.float32(rng.uniform(80, 450))
    return added


def _field(rng: np.random.Generator, shape: tuple[int, ...], length: float) -> Floats:
    return smooth_field(rng, shape, (SPACING_MM,) * 3, length, 1.0)
