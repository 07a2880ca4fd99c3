"""The look of a lesion: its contrast to the liver as a function of the depth below the lesion's surface."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from workers.phantoms.fields import Floats
from workers.phantoms.settings import PLAIN, Setting


class LesionKind(StrEnum):
    """The kind of a lesion, in a radiologist's words. It decides contrast, rim and inner structure."""

    HYPO = "hypodense"
    RIM = "rim-enhancing"
    HYPER = "hyperdense"
    HALO = "halo"
    CYST = "cyst"
    FAINT = "nearly isodense"
    CAPSULE = "encapsulated"
    NECROTIC = "necrotic"
    MOSAIC = "mosaic"


# The order in which varied lesions get their kinds: kinds with a clear contrast come first.
_VARIED = (
    LesionKind.HYPO,
    LesionKind.HYPER,
    LesionKind.RIM,
    LesionKind.HALO,
    LesionKind.CYST,
    LesionKind.FAINT,
)
_SHARES = (0.36, 0.16, 0.14, 0.16, 0.12, 0.06)
_COMPLEX = (LesionKind.CAPSULE, LesionKind.NECROTIC, LesionKind.MOSAIC)


@dataclass(frozen=True)
class LesionLook:
    """The look of one lesion. Contrasts are in HU relative to the liver, lengths in mm.

    Attributes
    ----------
    kind
        The kind of the lesion.
    core
        Contrast of the lesion's middle.
    rim, rim_width
        Contrast and thickness of an enhancing rim; 0 for none.
    halo_width, halo_share
        Thickness of an outer zone. The contrast of this zone is the part `halo_share` of the core's contrast.
    softness
        Width of the transition from lesion to liver at the surface.
    heterogeneity
        Strength of random variations inside the lesion, as a part of the core's contrast.
    calcified
        Whether the lesion has specks of calcium.
    necrosis
        Contrast of regions with fluid inside a solid lesion; 0 if there are none.
    """

    kind: LesionKind
    core: float
    rim: float
    rim_width: float
    halo_width: float
    halo_share: float
    softness: float
    heterogeneity: float
    calcified: bool
    necrosis: float = 0.0

    @property
    def rim_mm(self) -> float:
        """Thickness in mm of the outermost zone with its own density (rim, capsule or halo); 0 for none."""
        if self.rim != 0:
            return self.rim_width
        return self.halo_width if self.kind is LesionKind.HALO else 0.0

    def contrast(self, depth: Floats, coarse: Floats, fine: Floats) -> Floats:
        """Return the difference ``(n,)`` in HU of the lesion's density from the liver's density.

        Parameters
        ----------
        depth
            ``(n,)`` depth below the lesion's surface, mm, negative outside.
        coarse, fine
            ``(n,)`` unit-variance fields.
        """
        weight = self._step(depth)
        if self.halo_width > 0:
            # a halo never takes more than a third of the lesion's radius
            width = min(self.halo_width, 0.35 * max(float(depth.max()), 1.0))
            weight = self.halo_share * weight + (1 - self.halo_share) * self._step(depth - width)
        added = weight * self.core * (1 + self.heterogeneity * (fine - np.clip(coarse, -0.3, 1)))
        if self.necrosis != 0:
            fluid = self._step(6 * (coarse + 0.2)) * self._step(depth - min(4.0, 0.4 * float(depth.max())))
            added = added * (1 - fluid) + self.necrosis * fluid
        if self.rim != 0:
            ring = np.exp(-(((depth - self.rim_width / 2) / (self.rim_width / 2)) ** 2))
            added = added + ring * (self.rim - 0.5 * self.core if self.rim > 0 else 0.3 * self.rim)
        if self.calcified:
            added = added + 250 * ((fine > 1.3) & (depth > 1))
        return added.astype(np.float32)

    def _step(self, depth: Floats) -> Floats:
        return (1 / (1 + np.exp(-np.clip(depth / self.softness * 1.7, -20, 20)))).astype(np.float32)


def draw_look(
    rng: np.random.Generator,
    liver_hu: float,
    start: int,
    number: int,
    varied: bool,
    setting: Setting = PLAIN,
) -> LesionLook:
    """Draw the look of a lesion at random.

    Parameters
    ----------
    rng
        Source of randomness.
    liver_hu
        Density of the parenchyma in HU.
    start
        A random number of the patient. It decides the kind of most lesions.
    number
        Number of the lesion, from 0. If `varied` is true, then the number decides the kind.
    varied
        If true, then the lesions have different kinds. Their contrasts are at least 25 HU, except for nearly
        isodense lesions.
    setting
        The setting. It decides the strength of contrasts, and how often complex kinds occur.
    """
    if setting.complex_look and rng.random() < setting.complex_look:
        kind = _COMPLEX[int(rng.integers(len(_COMPLEX)))]
    elif varied:
        kind = _VARIED[number % len(_VARIED)]
    elif rng.random() < 0.6:
        kind = _VARIED[start % 4]
    else:
        kind = _VARIED[int(rng.choice(len(_VARIED), p=_SHARES))]
    if setting.contrast_hu is not None:
        strength = rng.uniform(*setting.contrast_hu)
    else:
        strength = rng.uniform(28, 70) if varied else float(np.clip(abs(rng.normal(0, 32)), 8, 90))
    core, rim, necrosis = -strength, 0.0, 0.0
    if kind is LesionKind.HYPER:
        core = 0.9 * strength
    elif kind is LesionKind.RIM:
        rim = rng.uniform(0.2, 1.2) * strength
    elif kind is LesionKind.CYST:
        core = min(-8.0, rng.uniform(-5, 22) - liver_hu)
    elif kind is LesionKind.FAINT:
        core = float(rng.choice((-1, 1))) * rng.uniform(8, 14)
    elif kind is LesionKind.CAPSULE:
        core = float(rng.choice((-1, 1), p=(0.7, 0.3))) * max(10.0, 0.6 * strength)
        rim = float(rng.choice((-1, 1))) * rng.uniform(15, 45)
    elif kind is LesionKind.NECROTIC:
        core = float(rng.choice((-1, 1), p=(0.75, 0.25))) * max(10.0, 0.5 * strength)
        necrosis = core - rng.uniform(20, 60)
    halo = kind is LesionKind.HALO
    return LesionLook(
        kind=kind,
        core=core,
        rim=rim,
        rim_width=rng.uniform(1.2, 2.5) if kind is LesionKind.CAPSULE else rng.uniform(1.5, 6),
        halo_width=rng.uniform(1.0, 3.5) if halo else rng.uniform(0, 1.5) if rng.random() < 0.4 else 0.0,
        halo_share=rng.uniform(0.1, 0.5),
        softness=rng.uniform(0.35, 2.6),
        heterogeneity=rng.uniform(0.4, 1.0) if kind is LesionKind.MOSAIC else rng.uniform(0, 0.35),
        calcified=kind is not LesionKind.CYST and rng.random() < 0.08,
        necrosis=necrosis,
    )
