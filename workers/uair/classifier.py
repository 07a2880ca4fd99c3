"""A small classifier over a few numbers (boosted trees averaged with a linear model) and its JSON form.

Trees find interactions; the linear model keeps a direction where training had few examples (large lesions),
and there trees alone were measurably worse. Plain arrays, so that a model is a short text file and its answer
the same on every machine. Fitting is in `workers.training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WITHIN = 3.0
"""The linear model takes no feature for farther from the mean than this many standard deviations."""


@dataclass(frozen=True)
class Forest:
    """``T`` trees of depth ``d`` whose leaves add up to a log-odds.

    Parameters
    ----------
    bias
        Log-odds before any tree.
    features
        ``(T, 2^d - 1)`` which feature a node asks; node ``i`` has the children ``2 i + 1`` and ``2 i + 2``.
    thresholds
        ``(T, 2^d - 1)``; a larger value goes to the right child.
    leaves
        ``(T, 2^d)`` log-odds to add.
    """

    bias: float
    features: NDArray[np.intp]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]

    def log_odds(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``(n,)`` sums for feature rows ``(n, F)``."""
        trees = np.arange(len(self.leaves))
        inner = self.features.shape[1]
        node = np.zeros((len(rows), len(trees)), np.intp)
        while inner and node.max(initial=0) < inner:
            right = (
                np.take_along_axis(rows, self.features[trees, node], axis=1) > self.thresholds[trees, node]
            )
            node = 2 * node + 1 + right
        return np.asarray(self.bias + self.leaves[trees, node - inner].sum(axis=1))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "bias": self.bias,
            "features": self.features.tolist(),
            "thresholds": self.thresholds.tolist(),
            "leaves": self.leaves.tolist(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Forest:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, ValueError
            If `record` is not a forest.
        """
        features = np.asarray(record["features"], np.intp)
        thresholds = np.asarray(record["thresholds"], np.float64)
        leaves = np.asarray(record["leaves"], np.float64)
        if not (
            features.shape == thresholds.shape and leaves.shape == (len(features), features.shape[1] + 1)
        ):
            raise ValueError("trees of different shapes")
        return cls(float(record["bias"]), features, thresholds, leaves)


@dataclass(frozen=True)
class Linear:
    """A weighted sum of standardised features, clipped at `WITHIN`.

    Parameters
    ----------
    mean, spread
        ``(F,)`` of the training rows.
    weights
        ``(F,)``.
    bias
        Added to the sum.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float

    def standardised(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``(n, F)`` rows in standard deviations from the mean."""
        return np.asarray(np.clip((rows - self.mean) / self.spread, -WITHIN, WITHIN))

    def log_odds(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``(n,)`` sums for feature rows ``(n, F)``."""
        return np.asarray(self.standardised(rows) @ self.weights + self.bias)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        lists = {name: getattr(self, name).tolist() for name in ("mean", "spread", "weights")}
        return {**lists, "bias": self.bias}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Linear:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, ValueError
            If `record` is not a linear model.
        """
        mean, spread, weights = (np.asarray(record[name], float) for name in ("mean", "spread", "weights"))
        if not mean.shape == spread.shape == weights.shape:
            raise ValueError("numbers of features differ")
        return cls(mean, spread, weights, float(record["bias"]))


@dataclass(frozen=True)
class Classifier:
    """The mean log-odds of a forest and a linear model over the features `names`."""

    names: tuple[str, ...]
    forest: Forest
    linear: Linear

    def probability(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``(n,)`` probabilities for feature rows ``(n, F)``."""
        odds = (self.forest.log_odds(rows) + self.linear.log_odds(rows)) / 2.0
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds, -30.0, 30.0))))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {"names": list(self.names), "forest": self.forest.to_json(), "linear": self.linear.to_json()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Classifier:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If `record` is not a classifier.
        """
        forest, linear = Forest.from_json(record["forest"]), Linear.from_json(record["linear"])
        return cls(tuple(record["names"]), forest, linear)
