"""Compute means with confidence intervals by a bootstrap over cases.

Lesions of one patient are similar, so whole cases are resampled instead of lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval. `low` and `high` are None for fewer than two cases."""

    mean: float
    low: float | None
    high: float | None


def estimate(values: Sequence[float], cases: Sequence[str]) -> Estimate:
    """Return the mean of values with its 95 % interval.

    The interval comes from a percentile bootstrap. In each of `RESAMPLES` repetitions, as many cases as given
    are drawn with replacement. Each drawn case contributes all its values to a mean. The interval contains
    the middle 95 % of these means. The same values always give the same interval.

    Parameters
    ----------
    values
        The values, at least one.
    cases
        The name of the case of each value.

    Raises
    ------
    ValueError
        If there is no value, or if `values` and `cases` differ in length.
    """
    if not values or len(values) != len(cases):
        raise ValueError(f"{len(values)} values of {len(cases)} cases")
    mean = float(np.mean(values))
    names, of_case = np.unique(np.asarray(cases), return_inverse=True)
    if len(names) < 2:
        return Estimate(mean, None, None)
    sums = np.bincount(of_case, weights=np.asarray(values, float))
    counts = np.bincount(of_case).astype(float)
    drawn = np.random.default_rng(_SEED).integers(len(names), size=(RESAMPLES, len(names)))
    means: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high))
