"""Draw one training sample of the lesion outliner from a `Subject` and a random generator.

The anatomy comes from a training geometry, without the lesions of the geometry. Every sample gets its own
random lesion on the cells of its own crop. So the lesion's surface is as fine as the cells. The prompt is a
loose box, or an earlier mask with its box. In the real method, an earlier mask comes from the lesion finder
or from a reader's pick.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.appearance import Scan, correlated_noise, streaks
from workers.phantoms.fields import Floats, Mask, Triple
from workers.phantoms.looks import LesionLook, draw_look
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import LIVER_TISSUES, LIVER_VESSELS, Tissue
from workers.research.training.geometries import Subject
from workers.research.training.sampling.growths import YIELDING, ellipsoid_norm
from workers.research.training.sampling.lesion_samples import clipped_now_and_then
from workers.research.training.sampling.outline_prompts import LEAST_CELLS, SHAPE, Cells, OutlineSample, asked

_FINER = 2  # source samples per cell, along y and x
_RADII_MM = (2.5, 48.0)
_STEPS_MM = (1.25, 1.4, 1.6, 2.0, 2.0, 2.5, 3.0, 3.0, 5.0)
_LEAST_SIDE_MM = 50.0
_BOX_PART = (1.8, 2.5)  # side of the crop divided by the lesion's diameter
_TRIALS = 12
_LEAST_INSIDE = 0.3
_LARGE_MM = 12.0
_SURFACE = 0.4
_BULGES = 0.15
_NEIGHBOURS = 0.45


@dataclass(frozen=True)
class _Crop(Cells):
    """Cells of a crop around a point in the body. In plane, the tissue has twice the cells' resolution."""

    tissue: NDArray[np.uint8]

    def means(self, values: Floats) -> Floats:
        """Average values ``(n, 2 h, 2 w)`` over the cells ``(n, h, w)``."""
        n, h, w = SHAPE
        means: Floats = values.reshape(n, h, _FINER, w, _FINER).mean(axis=(2, 4), dtype=np.float32)
        return means


def draw_outline_sample(subject: Subject, rng: np.random.Generator, clipped: float = 0.0) -> OutlineSample:
    """Draw a place in the liver, a lesion at this place, the densities of both, and a prompt.

    `clipped` is the probability that the sample is clipped to `EXACT_HU`.
    """
    scan = Scan.draw(rng, 0, setting=TRAINING)
    for _ in range(_TRIALS):
        radius = float(np.exp(rng.uniform(*np.log(_RADII_MM))))
        crop = _cropped(subject, radius, rng)
        liver = crop.means(np.isin(crop.tissue, LIVER_TISSUES).astype(np.float32)) > 0.5
        depth = _solid(crop, (0.0, 0.0, 0.0), radius, rng)
        allowed = _allowed(crop, liver, radius, rng)
        whole = int((depth > 0).sum())
        if (depth > 0)[allowed].sum() >= max(LEAST_CELLS, _LEAST_INSIDE * whole):
            break
    else:
        raise RuntimeError("a geometry without room for a lesion")
    hu, lesion = _drawn(crop, scan, liver, allowed, depth, radius, rng)
    seen = clipped_now_and_then(_scanned(hu, crop, scan, rng), rng, clipped)
    return asked(
        crop, seen, np.where(lesion, np.maximum(depth, 0.0), np.minimum(depth, -0.2)), lesion, radius, rng
    )


