"""One training sample of the localizer, as a pure function of a subject and a random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.localizer_net import SPACING_MM
from workers.models.windows import AIR_HU, to_localizer_channels
from workers.training.geometries import Subject
from workers.training.phantoms.appearance import Scan
from workers.training.phantoms.fields import Floats, Mask
from workers.training.phantoms.settings import TRAINING
from workers.training.phantoms.tissues import LIVER_TISSUES, Tissue

#: Voxels of a sample: 240 x 288 x 384 mm.
SHAPE = (40, 48, 64)
_MOST_MISSING_SLICES = 12


@dataclass(frozen=True)
class LocalizerSample:
    """Channels ``(2, Z, Y, X)`` of `to_localizer_channels` and the liver ``(Z, Y, X)``."""

    channels: Floats
    liver: NDArray[np.float32]


def draw_localizer_sample(subject: Subject, rng: np.random.Generator) -> LocalizerSample:
    """Draw an appearance, a deformation and a coverage at 6 mm."""
    scan = Scan.draw(rng, subject.geometry.lesions.count, setting=TRAINING)
    tissue, lesion = _resampled(subject, rng)
    hu = scan.hu[tissue]
    parenchyma = tissue == Tissue.LIVER
    for number in np.unique(lesion[lesion > 0]):
        hu[(lesion == number) & parenchyma] += scan.looks[int(number) - 1].core
    hu += scan.texture[tissue] * rng.standard_normal(SHAPE, dtype=np.float32) * np.float32(0.6)
    liver = np.isin(tissue, LIVER_TISSUES)
    _shorten(hu, liver, rng)
    # nearest neighbours were taken; scans are averaged to 6 mm
    hu = ndi.gaussian_filter(hu, rng.uniform(0.35, 0.75))
    noise = scan.noise_hu * rng.uniform(0.1, 0.6)
    hu += np.float32(noise) * rng.standard_normal(SHAPE, dtype=np.float32)
    return LocalizerSample(to_localizer_channels(hu), liver.astype(np.float32))


def _resampled(subject: Subject, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return tissue and lesion numbers ``SHAPE`` at 6 mm, stretched, tilted and shifted, air outside."""
    geometry = subject.geometry
    strides = [max(1, round(SPACING_MM / step)) for step in geometry.spacing_mm]
    window = tuple(slice(stride // 2, None, stride) for stride in strides)
    tissue = geometry.tissue[window]
    lesions = np.where(geometry.lesions.distance > 0, geometry.lesions.number, 0)[window]
    stretch = np.array([rng.uniform(0.8, 1.25), *(rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 2))])
    turn = rng.normal(0, 0.08)
    cos, sin = np.cos(turn), np.sin(turn)
    lean = rng.normal(0, 0.05, 2)
    matrix = np.diag(1 / stretch) @ np.array([[1, *lean], [0, cos, -sin], [0, sin, cos]])
    middle = np.array(tissue.shape) * (rng.uniform(0.15, 0.85), 0.5, 0.5) + (0, *rng.normal(0, 3, 2))
    offset = middle - matrix @ (np.array(SHAPE) / 2)
    moved = [
        ndi.affine_transform(volume, matrix, offset, SHAPE, order=0, cval=0) for volume in (tissue, lesions)
    ]
    return moved[0], moved[1].astype(np.uint8)


def _shorten(hu: Floats, liver: Mask, rng: np.random.Generator) -> None:
    """Cut a scan short below or above in half of the samples: what is missing is padding, not liver."""
    missing = int(rng.integers(_MOST_MISSING_SLICES))
    if rng.random() < 0.5 or missing == 0:
        return
    part = slice(None, missing) if rng.random() < 0.5 else slice(-missing, None)
    hu[part] = AIR_HU
    liver[part] = False
