"""Estimate how likely a proposal (a possible lesion) is a real lesion, from the ensemble of the proposal.

Most proposals are wrong: they are blurred edges, vessels, or the gallbladder's bed. A lesion differs from
them by four features. The members of its ensemble agree, liver surrounds it, it is not tiny, and a learned
lesion finder gave it a high probability. Without a finder, the fourth feature is the density, which must
differ from the liver's density as it does in lesions. The model's own predicted IoU is not used, because its
scale differs from model to model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from workers.uair.candidates import dice_matrix
from workers.uair.ensemble import Ensemble
from workers.uair.extent import Tissue
from workers.uair.grids import Crop, Float32, Mask

RING_MM = (2.0, 7.0)
DARKEST = 6.0
"""A larger contrast, in robust standard deviations of the liver's density, is fat or gas and no lesion."""
FAINTEST = 1.2
DOUBTFUL = 0.5
"""Without a finder, a proposal with less confidence than this is not shown."""
HARDLY_SEEN = 0.05
"""With a finder, a proposal with less confidence than this is not shown.

On phantoms, this limit leaves about two false lesions per case, each in two of the four candidates.
"""
SURE = 0.85
"""A lesion with less confidence than this is left out of two of the first four candidates.

The reader decides whether the lesion is real.
"""
CERTAIN = 0.97
"""A lesion with less confidence than this is left out of one of the first four candidates."""

VOLUME_ENOUGH_ML = 5.0
"""Volume above this value, in ml, is no further evidence.

A stomach or gallbladder that is wrongly proposed is large, too.
"""
LEAST_SURE_ML = 1.0
"""A lesion below this volume in ml (12 mm across) stays doubtful, even if its features are clear."""


@dataclass(frozen=True)
class Evidence:
    """The evidence for and against a lesion.

    Parameters
    ----------
    agreement
        Mean pairwise Dice of the members.
    surrounded
        The fraction of liver in the ring from 2 to 7 mm around the lesion.
    volume_ml
        Volume of the majority mask.
    contrast
        Median density of the majority mask minus the liver's median density, divided by the robust standard
        deviation of the liver's density.
    seen
        Mean probability of a learned finder inside the majority mask; None without a finder.
    peak
        90th percentile of the finder's probability inside the majority mask; None without a finder.
    """

    agreement: float
    surrounded: float
    volume_ml: float
    contrast: float
    seen: float | None = None
    peak: float | None = None

    @property
    def confidence(self) -> float:
        """Logistic score, 0 … 1. It ranks proposals, but it is no probability.

        With a learned finder, density is not used: nine of ten proposals from density alone were no lesions.
        """
        if self.seen is None or self.peak is None:
            confidence = self._by_density()
        else:
            confidence = self._by_finder(self.seen, self.peak)
        return confidence if self.volume_ml >= LEAST_SURE_ML else min(confidence, SURE - 0.01)

    @property
    def shown(self) -> bool:
        """Whether the lesion is shown to the reader."""
        return self.confidence >= (DOUBTFUL if self.seen is None else HARDLY_SEEN)

    def _by_density(self) -> float:
        """Return the score without a finder. Its weights were set by hand on six phantoms and one real CT."""
        return _logistic(
            12.0 * (self.agreement - 0.58)
            + 4.0 * (self.surrounded - 0.5)
            + 0.8 * self._size()
            - 0.5 * max(0.0, abs(self.contrast) - DARKEST)
            - max(0.0, FAINTEST - abs(self.contrast))
            - 1.0
        )

    def _by_finder(self, seen: float, peak: float) -> float:
        """Return the score with a finder."""
        return _logistic(
            6.0 * (peak - 0.5)
            + 3.0 * (seen - 0.4)
            + 4.0 * (self.agreement - 0.58)
            + 2.0 * (self.surrounded - 0.5)
            + 0.4 * self._size()
            - 0.5
        )

    def _size(self) -> float:
        return float(np.log(np.clip(self.volume_ml, 1e-3, VOLUME_ENOUGH_ML) / 0.7))


def _logistic(score: float) -> float:
    return float(1.0 / (1.0 + np.exp(-score)))


def evidence_of(
    pool: Ensemble,
    hu: Float32,
    liver: Mask,
    tissue: Tissue,
    crop: Crop,
    probability: Float32 | None = None,
) -> Evidence | None:
    """Return the evidence for a proposal; None if no cell is in at least half of the members.

    Parameters
    ----------
    pool
        The proposal's first ensemble.
    hu
        ``(n, h, w)`` mean HU of mask cells.
    liver
        ``(n, h, w)`` the liver on the proposal's crop.
    tissue
        The liver's density.
    crop
        The proposal's crop.
    probability
        ``(n, h, w)`` lesion probability of a learned finder; None without a finder.
    """
    majority = pool.masks.mean(axis=0) >= 0.5
    if not majority.any():
        return None
    similarity = dice_matrix(pool.masks)
    count = len(similarity)
    spacing = (crop.step_mm, crop.cell_mm, crop.cell_mm)
    distance = ndimage.distance_transform_edt(~majority, spacing)
    ring = (distance > RING_MM[0]) & (distance < RING_MM[1])
    return Evidence(
        agreement=float((similarity.sum() - count) / max(1, count * (count - 1))),
        surrounded=float((ring & liver).sum() / max(1, ring.sum())),
        volume_ml=float(majority.sum() * crop.cell_volume_ml),
        contrast=(float(np.median(hu[majority])) - tissue.median) / tissue.spread,
        seen=None if probability is None else float(probability[majority].mean()),
        peak=None if probability is None else float(np.percentile(probability[majority], 90)),
    )


def shown_in(confidences: list[float], *, first: bool) -> list[tuple[bool, bool, bool, bool]]:
    """Return for each lesion whether candidates 1 to 4 contain it.

    A less certain lesion is left out of more candidates. After a pick, candidate 1 is the reader's selection.
    Then only the new candidates may lack the lesion.
    """
    doubtful = (True, False, True, False) if first else (True, True, False, False)
    return [
        (True,) * 4
        if confidence >= CERTAIN
        else (True, True, True, False)
        if confidence >= SURE
        else doubtful
        for confidence in confidences
    ]