def _cropped(subject: Subject, radius: float, rng: np.random.Generator) -> _Crop:
    """Return the tissues around a voxel of the liver. Outside of the geometry lies air."""
    geometry = subject.geometry
    places = subject.surface_voxels if rng.random() < _SURFACE else subject.liver_voxels
    center = places[rng.integers(len(places))] + rng.uniform(0, 1, 3)
    side = max(_LEAST_SIDE_MM, 2 * radius * rng.uniform(*_BOX_PART))
    cell, step = side / SHAPE[2], float(rng.choice(_STEPS_MM))
    stretch = rng.uniform(0.85, 1.2)
    indices = []
    for axis, (n, own) in enumerate(zip(SHAPE, (step, cell / _FINER, cell / _FINER), strict=True)):
        count = n * (1 if axis == 0 else _FINER)
        shift = rng.uniform(-0.25, 0.25) * (SHAPE[0] * step if axis == 0 else 0.4 * side)
        mm = (np.arange(count) + 0.5 - count / 2) * own + shift
        indices.append(np.floor(center[axis] + mm / geometry.spacing_mm[axis] / stretch).astype(np.intp))
    shape = geometry.tissue.shape
    inside = [(at >= 0) & (at < n) for at, n in zip(indices, shape, strict=True)]
    tissue = geometry.tissue[np.ix_(*(np.clip(at, 0, n - 1) for at, n in zip(indices, shape, strict=True)))]
    tissue[~(inside[0][:, None, None] & inside[1][:, None] & inside[2])] = Tissue.AIR
    return _Crop(cell, step, tissue)


def _allowed(crop: _Crop, liver: Mask, radius: float, rng: np.random.Generator) -> Mask:
    """Return the possible places of a lesion: the liver, and sometimes tissue that the lesion displaces."""
    if radius > _LARGE_MM and rng.random() < _BULGES:
        yielding = np.isin(crop.tissue, YIELDING).astype(np.float32)
        return np.asarray(liver | (crop.means(yielding) > 0.5))
    return liver


def _solid(crop: _Crop, center: Triple, radius: float, rng: np.random.Generator) -> Floats:
    """Return each cell's depth in mm below the surface of a rough, turned, sometimes lobulated ellipsoid."""
    spread = 0.25 if rng.random() < 0.7 else 0.45
    at = np.meshgrid(
        *((np.arange(n) + 0.5 - n / 2) * s - c for n, s, c in zip(SHAPE, crop.spacing, center, strict=True)),
        indexing="ij",
    )
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    axes = radius * rng.uniform(1 - spread, 1 + spread, 3)
    depth = 1 - ellipsoid_norm(at, turn, axes)
    for _ in range(int(rng.choice(3, p=(0.6, 0.25, 0.15)))):
        lobe = rng.normal(size=3)
        lobe *= rng.uniform(0.4, 0.8) * radius / np.linalg.norm(lobe)
        size = rng.uniform(0.4, 0.8)
        beside = [values - step for values, step in zip(at, lobe, strict=True)]
        depth = np.maximum(depth, np.float32(size) * (1 - ellipsoid_norm(beside, turn, size * axes)))
    rough = crop.field(rng, max(3.0, 0.8 * radius)) * np.float32(rng.uniform(0.02, 0.14))
    rough += crop.field(rng, max(2.0, 0.35 * radius)) * np.float32(rng.uniform(0.0, 0.06))
    solid: Floats = np.float32(radius) * (depth + rough)
    return solid


