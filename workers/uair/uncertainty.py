"""Uncertainty: the cells in which the members disagree (equation 2)."""

from __future__ import annotations

import numpy as np

from workers.uair.grids import Float32, Mask

THRESHOLD = 0.2
"""If a mask fills its box well, cells with a larger standard deviation of probability are uncertain."""
ELLIPSE_IN_BOX = np.pi / 4.0
LEAST_PART = 0.4
FEWEST_CELLS = 8
FALLBACK_QUANTILE = 0.98


def threshold(mask_area: float, box_area: float) -> float:
    """Return T of equation 2, a function of two areas: S_y of the ensemble's mask, S_b of the prompt box.

    ``T = 0.2 * clip((S_y / S_b) / (pi / 4), 0.4, 1)``. A convex target fills pi / 4 of its box. If the
    ensemble's mask fills less, then the members found only a piece of the target. So weaker disagreement is
    shown, too. If the mask fills its box, then the threshold is not reduced. The paper names S_y and S_b but
    gives no formula; this formula is ours.
    """
    if box_area <= 0:
        return THRESHOLD
    filled = (mask_area / box_area) / ELLIPSE_IN_BOX
    return float(THRESHOLD * np.clip(filled, LEAST_PART, 1.0))


def uncertain_region(deviation: Float32, limit: float) -> Mask:
    """Return M_unc, the cells whose deviation exceeds `limit` (equation 2).

    If the members agree nearly everywhere, then the 2 % most uncertain cells are returned. So these cells can
    still decide the choice of four candidates.
    """
    region = deviation > limit
    if region.sum() < FEWEST_CELLS:
        region = deviation >= max(float(np.quantile(deviation, FALLBACK_QUANTILE)), 1e-6)
    return np.asarray(region)


def deviation_from(reference: Float32, predictions: Float32) -> Float32:
    """Return the root mean square difference of predictions ``(N, …)`` from a selected reference ``(…)``.

    After a selection the reference replaces the mean of equation 1 (section 4.4 of the paper).
    """
    return np.sqrt(((predictions - reference) ** 2).mean(axis=0)).astype(np.float32)
