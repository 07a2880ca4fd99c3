"""Draw one training sample of the lesion finder from a `Subject` and a random generator.

The anatomy comes from a training geometry, without the lesions of the geometry. Every sample gets its own
random lesions. So no two samples share a lesion, and few anatomies are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.lesion_net import SPACING_MM
from workers.models.windows import to_lesion_channels
from workers.phantoms.appearance import Scan, streaks
from workers.phantoms.fields import Floats, Mask, Window, smooth_field
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import LIVER_TISSUES, Tissue
from workers.research.training.geometries import Subject
from workers.research.training.sampling.clefts import cut_clefts
from workers.research.training.sampling.growths import grow_lesions

#: Voxels of a sample: 192 x 192 x 216 mm.
SHAPE = (64, 64, 72)
_IN_PLANE = 2  # source pixels of 1.5 mm per voxel
_SHIFT_MM = 30.0
_STEPS = (SPACING_MM,) * 3
_TISSUE_STEPS = (SPACING_MM, SPACING_MM / _IN_PLANE, SPACING_MM / _IN_PLANE)
# A lesion of this volume has weight 1. Weights are proportional to 1 / sqrt(volume), within the limits
# `_WEIGHTS`.
_COMMON_ML = 6.0
_WEIGHTS = (0.6, 3.0)
_VOXEL_ML = SPACING_MM**3 / 1000.0
EXACT_HU = (-45.0, 160.0)
"""The range of HU that all training data show correctly. Some real CTs are clipped to this range."""
CLIPPED = 0.5
"""The part of the samples that are clipped to `EXACT_HU` if training mixes phantoms and real CTs.

So networks do not learn to distinguish phantoms from real CTs.
"""


@dataclass(frozen=True)
class LesionSample:
    """A training sample of the lesion finder's network.

    Attributes
    ----------
    channels
        ``(5, Z, Y, X)`` of `to_lesion_channels`.
    masks
        ``(2, Z, Y, X)``: first the liver, with its lesions and with thin fat in its clefts; then the lesions.
    weight
        ``(Z, Y, X)`` weights for the cross-entropy of lesions. With them, small lesions count more.
    """

    channels: Floats
    masks: NDArray[np.float32]
    weight: Floats


def draw_lesion_sample(subject: Subject, rng: np.random.Generator, clipped: float = 0.0) -> LesionSample:
    """Draw the part of the body around the liver, random lesions, and the densities of both.

    `clipped` is the probability that the sample is clipped to `EXACT_HU`.
    """
    tissue = _resampled(subject, rng)
    counted = cut_clefts(tissue, _TISSUE_STEPS, rng)
    scan = Scan.draw(rng, 0, setting=TRAINING)
    coarse, fine = (smooth_field(rng, SHAPE, _STEPS, length, 1.0) for length in (21.0, 6.0))
    hu = _voxel_means(scan.hu[tissue]) + _voxel_means(scan.texture[tissue]) * (0.7 * coarse + 0.5 * fine)
    share = _voxel_means(np.isin(np.arange(len(Tissue)), LIVER_TISSUES).astype(np.float32)[tissue])
    if scan.patches_hu:
        hu += share * np.float32(scan.patches_hu) * np.tanh(2 * coarse)
    liver = share + _voxel_means(counted.astype(np.float32)) > 0.5
    growths = grow_lesions(hu, share, liver, tissue[:, ::_IN_PLANE, ::_IN_PLANE], scan, rng)
    lesion = np.zeros(SHAPE, bool)
    weight = np.ones(SHAPE, np.float32)
    for growth in growths:
        liver[growth.window] |= growth.inside
        mark_lesion(growth.window, growth.inside, lesion, weight)
    seen = clipped_now_and_then(_scanned(hu.astype(np.float32), scan, rng), rng, clipped)
    channels = to_lesion_channels(seen, float(scan.hu[Tissue.LIVER] + rng.normal(0, 6)))
    return LesionSample(channels, np.stack([liver, lesion]).astype(np.float32), weight)


def _resampled(subject: Subject, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return tissues at twice the sample's in-plane resolution, stretched and shifted. Outside lies air."""
    geometry = subject.geometry
    stretch = rng.uniform(0.85, 1.2) * rng.uniform(0.93, 1.07, 3)
    places = []
    for axis, (low, high) in enumerate(subject.liver_span):
        step = geometry.spacing_mm[axis]
        count = SHAPE[axis] * (1 if axis == 0 else _IN_PLANE)
        own = SPACING_MM / (1 if axis == 0 else _IN_PLANE)
        middle = (low + high) / 2 + rng.uniform(-_SHIFT_MM, _SHIFT_MM) / step
        places.append(np.rint(middle + (np.arange(count) - count / 2) * own / step / stretch[axis]))
    shape = geometry.tissue.shape
    z, y, x = ((at >= 0) & (at < n) for at, n in zip(places, shape, strict=True))
    index = [np.clip(at, 0, n - 1).astype(np.intp) for at, n in zip(places, shape, strict=True)]
    tissue = geometry.tissue[np.ix_(*index)]
    tissue[~(z[:, None, None] & y[:, None] & x)] = Tissue.AIR
    return tissue


def _voxel_means(values: Floats) -> Floats:
    """Average ``(Z, 2 Y, 2 X)`` over the sample's voxels."""
    z, y, x = SHAPE
    split = values.reshape(z, y, _IN_PLANE, x, _IN_PLANE)
    means: Floats = split.mean(axis=(2, 4), dtype=np.float32)
    return means


def clipped_now_and_then(hu: Floats, rng: np.random.Generator, part: float) -> Floats:
    """Clip densities to `EXACT_HU` with probability `part`, for phantoms and for real CTs."""
    clip = part > 0 and rng.random() < part
    return np.clip(hu, *EXACT_HU) if clip else hu


def mark_lesion(window: Window, inside: Mask, lesion: Mask, weight: Floats) -> None:
    """Add a lesion to the mask and set the weight of its voxels, both in place."""
    lesion[window] |= inside
    volume = max(float(inside.sum()) * _VOXEL_ML, _VOXEL_ML)
    own = np.float32(np.clip(np.sqrt(_COMMON_ML / volume), *_WEIGHTS))
    weight[window][inside] = np.maximum(weight[window][inside], own) if own > 1 else own


def _scanned(hu: Floats, scan: Scan, rng: np.random.Generator) -> Floats:
    """Add scanner effects at 3 mm to densities: partial volume, point spread, uneven calibration, noise."""
    below, above = np.concatenate([hu[:1], hu[:-1]]), np.concatenate([hu[1:], hu[-1:]])
    hu = (1 - 2 * scan.slice_share) * hu + scan.slice_share * (below + above)
    along_z = rng.uniform(0.2, 0.9) if rng.random() < 0.3 else 0.2
    in_plane = rng.uniform(0.25, 0.6)
    hu = ndi.gaussian_filter(hu, (along_z, in_plane, in_plane), truncate=3.0)
    hu += smooth_field(rng, SHAPE, _STEPS, 80.0, rng.uniform(0, 6))
    if scan.streaks_hu:
        for slab in hu:
            slab += streaks(rng, slab.shape, 0.7 * scan.streaks_hu)
    noise = rng.standard_normal(SHAPE, dtype=np.float32)
    length = scan.noise_length / _IN_PLANE
    noise = ndi.gaussian_filter(noise, (rng.uniform(0, 0.5), length, length), truncate=3.0)
    noise *= np.float32(scan.noise_hu * rng.uniform(0.3, 1.0)) / noise.std()
    scanned: Floats = hu + noise
    return scanned
