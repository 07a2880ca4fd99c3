"""Draw one training sample of the lesion finder from real CTs and a random generator.

The whole scan is turned, scaled and shifted. Lesions grow into its liver or come from other patients.
Density, sharpness and noise vary. Scans are not mirrored, because the liver lies on the right.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.lesion_net import SPACING_MM
from workers.models.windows import AIR_HU, to_lesion_channels
from workers.phantoms.appearance import Scan
from workers.phantoms.fields import Floats, Mask
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import Tissue
from workers.research.training.real_cases import LIVER, STEP_MM, TUMOUR, RealCase, RealCases
from workers.research.training.sampling.growths import grow_lesions
from workers.research.training.sampling.lesion_samples import (
    CLIPPED,
    SHAPE,
    LesionSample,
    clipped_now_and_then,
    mark_lesion,
)
from workers.research.training.sampling.transplants import transplant

_SHIFT_MM = 25.0
# Part of the samples whose middle is near a tumour, if the case has tumours.
_AT_TUMOUR = 0.4
_IMPLANTED, _TRANSPLANTED = 0.4, 0.35
_MOST_TRANSPLANTS = 3
# Voxels that are this much brighter than the liver at 3 mm are vessels. Lesions do not replace them.
_VESSEL_HU = 28.0
_FAT_BELOW_HU = -30.0


def draw_real_sample(cases: RealCases, rng: np.random.Generator) -> LesionSample:
    """Draw a case, a view of it, added lesions, and the settings of the scan."""
    case = cases.case(int(rng.integers(len(cases.names))))
    hu, liver, tumour = _view(case, rng)
    weight = np.ones(SHAPE, np.float32)
    numbered, count = ndi.label(tumour)
    for window, number in zip(ndi.find_objects(numbered), range(1, count + 1), strict=True):
        mark_lesion(window, numbered[window] == number, tumour, weight)
    if rng.random() < _IMPLANTED:
        _implant(hu, case.liver_hu, liver, tumour, weight, rng)
    if rng.random() < _TRANSPLANTED:
        for _ in range(int(rng.integers(1, 1 + _MOST_TRANSPLANTS))):
            donor = cases.case(int(rng.integers(len(cases.names))))
            for window, inside in transplant(donor, hu, case.liver_hu, liver, tumour, rng):
                mark_lesion(window, inside, tumour, weight)
    seen = clipped_now_and_then(_scanned_again(hu, case.liver_hu, rng), rng, CLIPPED)
    channels = to_lesion_channels(seen, case.liver_hu + float(rng.normal(0, 5)))
    return LesionSample(channels, np.stack([liver, tumour]).astype(np.float32), weight)


def _view(case: RealCase, rng: np.random.Generator) -> tuple[Floats, Mask, Mask]:
    """Return density, liver with tumours, and tumours at 3 mm; turned, scaled and shifted. Outside is air."""
    middle = case.middle
    if len(case.tumour_middles) and rng.random() < _AT_TUMOUR:
        middle = 0.5 * (middle + case.tumour_middles[rng.integers(len(case.tumour_middles))])
    scale = rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 3)
    matrix = _turn(rng) @ np.diag(SPACING_MM / STEP_MM / scale)
    middle = middle + rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3) / STEP_MM
    offset = (middle - 0.5) - matrix @ (np.asarray(SHAPE) / 2.0 - 0.5)
    hu = ndi.affine_transform(
        case.hu.astype(np.float32), matrix, offset, SHAPE, order=1, mode="constant", cval=AIR_HU
    )
    liver, tumour = (
        ndi.affine_transform((case.labels >= value).astype(np.float32), matrix, offset, SHAPE, order=1) > 0.5
        for value in (LIVER, TUMOUR)
    )
    return hu, liver, tumour


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random rotation ``(3, 3)`` by some degrees, mostly about the body's long axis."""
    turn = np.eye(3)
    for (a, b), degrees in (((1, 2), 12.0), ((0, 1), 6.0), ((0, 2), 6.0)):
        angle = np.deg2rad(rng.normal(0, degrees))
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def _implant(
    hu: Floats, liver_hu: float, liver: Mask, tumour: Mask, weight: Floats, rng: np.random.Generator
) -> None:
    """Add the contrast of grown lesions to the scan in place. The scan's noise and vessels stay."""
    scan = Scan.draw(rng, 0, setting=TRAINING)
    densities = scan.hu.copy()
    densities[Tissue.LIVER] = liver_hu
    free = liver & ~tumour & (ndi.gaussian_filter(hu, 0.7) < liver_hu + _VESSEL_HU)
    share = ndi.gaussian_filter(free.astype(np.float32), 0.5) * free
    tissue = np.where(hu < _FAT_BELOW_HU, Tissue.FAT, Tissue.LIVER).astype(np.uint8)
    for growth in grow_lesions(hu, share, free, tissue, replace(scan, hu=densities), rng):
        liver[growth.window] |= growth.inside
        mark_lesion(growth.window, growth.inside, tumour, weight)


def _scanned_again(hu: Floats, liver_hu: float, rng: np.random.Generator) -> Floats:
    """Return the scan with changed contrast, sharpness, slice thickness and noise."""
    excess = (hu - np.float32(liver_hu)) * np.float32(rng.uniform(0.8, 1.3))
    if rng.random() < 0.25:
        excess = ndi.gaussian_filter(excess, rng.uniform(0.3, 0.7), truncate=3.0)
    if rng.random() < 0.25:
        excess = ndi.gaussian_filter(excess, (rng.uniform(0.5, 1.0), 0, 0), truncate=3.0)
    if rng.random() < 0.4:
        noise = rng.standard_normal(SHAPE, dtype=np.float32)
        noise = ndi.gaussian_filter(
            noise, (rng.uniform(0, 0.5), *(2 * (rng.uniform(0.2, 0.7),))), truncate=3.0
        )
        excess += noise * np.float32(rng.uniform(0, 14) / noise.std())
    shifted: Floats = np.maximum(excess + np.float32(liver_hu + rng.normal(0, 8)), AIR_HU).astype(np.float32)
    return shifted