def _drawn(
    crop: _Crop,
    scan: Scan,
    liver: Mask,
    allowed: Mask,
    depth: Floats,
    radius: float,
    rng: np.random.Generator,
) -> tuple[Floats, Mask]:
    """Return the noiseless HU with all lesions, and the mask of the lesion that the sample must segment."""
    drowned = np.repeat(np.repeat(depth > 1, _FINER, axis=1), _FINER, axis=2)
    crop.tissue[drowned & np.isin(crop.tissue, LIVER_VESSELS)] = Tissue.LIVER
    coarse, fine = crop.field(rng, 21.0), crop.field(rng, 6.0)
    hu = crop.means(scan.hu[crop.tissue])
    hu += crop.means(scan.texture[crop.tissue]) * (0.7 * coarse + 0.5 * fine)
    if scan.patches_hu:
        hu += liver * np.float32(scan.patches_hu) * np.tanh(2 * coarse)
    liver_hu, start = float(scan.hu[Tissue.LIVER]), int(rng.integers(16))
    varied = bool(rng.random() < 0.75)
    look = draw_look(rng, liver_hu, start, 0, varied, TRAINING)
    others = int(rng.integers(1, 4)) if rng.random() < _NEIGHBOURS else 0
    for number in range(1, others + 1):
        center = rng.uniform(-0.5, 0.5, 3) * np.asarray(SHAPE) * np.asarray(crop.spacing)
        size = float(np.exp(rng.uniform(np.log(2.5), np.log(max(4.0, 1.5 * radius)))))
        beside = _solid(crop, (center[0], center[1], center[2]), size, rng)
        beside = np.minimum(beside, -depth - np.float32(rng.uniform(0.0, 3.0)))
        other = look if rng.random() < 0.5 else draw_look(rng, liver_hu, start, number, varied, TRAINING)
        _paint(hu, crop, beside, liver, other, size, liver_hu, rng)
    _paint(hu, crop, depth, allowed, look, radius, liver_hu, rng)
    margin = rng.uniform(*TRAINING.margin_mm) * (1.0 if radius > 5 else 0.5)
    lesion = (depth > margin) & allowed
    return hu, lesion if lesion.any() else (depth > 0) & allowed


def _paint(
    hu: Floats,
    crop: _Crop,
    depth: Floats,
    allowed: Mask,
    look: LesionLook,
    radius: float,
    liver_hu: float,
    rng: np.random.Generator,
) -> None:
    """Add a lesion to `hu` in place."""
    coarse, fine = crop.field(rng, max(6.0, 0.5 * radius)), crop.field(rng, 7.5)
    added = look.contrast(depth.ravel(), coarse.ravel(), fine.ravel()).reshape(depth.shape)
    if radius > _LARGE_MM:
        inside = np.clip(depth / 3.0, 0.0, 1.0)
        if rng.random() < 0.5:
            added += inside * coarse * np.float32(rng.uniform(0.2, 0.8) * abs(look.core))
        if rng.random() < 0.3:
            edge = rng.uniform(0.3, 0.7) * radius
            hidden = 1.0 / (1.0 + np.exp(-np.clip((depth + 4 * fine - edge) / 1.5, -20.0, 20.0)))
            added -= (hidden * rng.uniform(10, 45)).astype(np.float32)
    hu[(depth > 0) & allowed] += (liver_hu - hu[(depth > 0) & allowed]) * 0.9
    hu += added * allowed


def _scanned(hu: Floats, crop: _Crop, scan: Scan, rng: np.random.Generator) -> Floats:
    """Add scanner effects to the cells' densities: partial volume, point spread, noise, streaks."""
    below, above = np.concatenate([hu[:1], hu[:-1]]), np.concatenate([hu[1:], hu[-1:]])
    share = scan.slice_share * min(1.0, 3.0 / crop.step_mm)
    hu = (1 - 2 * share) * hu + share * (below + above)
    blur = rng.uniform(0.4, 1.2) / crop.cell_mm
    hu = ndi.gaussian_filter(hu, (0.0, blur, blur), truncate=3.0)
    hu += crop.field(rng, 80.0) * np.float32(rng.uniform(0, 6))
    sigma = scan.noise_length * 1.5 / crop.cell_mm
    # The part of correlated noise that remains after the average over a cell.
    left = 2 * sigma**2 / (2 * sigma**2 + 1 / 6)
    level = np.float32(scan.noise_hu * left * rng.uniform(0.6, 1.4))
    noise = np.stack([correlated_noise(rng, SHAPE[1:], min(sigma, 4.0), scan.ramp) for _ in range(SHAPE[0])])
    if rng.random() < 0.5:
        along = rng.uniform(0.2, 0.8)
        noise = ndi.gaussian_filter1d(noise, along, axis=0)
        noise /= noise.std() + np.float32(1e-6)
    hu += level * noise
    if scan.streaks_hu:
        for plane in hu:
            plane += streaks(rng, plane.shape, scan.streaks_hu)
    scanned: Floats = hu
    return scanned
