"""Equations 1 to 3 of the paper, against hand-computed numbers and brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.uair import candidates, ensemble, uncertainty


def test_mean_and_deviation_over_n_minus_one() -> None:
    predictions = np.array([[0.2, 1.0], [0.4, 1.0], [0.9, 1.0]], np.float32)
    mean, deviation = ensemble.statistics(predictions)
    np.testing.assert_allclose(mean, [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(deviation, [np.sqrt((0.09 + 0.01 + 0.16) / 2.0), 0.0], atol=1e-6)


def test_threshold_is_full_for_an_ellipse_and_falls_with_the_filled_part() -> None:
    assert uncertainty.threshold(np.pi / 4 * 100, 100) == pytest.approx(0.2)
    assert uncertainty.threshold(100, 100) == pytest.approx(0.2)
    assert uncertainty.threshold(np.pi / 8 * 100, 100) == pytest.approx(0.1)
    assert uncertainty.threshold(1, 100) == pytest.approx(0.08)
    assert uncertainty.threshold(0, 0) == pytest.approx(0.2)


def test_a_lower_threshold_shows_more() -> None:
    deviation = np.linspace(0.0, 0.5, 1000, dtype=np.float32)
    wide = uncertainty.uncertain_region(deviation, uncertainty.threshold(30, 100))
    narrow = uncertainty.uncertain_region(deviation, uncertainty.threshold(78, 100))
    assert narrow.sum() < wide.sum()
    assert not (narrow & ~wide).any()


def test_agreement_everywhere_still_gives_a_region() -> None:
    deviation = np.zeros(1000, np.float32)
    deviation[:30] = 0.05
    region = uncertainty.uncertain_region(deviation, 0.2)
    assert 8 <= region.sum() <= 30
    assert not region[30:].any()


def test_deviation_from_a_selected_reference() -> None:
    reference = np.array([0.0, 1.0], np.float32)
    predictions = np.array([[0.6, 1.0], [0.8, 1.0]], np.float32)
    deviation = uncertainty.deviation_from(reference, predictions)
    np.testing.assert_allclose(deviation, [np.sqrt(0.5), 0.0], rtol=1e-6)


def random_masks(seed: int, count: int = 9, cells: int = 60) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return rng.random((count, cells)) < rng.uniform(0.3, 0.7, (count, 1)), rng.random(cells) < 0.5


@pytest.mark.parametrize("seed", range(8))
def test_max_variance_is_the_best_of_all_quadruples(seed: int) -> None:
    masks, region = random_masks(seed)
    chosen = candidates.choose_four(masks, region, "max_variance")

    def gain(four: Sequence[int]) -> float:
        return masks[list(four)][:, region].astype(float).var(axis=0, ddof=1).sum()

    best = max(gain(four) for four in combinations(range(len(masks)), 4))
    assert gain(chosen) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(8))
def test_medoids_minimise_the_expected_distance_to_the_nearest(seed: int) -> None:
    masks, region = random_masks(seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(masks)))
    chosen = candidates.choose_four(masks, region, "medoids", weights=weights)

    def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    def cost(four: Sequence[int]) -> float:
        nearest = [min(1 - dice(mask, masks[i]) for i in four) for mask in masks]
        return float(np.dot(nearest, weights))

    best = min(cost(four) for four in combinations(range(len(masks)), 4))
    assert cost(chosen) == pytest.approx(best)


@pytest.mark.parametrize("rule", ["max_variance", "medoids"])
def test_a_fixed_member_is_always_among_the_four(rule: str) -> None:
    masks, region = random_masks(3)
    for fixed in range(len(masks)):
        assert fixed in candidates.choose_four(masks, region, rule, fixed=fixed)


def test_all_quadruples_of_sixteen() -> None:
    assert len(candidates.quadruples(16)) == 1820
    assert len({tuple(four) for four in candidates.quadruples(16)}) == 1820


def test_dice_matrix_by_hand() -> None:
    masks = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    matrix = candidates.dice_matrix(masks)
    assert matrix[0, 1] == pytest.approx(2 / 3)
    assert matrix[0, 2] == 0.0
    assert matrix[2, 3] == 1.0


def test_implausible_members_are_dropped() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((16, 400), bool)
    masks[:, 100:200] = True
    masks[:, 90:210] |= rng.random((16, 120)) < 0.3
    quality = np.full(16, 0.8, np.float32)
    masks[2] = False  # nothing
    masks[5] = False
    masks[5, 100:110] = True  # tiny
    masks[7] = False
    masks[7, 300:400] = True  # elsewhere
    quality[11] = 0.4  # the model itself doubts it
    organ = np.zeros(400, bool)
    organ[:250] = True
    kept = candidates.plausible(masks, quality, organ)
    assert not {2, 5, 7, 11} & set(kept.tolist())
    assert len(kept) >= 8


def test_a_pool_of_failures_still_yields_enough_to_choose_from() -> None:
    masks = np.zeros((8, 50), bool)
    masks[:, 0] = True
    quality = np.linspace(0.0, 1.0, 8).astype(np.float32)
    assert len(candidates.plausible(masks, quality)) == 8
