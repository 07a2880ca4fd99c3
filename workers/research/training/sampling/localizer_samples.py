"""Draw one training sample of the localizer from a `Subject` and a random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.localizer_net import SPACING_MM, STRIDE
from workers.models.windows import AIR_HU, to_localizer_channels
from workers.phantoms.appearance import Scan
from workers.phantoms.fields import Floats
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import LIVER_TISSUES, Tissue
from workers.research.training.geometries import Subject

#: Rows and columns of a sample: 288 x 384 mm.
PLANE = (48, 64)
#: Possible numbers of 6 mm slices in a sample. They show 144 to 288 mm of a body.
HEIGHTS = (24, 32, 40, 48)


@dataclass(frozen=True)
class LocalizerSample:
    """Channels ``(2, Z, Y, X)`` of `to_localizer_channels` and the liver ``(Z, Y, X)``."""

    channels: Floats
    liver: NDArray[np.float32]


def draw_localizer_sample(subject: Subject, rng: np.random.Generator, height: int) -> LocalizerSample:
    """Draw random densities, a deformation of the body, and the part of the body that is scanned, at 6 mm.

    A scan can begin and end anywhere in the body. So the tip or the dome of a liver may be missing. Only the
    upper end is padded with air. The padding is smaller than the network's stride, as in inference.

    Parameters
    ----------
    subject
        The anatomy.
    rng
        Source of randomness.
    height
        Number of slices of the sample, one of `HEIGHTS`.
    """
    scan = Scan.draw(rng, subject.geometry.lesions.count, setting=TRAINING)
    shape = (height, *PLANE)
    tissue, lesion = _resampled(subject, shape, rng)
    hu = scan.hu[tissue]
    parenchyma = tissue == Tissue.LIVER
    for number in np.unique(lesion[lesion > 0]):
        hu[(lesion == number) & parenchyma] += scan.looks[int(number) - 1].core
    hu += scan.texture[tissue] * rng.standard_normal(shape, dtype=np.float32) * np.float32(0.6)
    liver = np.isin(tissue, LIVER_TISSUES)
    # Tissues were resampled by nearest neighbour. The blur imitates the average over 6 mm.
    hu = ndi.gaussian_filter(hu, rng.uniform(0.35, 0.75))
    noise = scan.noise_hu * rng.uniform(0.1, 0.6)
    hu += np.float32(noise) * rng.standard_normal(shape, dtype=np.float32)
    covered = height - int(rng.integers(STRIDE))
    hu[covered:] = AIR_HU
    liver[covered:] = False
    return LocalizerSample(to_localizer_channels(hu), liver.astype(np.float32))


def _resampled(
    subject: Subject, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return tissues and lesion numbers at 6 mm, stretched, tilted and shifted. Outside, edges repeat."""
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
    first = rng.uniform(0, max(0.0, tissue.shape[0] * stretch[0] - shape[0]))
    _, rows, columns = tissue.shape
    middle = np.array([(first + shape[0] / 2) / stretch[0], rows / 2, columns / 2])
    middle[1:] += rng.normal(0, 3, 2)
    offset = middle - matrix @ (np.array(shape) / 2)
    moved = [
        ndi.affine_transform(volume, matrix, offset, shape, order=0, mode="nearest")
        for volume in (tissue, lesions)
    ]
    return moved[0], moved[1].astype(np.uint8)
