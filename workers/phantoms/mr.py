"""The same phantoms as MR images: T1-weighted with suppressed fat, in the portal-venous phase.

A seed gives the same anatomy and lesions as for CT. The signal of each tissue is its signal after a
gadolinium agent, relative to the liver's signal. The signal is multiplied by a bias field. Noise is Rician
(Gudbjartsson and Patz, Magnetic Resonance in Medicine 34, 1995). The unit differs from scan to scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.appearance import Phase, Range, Scan, Textures, densities, partial_volume
from workers.phantoms.fields import Floats, Triple, smooth_field
from workers.phantoms.geometry import Geometry
from workers.phantoms.phantom import PhantomRecord, Size, draw_examination, phantom_of
from workers.phantoms.settings import PLAIN, Setting
from workers.phantoms.tissues import Tissue

# Uniform ranges of the signal, as parts of the liver's signal.
_SIGNAL: Mapping[Tissue, Range] = MappingProxyType(
    {
        Tissue.AIR: (0.0, 0.0),
        Tissue.FAT: (0.18, 0.38),
        Tissue.MUSCLE: (0.48, 0.66),
        Tissue.CORTEX: (0.02, 0.10),
        Tissue.MARROW: (0.25, 0.45),
        Tissue.DISC: (0.20, 0.40),
        Tissue.SKIN: (0.40, 0.70),
        Tissue.LUNG: (0.03, 0.10),
        Tissue.HEART: (0.85, 1.35),
        Tissue.LIVER: (1.0, 1.0),
        Tissue.PORTAL_VEIN: (1.15, 1.60),
        Tissue.HEPATIC_VEIN: (1.10, 1.55),
        Tissue.PORTAL_TRUNK: (1.15, 1.60),
        Tissue.AORTA: (1.20, 1.70),
        Tissue.CAVA: (1.05, 1.50),
        Tissue.GALLBLADDER: (0.15, 0.40),
        Tissue.SPLEEN: (0.85, 1.20),
        Tissue.KIDNEY_CORTEX: (1.20, 1.80),
        Tissue.KIDNEY_MEDULLA: (1.00, 1.60),
        Tissue.STOMACH_WALL: (0.70, 1.10),
        Tissue.STOMACH_CONTENT: (0.10, 0.45),
        Tissue.GAS: (0.0, 0.03),
        Tissue.PANCREAS: (0.85, 1.15),
        Tissue.BOWEL_WALL: (0.70, 1.15),
        Tissue.BOWEL_CONTENT: (0.15, 0.60),
        Tissue.COLON_CONTENT: (0.20, 0.80),
        Tissue.SOFT_TISSUE: (0.40, 0.80),
        Tissue.TABLE: (0.0, 0.0),
    }
)
_LIVER = 130.0
"""The liver's signal while lesions are drawn. Lesion contrasts are in HU: 65 HU are half of this signal."""
_MOST_TEXTURE = 0.06 * _LIVER
_BIAS_MM, _BIAS = 170.0, (0.05, 0.15)
_UNIT = (150.0, 1500.0)
_SIGNAL_TO_NOISE = (15.0, 40.0)
_MOST_STORED = 4095


@dataclass(frozen=True, eq=False)
class MrPhantom:
    """An MR volume with its truth, canonical grid (axes grow to superior, posterior, patient left).

    Attributes
    ----------
    signal
        ``(Z, Y, X)`` uint16, arbitrary units, 12 bits.
    spacing_mm
        (z, y, x).
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver without lesions, 1 + n lesion n.
    meta
        The record of its content. The contrasts of lesions are the HU contrasts of the CT phantom.
    """

    signal: NDArray[np.uint16]
    spacing_mm: Triple
    labels: NDArray[np.uint8]
    meta: PhantomRecord


def make_mr_phantom(
    seed: int, *, size: Size = "standard", lesions: int | None = None, setting: Setting = PLAIN
) -> MrPhantom:
    """Make the MR phantom of a seed.

    The parameters are those of `make_phantom`. The anatomy and lesions are the same as in the portal-venous
    CT phantom.
    """
    drawn = draw_examination(seed, size, lesions, Phase.PORTAL, setting)
    phantom = phantom_of(*drawn)
    rng = np.random.default_rng([seed, 4])
    signal = scan_signal(drawn.geometry, drawn.scan, rng)
    return MrPhantom(signal, phantom.spacing_mm, phantom.labels, phantom.meta)


def scan_signal(geometry: Geometry, scan: Scan, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return the MR signal of a phantom: textures, partial volume, point spread, bias field, Rician noise.

    `scan` gives the looks of lesions, the point spread and the partial volume; densities are not used.
    """
    shape, spacing = geometry.tissue.shape, geometry.spacing_mm
    signal = densities(geometry, 0, shape[0], _as_mr(scan, rng), Textures.draw(rng, shape, spacing))
    signal = partial_volume(np.maximum(signal, 0), scan.slice_share)
    bias = smooth_field(rng, shape, spacing, _BIAS_MM, float(rng.uniform(*_BIAS)))
    unit = float(np.exp(rng.uniform(*np.log(_UNIT)))) / _LIVER
    noise = _LIVER / rng.uniform(*_SIGNAL_TO_NOISE)
    stored = np.empty(shape, np.uint16)
    for z, slab in enumerate(signal):
        blurred = ndi.gaussian_filter(slab, scan.blur * 1.5 / spacing[1]) * np.exp(bias[z])
        stored[z] = np.clip(np.rint(unit * _rician(rng, blurred, noise)), 0, _MOST_STORED)
    return stored


def _as_mr(scan: Scan, rng: np.random.Generator) -> Scan:
    """Return the examination with MR signals instead of densities. Calcium has no signal."""
    signal = np.zeros(len(Tissue), np.float32)
    for tissue, parts in _SIGNAL.items():
        signal[tissue] = rng.uniform(*parts) * _LIVER
    texture = np.minimum(scan.texture, _MOST_TEXTURE)
    texture[[Tissue.AIR, Tissue.TABLE, Tissue.GAS]] = 0
    looks = tuple(replace(look, calcified=False) for look in scan.looks)
    return replace(scan, hu=signal, texture=texture, looks=looks)


def _rician(rng: np.random.Generator, signal: Floats, noise: float) -> Floats:
    """Return the magnitude of a complex signal with Gaussian noise in its real and imaginary parts."""
    real, imaginary = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(noise)
    return np.asarray(np.hypot(signal + real, imaginary))
