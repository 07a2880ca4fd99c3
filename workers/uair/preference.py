"""Learn the reader's preference from a selection: over members, and over sizes.

A pick among four candidates gives two kinds of information. First, it shows the members that are near the
truth: a member's posterior falls with its distance from the pick. Second, it gives a posterior over the size
that the reader wants. If the reader picks the largest candidate, then still larger sizes become likely. So
the next round shows larger shapes than this round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
FARTHEST = 0.4
"""The largest log radius ratio by which a remembered preference moves a belief. `AXIS` ends at 0.6."""

TEMPERATURE = 0.04
"""The Dice difference at which a member's posterior falls to 1/e.

Two good outlines of a lesion differ by this much.
"""
AXIS = np.linspace(-0.6, 0.6, 121)
PRIOR_SPREAD = 0.12
"""Standard deviation of the log radius that readers draw, around the ensemble's mean."""
CHOICE_NOISE = 0.04
"""The log radius difference that a reader ignores, because the size is not the only reason for a pick."""


def member_posterior(agreement: Float64, prior: Float64 | None = None) -> Float64:
    """Return the posterior ``(N,)`` over members, given their Dice with the pick."""
    weight = np.exp((agreement - agreement.max()) / TEMPERATURE)
    if prior is not None:
        weight = weight * prior
    return np.asarray(weight / weight.sum())


def radius_mm(volume_ml: float) -> float:
    """Return the radius in mm of a sphere with this volume.

    The volume is at least a nanolitre, so that the radius has a logarithm.
    """
    return float((max(volume_ml, 1e-6) * 1000.0 * 0.75 / np.pi) ** (1.0 / 3.0))


def _centre(base_mm: float, offset_mm: float) -> float:
    ratio = (base_mm + offset_mm) / base_mm
    return float(np.clip(np.log(max(ratio, 1e-6)), -FARTHEST, FARTHEST))


@dataclass(frozen=True)
class ReaderPreference:
    """The remembered preference of a reader: mm of radius beyond the model's mean.

    The unit is mm and not percent. A reader who includes the rim adds the same width to small and large
    lesions.

    Parameters
    ----------
    liver_mm, lesion_mm
        Positive if the reader draws more inclusively than the model; 0 if unknown.
    """

    liver_mm: float = 0.0
    lesion_mm: float = 0.0


NEUTRAL = ReaderPreference()


@dataclass(frozen=True)
class SizePosterior:
    """Belief about the size that the reader wants: log of radius / `base_mm`, on the grid `AXIS`.

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
        """Return the belief before any selection, around a radius of `base_mm` + `offset_mm`."""
        mass = np.exp(-0.5 * ((AXIS - _centre(base_mm, offset_mm)) / spread) ** 2)
        return cls(base_mm, mass / mass.sum())

    def with_preference(self, offset_mm: float, before_mm: float) -> SizePosterior:
        """Return the belief as if it had begun around `offset_mm` instead of `before_mm`."""
        begun, meant = (self.prior(self.base_mm, offset_mm=mm).mass for mm in (before_mm, offset_mm))
        mass = self.mass * meant / begun
        return SizePosterior(self.base_mm, mass / mass.sum())

    def position(self, volume_ml: float) -> float:
        """Return the position of a volume on the size axis: the logarithm of its radius over `base_mm`."""
        return float(np.clip(np.log(radius_mm(volume_ml) / self.base_mm), AXIS[0], AXIS[-1]))

    def after_pick(self, volumes_ml: tuple[float, ...], picked: int) -> SizePosterior:
        """Return the belief after candidate number `picked` (0-based) of `volumes_ml` was selected.

        The likelihood assumes that the reader usually picks the candidate nearest to the wanted size.
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
        """Return the probability mass at a volume."""
        return float(np.interp(self.position(volume_ml), AXIS, self.mass))

    @property
    def mean(self) -> float:
        """Expected log radius ratio."""
        return float((AXIS * self.mass).sum())

    def quantiles(self, parts: Float64) -> Float64:
        """Return the axis values below which the given fractions of the mass lie."""
        return np.interp(parts, np.cumsum(self.mass) - self.mass / 2.0, AXIS)

    def radii_mm(self, parts: Float64) -> Float64:
        """Return the radii in mm at the given quantiles."""
        return self.base_mm * np.exp(self.quantiles(parts))
