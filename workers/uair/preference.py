"""The preference that a selection shows: over members, and along the inclusive/tight axis (after SPA).

A reader who picks among four candidates tells two things. The first is which members are near the truth:
their posterior falls with their distance from the pick. The second is how generously the reader draws: a
posterior over the size that the reader wants. If the reader picks the largest of four, then still larger
sizes become likely, so the next round reaches beyond what was shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
FARTHEST = 0.4
"""Log radius ratio that a remembered preference moves a belief by at most; the axis ends at 0.6."""

TEMPERATURE = 0.04
"""Dice difference by which a member's posterior falls to 1/e; two good outlines of one lesion differ so."""
AXIS = np.linspace(-0.6, 0.6, 121)
PRIOR_SPREAD = 0.12
"""Standard deviation of the log radius that readers draw, about the ensemble's mean."""
CHOICE_NOISE = 0.04
"""Log radius difference that a reader overlooks because other things than size decide, too."""


def member_posterior(agreement: Float64, prior: Float64 | None = None) -> Float64:
    """Return the posterior ``(N,)`` over members, given their Dice with the pick."""
    weight = np.exp((agreement - agreement.max()) / TEMPERATURE)
    if prior is not None:
        weight = weight * prior
    return np.asarray(weight / weight.sum())


def radius_mm(volume_ml: float) -> float:
    """Return the radius of the sphere of this volume; a nanolitre at least, so that logs exist."""
    return float((max(volume_ml, 1e-6) * 1000.0 * 0.75 / np.pi) ** (1.0 / 3.0))


def _centre(base_mm: float, offset_mm: float) -> float:
    ratio = (base_mm + offset_mm) / base_mm
    return float(np.clip(np.log(max(ratio, 1e-6)), -FARTHEST, FARTHEST))


@dataclass(frozen=True)
class ReaderPreference:
    """How generously a reader is remembered to draw: mm of radius beyond the model's own mean.

    In mm, and not in percent: a reader who includes the rim adds as much to a small lesion as to a large one.

    Parameters
    ----------
    liver_mm, lesion_mm
        Positive: more inclusive; 0: nothing is known.
    """

    liver_mm: float = 0.0
    lesion_mm: float = 0.0


NEUTRAL = ReaderPreference()


@dataclass(frozen=True)
class SizePosterior:
    """Belief about the size that the reader wants: log of radius over `base_mm`, on the grid `AXIS`.

    Parameters
    ----------
    base_mm
        Equivalent radius of the first ensemble's mean.
    mass
        ``(121,)`` probability of each grid value.
    """

    base_mm: float
    mass: Float64

    @classmethod
    def prior(cls, base_mm: float, spread: float = PRIOR_SPREAD, offset_mm: float = 0.0) -> SizePosterior:
        """Return the belief before any selection, about a radius of `base_mm` + `offset_mm`."""
        mass = np.exp(-0.5 * ((AXIS - _centre(base_mm, offset_mm)) / spread) ** 2)
        return cls(base_mm, mass / mass.sum())

    def with_preference(self, offset_mm: float, before_mm: float) -> SizePosterior:
        """Return the belief as if it had begun about `offset_mm` and not about `before_mm`."""
        begun, meant = (self.prior(self.base_mm, offset_mm=mm).mass for mm in (before_mm, offset_mm))
        mass = self.mass * meant / begun
        return SizePosterior(self.base_mm, mass / mass.sum())

    def position(self, volume_ml: float) -> float:
        """Return where a volume lies on the axis."""
        return float(np.clip(np.log(radius_mm(volume_ml) / self.base_mm), AXIS[0], AXIS[-1]))

    def after_pick(self, volumes_ml: tuple[float, ...], picked: int) -> SizePosterior:
        """Return the belief after candidate number `picked` (0-based) of `volumes_ml` was selected.

        Likelihood of the pick: soft choice of the candidate whose size is nearest to what is wanted.
        """
        positions = np.array([self.position(volume) for volume in volumes_ml])
        misfit = -0.5 * ((AXIS[:, None] - positions[None, :]) / CHOICE_NOISE) ** 2
        misfit -= misfit.max(axis=1, keepdims=True)
        likelihood = np.exp(misfit[:, picked]) / np.exp(misfit).sum(axis=1)
        mass = self.mass * (likelihood + 1e-3)
        return SizePosterior(self.base_mm, mass / mass.sum())

    def widened(self) -> SizePosterior:
        """Return a belief twice as wide, after all candidates were rejected."""
        return SizePosterior.prior(self.base_mm * float(np.exp(self.mean)), 2.0 * PRIOR_SPREAD)

    def density(self, volume_ml: float) -> float:
        """Return the mass at a volume."""
        return float(np.interp(self.position(volume_ml), AXIS, self.mass))

    @property
    def mean(self) -> float:
        """Expected log radius ratio."""
        return float((AXIS * self.mass).sum())

    def quantiles(self, parts: Float64) -> Float64:
        """Return the axis values below which the given parts of the mass lie."""
        return np.interp(parts, np.cumsum(self.mass) - self.mass / 2.0, AXIS)

    def radii_mm(self, parts: Float64) -> Float64:
        """Return the radii at the given quantiles."""
        return self.base_mm * np.exp(self.quantiles(parts))
