"""Compute the densities of a phantom: HU as a scanner would show them, from tissues and lesion distances.

This is the fast step. A `Scan` has the values that are constant over an examination: contrast phase,
densities, contrast of each lesion (`looks`), noise. With a `Scan`, `densities` computes the densities of any
stack of slices of a geometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.fields import Floats, Mask, smooth_field
from workers.phantoms.geometry import Geometry
from workers.phantoms.lesion_shapes import DISTANCE_STEP_MM
from workers.phantoms.looks import LesionLook, draw_look
from workers.phantoms.settings import PLAIN, Setting
from workers.phantoms.tissues import LIVER_TISSUES, Tissue

Range = tuple[float, float]


class Phase(StrEnum):
    """Contrast phase of the examination."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL = "portal-venous"
    LATE = "late"


_PHASE_SHARE = MappingProxyType(
    {Phase.NATIVE: 0.20, Phase.ARTERIAL: 0.25, Phase.PORTAL: 0.40, Phase.LATE: 0.15}
)

# Uniform ranges of HU for each phase, in the order of `Phase`.
_ENHANCING: Mapping[Tissue, tuple[Range, Range, Range, Range]] = MappingProxyType(
    {
        Tissue.LIVER: ((35, 70), (52, 95), (75, 145), (65, 120)),
        Tissue.SPLEEN: ((38, 58), (80, 155), (85, 155), (70, 125)),
        Tissue.KIDNEY_CORTEX: ((25, 40), (110, 220), (120, 230), (110, 190)),
        Tissue.KIDNEY_MEDULLA: ((22, 36), (35, 110), (90, 220), (100, 200)),
        Tissue.STOMACH_WALL: ((30, 55), (50, 115), (50, 115), (50, 100)),
        Tissue.AORTA: ((32, 52), (180, 420), (100, 200), (80, 140)),
        Tissue.CAVA: ((30, 50), (45, 150), (80, 180), (75, 130)),
        Tissue.PANCREAS: ((25, 50), (60, 130), (60, 120), (50, 100)),
        Tissue.HEART: ((35, 52), (90, 300), (85, 180), (75, 130)),
    }
)
# Tissues that a network may mistake for liver if they have the liver's density.
_NEIGHBOURS = (
    Tissue.HEART,
    Tissue.SPLEEN,
    Tissue.STOMACH_WALL,
    Tissue.STOMACH_CONTENT,
    Tissue.KIDNEY_CORTEX,
    Tissue.PANCREAS,
    Tissue.BOWEL_WALL,
    Tissue.BOWEL_CONTENT,
    Tissue.MUSCLE,
    Tissue.CAVA,
)
_PORTAL_VEIN: tuple[Range, ...] = ((30, 50), (60, 140), (115, 215), (85, 140))
_HEPATIC_VEIN: tuple[Range, ...] = ((30, 50), (45, 95), (95, 195), (85, 140))

# Uniform ranges of HU of tissues whose density a contrast agent does not change.
_PLAIN: Mapping[Tissue, Range] = MappingProxyType(
    {
        Tissue.MUSCLE: (40, 72),
        Tissue.CORTEX: (250, 900),
        Tissue.MARROW: (80, 320),
        Tissue.DISC: (50, 110),
        Tissue.SKIN: (-40, 60),
        Tissue.LUNG: (-900, -680),
        Tissue.GAS: (-1000, -850),
        Tissue.GALLBLADDER: (-5, 28),
        Tissue.BOWEL_WALL: (25, 110),
        Tissue.COLON_CONTENT: (-120, 100),
        Tissue.SOFT_TISSUE: (10, 120),
        Tissue.TABLE: (-300, 200),
    }
)

# Uniform ranges of the texture's standard deviation in HU, for tissues that differ from the common value.
_TEXTURE: Mapping[Tissue, Range] = MappingProxyType(
    {
        Tissue.FAT: (3, 16),
        Tissue.CORTEX: (80, 80),
        Tissue.MARROW: (15, 50),
        Tissue.LUNG: (15, 60),
        Tissue.BOWEL_WALL: (5, 25),
        Tissue.BOWEL_CONTENT: (5, 35),
        Tissue.COLON_CONTENT: (10, 60),
        Tissue.MUSCLE: (4, 16),
        Tissue.STOMACH_CONTENT: (2, 25),
        Tissue.PANCREAS: (4, 18),
    }
)


