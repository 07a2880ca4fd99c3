"""Choose four of N members (equation 3)."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.uair.grids import Float32, Mask

Rule = Literal["belief", "max_variance", "medoids"]
SHOWN = 4
FEWEST_PLAUSIBLE = 8
"""At least this many members are kept, even if some are implausible, because the reader decides."""


@lru_cache(maxsize=32)
def quadruples(count: int) -> NDArray[np.intp]:
    """Return all ``(count choose 4, 4)`` quadruples of ``range(count)``, lexicographic."""
    return np.array(list(combinations(range(count), SHOWN)), np.intp)


def dice_matrix(masks: Mask) -> NDArray[np.float64]:
    """Return the pairwise Dice ``(N, N)`` of masks ``(N, …)``. Two empty masks have Dice 1."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    gram = (flat @ flat.T).astype(np.float64)
    sizes = np.diag(gram)
    total = sizes[:, None] + sizes[None, :]
    return np.where(total > 0, 2.0 * gram / np.maximum(total, 1.0), 1.0)


def plausible(masks: Mask, quality: NDArray[np.float32], organ: Mask | None = None) -> NDArray[np.intp]:
    """Return the indices of plausible members, ascending.

    Without this filter, the rule of maximal variance chooses failed members. A member is dropped if it is
    tiny (less than a fifth of the median size) or mostly outside the organ. It is also dropped if its
    predicted IoU is more than 0.15 below the median. The eighth of the members that agree least with the
    majority is dropped, too. At least `FEWEST_PLAUSIBLE` members stay, or all members if there are fewer.

    Parameters
    ----------
    masks
        ``(N, …)`` members.
    quality
        ``(N,)`` predicted IoU.
    organ
        ``(…)`` cells that the target may cover; None: all cells.
    """
    count = len(masks)
    flat = masks.reshape(count, -1)
    sizes = flat.sum(axis=1)
    majority = flat.mean(axis=0) >= 0.5
    agreement = 2.0 * (flat & majority).sum(axis=1) / np.maximum(sizes + majority.sum(), 1)
    bad = sizes < 0.2 * np.median(sizes)
    bad |= quality < np.median(quality) - 0.15
    bad |= agreement < np.quantile(agreement, 0.125)
    bad |= sizes == 0
    if organ is not None:
        bad |= (flat & organ.reshape(-1)).sum(axis=1) < 0.5 * sizes
    needed = min(FEWEST_PLAUSIBLE, count)
    order = np.lexsort((-agreement, bad))
    keep = max(needed, int((~bad).sum()))
    return np.sort(order[:keep])


def choose_four(
    masks: Mask,
    uncertain: Mask,
    rule: Rule,
    *,
    weights: NDArray[np.float64] | None = None,
    fixed: int | None = None,
) -> tuple[int, int, int, int]:
    """Return the indices of the four members to show. All quadruples are searched.

    Parameters
    ----------
    masks
        ``(N, …)``, N at least 4.
    uncertain
        ``(…)`` M_unc of equation 2.
    rule
        ``max_variance``: the largest sum over M_unc of the variance among the four members (equation 3).
        ``medoids``: the smallest expected distance (1 - Dice) from a member to the nearest shown member.
    weights
        ``(N,)`` probability of each member for `medoids`; uniform if None.
    fixed
        Index of a member that must be among the four; None if any four may be chosen.
    """
    options = quadruples(len(masks))
    if fixed is not None:
        options = options[(options == fixed).any(axis=1)]
    if rule == "max_variance":
        gains = _variance(masks, uncertain, options)
    else:
        distance = 1.0 - dice_matrix(masks)
        share = np.full(len(masks), 1.0 / len(masks)) if weights is None else weights
        gains = -(distance[:, options].min(axis=2) * share[:, None]).sum(axis=0)
    best = options[int(gains.argmax())]
    return int(best[0]), int(best[1]), int(best[2]), int(best[3])


def _variance(masks: Mask, uncertain: Mask, options: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the variance of each quadruple, summed over the uncertain cells, from the Gram matrix.

    For binary y the sum of squares about the mean of four is ``sum_i |y_i|^2 - |sum_i y_i|^2 / 4``. Its two
    terms are sums of entries of the Gram matrix. The variance is a third of this sum of squares.
    """
    flat = masks.reshape(len(masks), -1)[:, uncertain.reshape(-1)].astype(np.float32)
    gram = (flat @ flat.T).astype(np.float64)
    squares = np.diag(gram)[options].sum(axis=1)
    together = gram[options[:, :, None], options[:, None, :]].sum(axis=(1, 2))
    return (squares - together / SHOWN) / (SHOWN - 1)


def by_size(logits: Float32) -> Float32:
    """Return the candidates, the largest first. So candidate k means the same for every target of a round."""
    sizes = (logits > 0).reshape(len(logits), -1).sum(axis=1)
    return logits[np.argsort(-sizes, kind="stable")]
