"""Uncertainty: the cells in which the members disagree (equation 2)."""

from __future__ import annotations

import numpy as np

from workers.uair.grids import Float32, Mask

THRESHOLD = 0.2
"""A cell of a well-filled box is uncertain above this standard deviation of probability."""
ELLIPSE_IN_BOX = np.pi / 4.0
LEAST_PART = 0.4
FEWEST_CELLS = 8
FALLBACK_QUANTILE = 0.98


def threshold(mask_area: float, box_area: float) -> float:
    """Return T of equation 2, a function of the area ratio of ensemble mask and prompt box.

    ``T = 0.2 * clip((S_y / S_b) / (pi / 4), 0.4, 1)``. A convex target fills pi / 4 of its box. If the
    ensembled mask fills less, then the members found only a part of the target. Then weaker disagreement is
    shown, too. A mask that fills its box keeps the full threshold. The paper names S_y and S_b but gives no
    formula; this formula is ours.
    """
    if box_area <= 0:
        return THRESHOLD
    filled = (mask_area / box_area) / ELLIPSE_IN_BOX
    return float(THRESHOLD * np.clip(filled, LEAST_PART, 1.0))


def uncertain_region(deviation: Float32, limit: float) -> Mask:
    """Return M_unc, the cells whose deviation exceeds `limit` (equation 2).

    If the members agree nearly everywhere, then the 2 % most uncertain cells are returned. So four candidates
    can still be chosen by them.
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