@dataclass(frozen=True)
class Scan:
    """Values that are constant over one examination.

    Attributes
    ----------
    phase
        Contrast phase.
    hu, texture
        Mean density, and standard deviation of the texture, for each value of `Tissue`, in HU.
    looks
        The look of each lesion: its contrast at each depth.
    noise_hu
        Standard deviation of the noise in HU.
    noise_length
        Correlation length of the noise in source pixels of 1.5 mm (sigma of a Gaussian).
    blur
        In-plane point spread, sigma in source pixels of 1.5 mm.
    slice_share
        Part of each neighbouring slice that a slice contains (partial volume along z).
    patches_hu
        Amplitude in HU of differences between regions of the parenchyma.
    streaks_hu
        Amplitude of streaks in HU.
    ramp
        Part of the low frequencies that is removed from the noise.
    """

    phase: Phase
    hu: Floats
    texture: Floats
    looks: tuple[LesionLook, ...]
    noise_hu: float
    noise_length: float
    blur: float
    slice_share: float
    patches_hu: float = 0.0
    streaks_hu: float = 0.0
    ramp: float = 0.0

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        lesions: int,
        phase: Phase | None = None,
        max_noise_hu: float = 26.0,
        varied_lesions: bool = False,
        setting: Setting = PLAIN,
    ) -> Scan:
        """Draw the values of an examination with `lesions` lesions at random.

        With `varied_lesions`, successive lesions have different kinds. Otherwise most lesions of the patient
        are similar to each other, like metastases.
        """
        phase = phase or list(Phase)[rng.choice(len(Phase), p=list(_PHASE_SHARE.values()))]
        hu = _draw_hu(rng, list(Phase).index(phase))
        if setting.like_liver:
            _hide_neighbours(rng, hu, setting.like_liver)
        liver = float(hu[Tissue.LIVER])
        start = int(rng.integers(16))
        looks = tuple(
            draw_look(rng, liver, start, number, varied_lesions, setting) for number in range(lesions)
        )
        scan = cls(
            phase=phase,
            hu=hu,
            texture=_draw_texture(rng),
            looks=looks,
            noise_hu=float(np.exp(rng.uniform(np.log(4), np.log(max_noise_hu)))),
            noise_length=rng.uniform(0.35, 1.3),
            blur=rng.uniform(0.35, 1.0),
            slice_share=rng.uniform(0, 0.33),
        )
        if not setting.varied:
            return scan
        return replace(
            scan,
            patches_hu=rng.uniform(*setting.patches_hu) if rng.random() < 0.5 else 0.0,
            streaks_hu=rng.uniform(*setting.streaks_hu) if rng.random() < 0.25 else 0.0,
            ramp=rng.uniform(*setting.ramp),
        )


def _hide_neighbours(rng: np.random.Generator, hu: Floats, share: float) -> None:
    """Give some organs around the liver about the density of the liver, in place."""
    for tissue in _NEIGHBOURS:
        if rng.random() < share:
            hu[tissue] = hu[Tissue.LIVER] + rng.normal(0, 6)


def _draw_hu(rng: np.random.Generator, phase: int) -> Floats:
    hu = np.zeros(len(Tissue), np.float32)
    for tissue, plain in _PLAIN.items():
        hu[tissue] = rng.uniform(*plain)
    for tissue, ranges in _ENHANCING.items():
        hu[tissue] = rng.uniform(*ranges[phase])
    if rng.random() < 0.2:  # steatosis
        hu[Tissue.LIVER] -= rng.uniform(0, 45)
    liver = hu[Tissue.LIVER]
    if rng.random() < 0.5:
        hu[Tissue.PORTAL_VEIN] = rng.uniform(*_PORTAL_VEIN[phase])
        hu[Tissue.HEPATIC_VEIN] = rng.uniform(*_HEPATIC_VEIN[phase])
    else:  # in all phases, vessels often have about the liver's density
        hu[Tissue.PORTAL_VEIN] = liver + rng.uniform(-15, 60)
        hu[Tissue.HEPATIC_VEIN] = liver + rng.uniform(-25, 55)
    hu[Tissue.PORTAL_TRUNK] = hu[Tissue.PORTAL_VEIN]
    hu[Tissue.FAT] = rng.normal(-100, 10)
    oral_contrast = rng.random() < 0.2
    hu[Tissue.BOWEL_CONTENT] = rng.uniform(100, 400) if oral_contrast else rng.uniform(-20, 70)
    hu[Tissue.STOMACH_CONTENT] = rng.uniform(100, 400) if rng.random() < 0.2 else rng.uniform(-15, 60)
    if rng.random() < 0.25:  # a patient with unusual densities
        hu += rng.normal(0, 22, len(hu)).astype(np.float32)
    hu[Tissue.AIR] = -1000
    return hu


