"""Compute intervals of measurements from the method's own uncertainty: the ensemble and the four candidates.

A round has six segmentations besides the accepted segmentation: the four candidates, and the ensemble moved
by a standard deviation outwards and inwards. Each of the six is measured like the accepted segmentation. The
root mean square difference of their numbers from the accepted number is the *spread*. The interval is the
accepted number, plus and minus the spread times a factor.

The factor gives the interval a stated probability. It is the 90 % quantile of |accepted - true| / spread on
phantoms (split conformal prediction: Lei et al., Journal of the American Statistical Association 113, 2018).
So the intervals contain 90 % of the true values of cases like these phantoms. docs/measurements.md reports
the share for other cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dicom_config.modalities import CT
from dicom_config.modalities.profile import Unit
from workers.measure.numbers import LIVER, Labels, Numbers, Spacing, numbers_of
from workers.uair.compose import Layer, compose
from workers.uair.state import RoundState, TargetState

Interval = tuple[float, float]

LOGARITHMIC = frozenset({"volume_ml", "long_mm", "short_mm", "largest_mm", "surface_mm2", "liver_ml"})
"""Numbers whose errors are ratios (proportional to the number). All other errors are differences."""
LEAST_SPREAD = 0.01
"""The smallest spread of a size (as a logarithm).

Voxels limit the accuracy even if all segmentations agree. For other numbers, the smallest spread is 1 % of
their usual range.
"""
_USUAL = {"mean_hu": 100.0, "parenchyma_hu": 100.0, "lesions_ml": 10.0, "parenchyma_ml": 1000.0}
_POSITIVE = frozenset({"lesions_ml", "parenchyma_ml", "burden_percent"})
_BOUNDED = frozenset({"sphericity", "elongation", "flatness", "solidity"})
_LOGIT_LIMIT = 6.0

FACTORS: Mapping[str, float] = MappingProxyType(
    {
        "liver_ml": 1.10,
        "parenchyma_ml": 1.51,
        "parenchyma_hu": 1.59,
        "volume_ml": 1.39,
        "long_mm": 2.23,
        "short_mm": 1.79,
        "largest_mm": 2.06,
        "mean_hu": 3.32,
        "surface_mm2": 1.60,
        "sphericity": 3.54,
        "elongation": 4.53,
        "flatness": 3.91,
        "solidity": 1.19,
        "irregularity": 3.23,
    }
)
"""Key -> factor, from `tests/bench/test_measurements.py`.

A number has no factor if the ensemble does not cover its errors. The volume of all lesions and the burden
have errors from missed lesions. Extremes of density have errors from single voxels. Signals of MR have no
factor, because they were not calibrated.
"""


def ensemble_bounds(state: RoundState, shape: tuple[int, int, int]) -> tuple[Labels, Labels]:
    """Return the ensemble moved by one standard deviation outwards and inwards, on the canonical grid.

    A voxel is inside if the members' mean probability (equation 1), plus or minus the round's uncertainty
    (equation 2), exceeds one half.
    """
    wide, narrow = (
        _composed([_moved(target, sign) for target in state.targets if any(target.present)], state, shape)
        for sign in (1.0, -1.0)
    )
    return wide, narrow


def intervals_of(accepted: Numbers, samples: Sequence[Numbers]) -> dict[tuple[int, str], Interval]:
    """Return the interval of each number that at least two of the samples have.

    Parameters
    ----------
    accepted, samples
        The results of `numbers_of` for the accepted and the other segmentations. A lesion that is in fewer
        than two samples gets no interval.
    """
    found: dict[tuple[int, str], Interval] = {}
    for (number, key), value in accepted.items():
        others = [sample[number, key] for sample in samples if (number, key) in sample]
        if key == "lesions":
            if any(other != value for other in others):  # equal counts give no interval
                found[number, key] = (min([value, *others]), max([value, *others]))
        elif len(others) >= 2 and key in FACTORS:
            found[number, key] = _interval(key, value, FACTORS[key] * spread(key, value, others))
    return found


def spread(key: str, value: float, others: Iterable[float]) -> float:
    """Return the root mean square difference of samples from a number. For sizes, it uses logarithms."""
    numbers = np.array(list(others), float)
    if key in LOGARITHMIC:
        if value <= 0:
            return LEAST_SPREAD
        apart = np.log(np.maximum(numbers, 1e-3 * value) / value)
        return float(np.hypot(np.sqrt(np.mean(apart**2)), LEAST_SPREAD))
    least = LEAST_SPREAD * _USUAL.get(key, 1.0)
    return float(np.hypot(np.sqrt(np.mean((numbers - value) ** 2)), least))


def _interval(key: str, value: float, half: float) -> Interval:
    if key in LOGARITHMIC:
        return float(value * np.exp(-half)), float(value * np.exp(half))
    low, high = value - half, value + half
    if key in _BOUNDED or key in _POSITIVE:
        low = max(low, 0.0)
    return low, min(high, 1.0) if key in _BOUNDED else high


def sample_numbers(
    values: NDArray[Any],
    samples: Sequence[Labels],
    accepted: Labels,
    spacing_mm: Spacing,
    unit: Unit = CT.unit,
) -> list[dict[tuple[int, str], float]]:
    """Return the numbers of each sample, measured in the box around all samples and the accepted labels.

    All arrays are ``(Z, Y, X)`` on the same grid.
    """
    marked = np.logical_or.reduce([labels > 0 for labels in (accepted, *samples)])
    box = tuple(
        slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)
        for hit in (np.flatnonzero(marked.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    return [numbers_of(values[box], labels[box], spacing_mm, unit) for labels in samples]


def _moved(target: TargetState, sign: float) -> Layer:
    mean = expit(target.mean.astype(np.float32))
    moved = np.clip(mean + sign * target.deviation.astype(np.float32), 1e-4, 1 - 1e-4)
    logits = np.clip(np.log(moved / (1 - moved)), -_LOGIT_LIMIT, _LOGIT_LIMIT).astype(np.float32)
    return Layer(target.value, target.crop, logits)


def _composed(layers: Sequence[Layer], state: RoundState, shape: tuple[int, int, int]) -> Labels:
    liver, *lesions = layers
    return compose(liver, state.domain, lesions, shape)


__all__ = ["LIVER", "ensemble_bounds", "intervals_of", "sample_numbers", "spread"]
