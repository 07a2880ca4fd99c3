"""How likely a proposed lesion is one, once the model has been asked about it.

Proposals are cheap and mostly wrong: blurred edges, vessels, the gallbladder's bed. After the ensemble, a
lesion differs from them by four features. Members agree; liver lies all around; there is some volume; a
learned finder saw it. Without a finder, its density differs from the liver's by a lesion's amount. The
model's own predicted IoU is left out: its scale differs from model to model.
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
"""Contrast, in the liver's robust standard deviations, beyond which it is fat or gas rather than lesion."""
FAINTEST = 1.2
DOUBTFUL = 0.5
"""A proposal of less confidence is not shown at all, where density alone speaks."""
HARDLY_SEEN = 0.05
"""The same where a learned finder looked: about two false ones a case on phantoms, in half of the four."""
SURE = 0.85
"""A lesion of less confidence is left out of two of the first four candidates, so that the reader decides."""
CERTAIN = 0.97
"""A lesion of less confidence is left out of one."""

VOLUME_ENOUGH_ML = 5.0
"""More volume than this is no further evidence: misread stomach and gallbladder are large, too."""
LEAST_SURE_ML = 1.0
"""Below this (12 mm across) a lesion stays doubtful, however clear it looks."""


@dataclass(frozen=True)
class Evidence:
    """The evidence for and against a lesion.

    Parameters
    ----------
    agreement
        Mean pairwise Dice of the members.
    surrounded
        Part of the ring 2 to 7 mm around that is liver.
    volume_ml
        Volume of the majority mask.
    contrast
        Median density inside less the liver's, over the liver's robust standard deviation.
    seen
        Mean probability of a learned finder inside the majority mask; None without one.
    peak
        The same, its 90th percentile.
    """

    agreement: float
    surrounded: float
    volume_ml: float
    contrast: float
    seen: float | None = None
    peak: float | None = None

    @property
    def confidence(self) -> float:
        """Logistic score, 0 … 1; it ranks, it is no probability.

        Where a learned finder looked, density is not asked: what it alone believed in was wrong nine times
        out of ten.
        """
        if self.seen is None or self.peak is None:
            confidence = self._by_density()
        else:
            confidence = self._by_finder(self.seen, self.peak)
        return confidence if self.volume_ml >= LEAST_SURE_ML else min(confidence, SURE - 0.01)

    @property
    def shown(self) -> bool:
        """Whether a reader is asked about it."""
        return self.confidence >= (DOUBTFUL if self.seen is None else HARDLY_SEEN)

    def _by_density(self) -> float:
        """Return the score without a finder; weights set by hand on six phantoms and one real CT."""
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
    """Weigh a proposal by its ensemble, or return None if the members have no majority.

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
    """Return for each lesion in which of candidates 1 to 4 it appears.

    The less certain a lesion, the more of the four are without it. After a pick candidate 1 is what the
    reader selected, so there only new candidates are.
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
