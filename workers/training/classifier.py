"""Fitting a `Classifier`: logistic boosting on quantile bins (Friedman 2001), and ridge logistic regression.

Written for a few thousand rows; deterministic for a seed. Knows nothing of lesions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.uair.classifier import Classifier, Forest, Linear

_BINS = 32
_DIGITS = 5
_RIDGE = 10.0
_NEWTON_STEPS = 30
_NEVER = 1e30
"""A threshold that nothing exceeds."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class BoostingOptions:
    """How a forest is grown.

    Parameters
    ----------
    trees, depth
        Size of the forest.
    rate
        Part of each tree's Newton step that is taken.
    ridge
        Added to the curvature of every leaf.
    least_curvature
        A child holds at least this much curvature (a quarter for each undecided row).
    share
        Part of rows and of features that a tree sees.
    seed
        Of that choice.
    """

    trees: int = 150
    depth: int = 2
    rate: float = 0.06
    ridge: float = 4.0
    least_curvature: float = 2.0
    share: float = 0.6
    seed: int = 0


def fit_classifier(
    rows: NDArray[np.floating], truth: NDArray[np.bool_], names: tuple[str, ...], options: BoostingOptions
) -> Classifier:
    """Fit probabilities of `truth` ``(n,)`` to feature rows ``(n, F)``.

    Raises
    ------
    ValueError
        If there are no rows, or all of one kind.
    """
    exact = np.asarray(rows, np.float64)
    if len(rows) == 0 or truth.all() or not truth.any():
        raise ValueError("needs rows of both kinds")
    return Classifier(names, fit_forest(exact, truth, options), fit_linear(exact, truth))


def fit_linear(rows: Rows, truth: NDArray[np.bool_]) -> Linear:
    """Fit a logistic regression by Newton's method; the ridge keeps separable rows finite."""
    spread = np.maximum(rows.std(axis=0), 1e-6)
    start = Linear(rows.mean(axis=0), spread, np.zeros(rows.shape[1]), 0.0)
    table = np.column_stack([start.standardised(rows), np.ones(len(rows))])
    ridge = np.diag([_RIDGE] * rows.shape[1] + [1e-6])
    weights = np.zeros(table.shape[1])
    for _ in range(_NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-table @ weights))
        bend = (table * (chance * (1.0 - chance))[:, None]).T @ table + ridge
        weights = weights - np.linalg.solve(bend, table.T @ (chance - truth) + ridge @ weights)
    mean, spread, short = (_rounded(values) for values in (start.mean, spread, weights))
    return Linear(mean, spread, short[:-1], float(short[-1]))


def _rounded(values: Rows) -> Rows:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


def fit_forest(rows: Rows, truth: NDArray[np.bool_], options: BoostingOptions) -> Forest:
    """Fit a forest; see `fit_classifier`."""
    edges = _edges(rows)
    bins = np.stack([np.searchsorted(edge, row) for edge, row in zip(edges, rows.T, strict=True)], axis=1)
    rng = np.random.default_rng(options.seed)
    bias = float(np.log(truth.mean() / (1.0 - truth.mean())))
    score = np.full(len(rows), bias)
    features, thresholds, leaves = [], [], []
    for _ in range(options.trees):
        chance = 1.0 / (1.0 + np.exp(-score))
        slope, curvature = truth - chance, chance * (1.0 - chance)
        seen = rng.random(len(rows)) < options.share
        allowed = np.sort(rng.permutation(len(edges))[: max(1, round(options.share * len(edges)))])
        asked, after, node = _grow(bins, slope * seen, curvature * seen, allowed, options)
        values = _leaves(node, slope * seen, curvature * seen, options)
        score = score + values[node]
        features.append(asked)
        pairs = zip(asked, after, strict=True)
        thresholds.append([edges[f][c] if c < len(edges[f]) else _NEVER for f, c in pairs])
        leaves.append(values)
    cuts = np.asarray(thresholds)
    return Forest(round(bias, _DIGITS), np.asarray(features), cuts, np.round(leaves, _DIGITS))


def _edges(rows: Rows) -> list[Rows]:
    """Return the cuts of each feature: quantiles, rounded so that they are short to write."""
    quantiles = np.quantile(rows, np.linspace(0.0, 1.0, _BINS + 1)[1:-1], axis=0).T
    return [np.unique([float(f"{value:.{_DIGITS}g}") for value in cuts]) for cuts in quantiles]


def _grow(
    bins: NDArray[np.intp], slope: Rows, curvature: Rows, allowed: NDArray[np.intp], options: BoostingOptions
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return feature and cut of each inner node, and the leaf ``(n,)`` of each row.

    A node that no cut helps sends everything left (a cut beyond the last bin).
    """
    count = 2**options.depth - 1
    asked, cuts = np.zeros(count, np.intp), np.full(count, _BINS, np.intp)
    node = np.zeros(len(bins), np.intp)
    for parent in range(count):
        here = np.flatnonzero(node == parent)
        found = _best_cut(bins[here], slope[here], curvature[here], allowed, options)
        if found is not None:
            asked[parent], cuts[parent] = found
        right = bins[here, asked[parent]] > cuts[parent]
        node[here] = 2 * parent + 1 + right
    return asked, cuts, node - count


def _best_cut(
    bins: NDArray[np.intp], slope: Rows, curvature: Rows, allowed: NDArray[np.intp], options: BoostingOptions
) -> tuple[int, int] | None:
    """Return the feature and the bin after which to cut, or None if nothing is gained."""
    best, gained = None, 1e-9
    whole = slope.sum() ** 2 / (curvature.sum() + options.ridge)
    for feature in allowed:
        left = np.cumsum(np.bincount(bins[:, feature], slope, _BINS))
        weight = np.cumsum(np.bincount(bins[:, feature], curvature, _BINS))
        right, rest = slope.sum() - left, curvature.sum() - weight
        gain = left**2 / (weight + options.ridge) + right**2 / (rest + options.ridge) - whole
        gain[(weight < options.least_curvature) | (rest < options.least_curvature)] = 0.0
        cut = int(gain.argmax())
        if gain[cut] > gained:
            best, gained = (int(feature), cut), float(gain[cut])
    return best


def _leaves(node: NDArray[np.intp], slope: Rows, curvature: Rows, options: BoostingOptions) -> Rows:
    count = 2**options.depth
    up, down = np.bincount(node, slope, count), np.bincount(node, curvature, count)
    return np.asarray(options.rate * up / (down + options.ridge))
