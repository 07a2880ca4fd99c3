"""Estimate how likely a proposal is a lesion, after the model answered prompts about it.

Most proposals are wrong: blurred edges, vessels, the gallbladder's bed. A lesion differs from them by four
features of its ensemble. Its members agree, liver surrounds it, it has some volume, and a learned finder saw
it. Without a finder, the fourth feature is a density that differs from the liver's by a lesion's amount.
The model's own predicted IoU is left out: its scale differs from model to model.
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
"""A contrast beyond this, in the liver's robust standard deviations, is fat or gas rather than a lesion."""
FAINTEST = 1.2
DOUBTFUL = 0.5
"""Without a finder, a proposal with less confidence than this is not shown."""
HARDLY_SEEN = 0.05
"""With a finder, a proposal with less confidence than this is not shown.

On phantoms, this limit leaves about two false lesions a case, each in two of the four candidates.
"""
SURE = 0.85
"""A lesion with less confidence than this is left out of two of the first four candidates.

The reader decides.
"""
CERTAIN = 0.97
"""A lesion with less confidence than this is left out of one of the first four candidates."""

VOLUME_ENOUGH_ML = 5.0
"""A larger volume in ml is no further evidence. Stomach and gallbladder, if proposed, are large, too."""
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
        The part of the ring from 2 to 7 mm around the lesion that is liver.
    volume_ml
        Volume of the majority mask.
    contrast
        Median density inside minus the liver's, divided by the liver's robust standard deviation.
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
        """Logistic score, 0 … 1. It is a ranking, not a probability.

        With a learned finder, density is not used: nine of ten lesions that only density proposed were wrong.
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
    """Return the evidence for a proposal from its ensemble; None if the members have no majority.

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
        ``(n, h, w)`` of a learned finder.
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

    A less certain lesion is left out of more candidates. After a pick, candidate 1 is the reader's selection,
    and only the new candidates may lack it.
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