def _draw_texture(rng: np.random.Generator) -> Floats:
    texture = np.full(len(Tissue), rng.uniform(1, 7), np.float32)
    for tissue, deviation in _TEXTURE.items():
        texture[tissue] = rng.uniform(*deviation)
    texture[Tissue.AIR] = 0
    return texture


@dataclass(frozen=True)
class Textures:
    """Random fields with unit variance, as large as the stack of slices.

    Attributes
    ----------
    coarse, fine, lesion
        ``(n, Y, X)`` each. Their correlation lengths in plane are 21, 6 and 7.5 mm.
    """

    coarse: Floats
    fine: Floats
    lesion: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...], steps: tuple[float, ...]) -> Textures:
        """Draw fields for a stack of shape `shape` whose samples are `steps` mm apart."""
        coarse, fine, lesion = (smooth_field(rng, shape, steps, length, 1.0) for length in (21.0, 6.0, 7.5))
        return cls(coarse, fine, lesion)


def densities(geometry: Geometry, first: int, stop: int, scan: Scan, textures: Textures) -> Floats:
    """Return the noiseless densities of slices `first` to `stop` (half-open), HU, ``(n, Y, X)``."""
    tissue = geometry.tissue[first:stop]
    hu: Floats = scan.hu[tissue] + scan.texture[tissue] * (0.7 * textures.coarse + 0.5 * textures.fine)
    if scan.patches_hu:
        parenchyma = tissue == Tissue.LIVER
        hu[parenchyma] += np.float32(scan.patches_hu) * np.tanh(2 * textures.coarse[parenchyma])
    number = geometry.lesions.number[first:stop]
    present = np.unique(number)
    if present[-1] == 0:
        return hu
    liver = np.isin(tissue, LIVER_TISSUES)
    for lesion in present[present > 0]:
        where: Mask = (number == lesion) & liver
        depth = geometry.lesions.distance[first:stop][where].astype(np.float32) * DISTANCE_STEP_MM
        look = scan.looks[int(lesion) - 1]
        hu[where] += look.contrast(depth, textures.coarse[where], textures.lesion[where])
    return hu


def scan_volume(geometry: Geometry, scan: Scan, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the HU ``(Z, Y, X)`` of a whole phantom: densities, partial volume, point spread, noise."""
    shape = geometry.tissue.shape
    hu = densities(geometry, 0, shape[0], scan, Textures.draw(rng, shape, geometry.spacing_mm))
    hu = partial_volume(hu, scan.slice_share)
    pixel = geometry.spacing_mm[1] / 1.5
    for slab in hu:
        slab[...] = ndi.gaussian_filter(slab, scan.blur / pixel)
        noise = correlated_noise(rng, slab.shape, scan.noise_length / pixel, scan.ramp)
        slab += noise * np.float32(scan.noise_hu)
        if scan.streaks_hu:
            slab += streaks(rng, slab.shape, scan.streaks_hu)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def partial_volume(slices: Floats, share: float) -> Floats:
    """Mix `share` of each neighbour into the slices ``(n, Y, X)`` of a stack."""
    below, above = np.concatenate([slices[:1], slices[:-1]]), np.concatenate([slices[1:], slices[-1:]])
    return np.asarray((1 - 2 * share) * slices + share * (below + above))


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float, ramp: float = 0.0
) -> Floats:
    """Draw one slice of unit-variance Gaussian noise with a Gaussian autocorrelation, sigma in pixels.

    `ramp` reduces low frequencies, as filtered back-projection does. For this, the part `ramp` of the same
    noise is smoothed more and then subtracted.
    """
    noise: Floats = rng.standard_normal(shape, dtype=np.float32)
    if sigma > 0.15:
        noise = ndi.gaussian_filter(noise, sigma, truncate=3.0)
    if ramp > 0:
        noise -= np.float32(ramp) * ndi.gaussian_filter(noise, 2.0 * max(sigma, 0.4), truncate=3.0)
    if sigma > 0.15 or ramp > 0:
        noise /= noise.std() + np.float32(1e-6)
    return noise


def streaks(rng: np.random.Generator, shape: tuple[int, ...], amplitude: float) -> Floats:
    """Draw parallel streaks in HU. They are 15 to 45 pixels wide, and their strength varies over a slice."""
    length = rng.uniform(15, 45)
    long_noise = ndi.gaussian_filter1d(rng.standard_normal(shape, dtype=np.float32), length / 3, axis=1)
    turned: Floats = ndi.rotate(long_noise, rng.uniform(0, 180), reshape=False, order=1, mode="reflect")
    turned /= turned.std() + np.float32(1e-6)
    where = np.clip(smooth_field(rng, shape, (1.0, 1.0), 64.0, 1.0), 0, 2)
    return turned * where * np.float32(amplitude)
