"""Remembered preference saves rounds for readers who have one, and costs others nothing.

Phantoms are spheres that a pool of sixteen draws with an error of 1 mm. Readers draw them 2 mm wider or
tighter than the truth and take the candidate of best Dice. The embedded model is measured by `uair evaluate`.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.test_uair_rounds import CROP, dice, sphere
from uair_node.results.reader_preference import estimate
from workers.uair.answered_targets import answered
from workers.uair.ensemble import Ensemble
from workers.uair.preference import radius_mm
from workers.uair.targets import CandidateOptions, open_target

OPTIONS = CandidateOptions(16, "belief")
ROUNDS = 3
LEARNED_FROM, TRIED_ON = 6, 4


def _pool(radius: float, seed: int) -> Ensemble:
    rng = np.random.default_rng(seed)
    members = [sphere(radius + rng.normal(0.0, 1.0), rng.normal(0.0, 0.5, 3)) for _ in range(16)]
    return Ensemble(np.stack(members), np.full(16, 0.8, np.float32))


def _play(preference_mm: float, remembered_mm: float, seed: int) -> tuple[list[float], float]:
    """Return Dice with what the reader wants after each round, and how many mm wider what was accepted is."""
    radius = 10.5 + 1.5 * (seed % 4)
    wanted = sphere(radius + preference_mm) > 0
    target = open_target(2, CROP, _pool(radius, seed), OPTIONS, preference_mm=remembered_mm)
    reached: list[float] = []
    for number in range(1, ROUNDS + 1):
        agreement = [dice(candidate > 0, wanted) for candidate in target.offered]
        picked = int(np.argmax(agreement))
        reached.append(agreement[picked])
        accepted = radius_mm(float((target.offered[picked] > 0).sum() * CROP.cell_volume_ml))
        if number < ROUNDS:
            rng = np.random.default_rng([seed, number])
            assert target.belief is not None
            target = answered(target, target.belief, picked, number + 1, rng)
    return reached, accepted - target.size.base_mm


def _mean(preference_mm: float, remembered_mm: float) -> np.ndarray:
    played = [_play(preference_mm, remembered_mm, seed)[0] for seed in range(100, 100 + TRIED_ON)]
    return np.asarray(played).mean(axis=0)


def _learned(preference_mm: float) -> float:
    """The remembered preference after some cases, each read with the memory of the cases before it."""
    told: list[float] = []
    for seed in range(LEARNED_FROM):
        told.append(_play(preference_mm, estimate(told).mm, seed)[1])
    return estimate(told).mm


@pytest.mark.parametrize("preference_mm", [2.0, -2.0])
def test_a_reader_of_fixed_preference_ends_nearer_to_the_wish(preference_mm: float) -> None:
    learned = _learned(preference_mm)
    assert np.sign(learned) == np.sign(preference_mm)
    without, with_memory = _mean(preference_mm, 0.0), _mean(preference_mm, learned)
    assert with_memory[0] > without[1] - 0.005, "round 1 with memory is as near as round 2 without"
    assert with_memory[-1] > without[-1]
    assert without[0] > 0.91, "members chosen as they are: .863 and .861"


def test_a_reader_of_best_dice_teaches_nothing_and_loses_nothing() -> None:
    assert abs(_learned(0.0)) < 0.3, "the least that changes a candidate"


@pytest.mark.parametrize("remembered_mm", [1.5, -1.5])
def test_somebody_elses_preference_costs_at_most_a_little(remembered_mm: float) -> None:
    neutral, other = _mean(0.0, 0.0), _mean(0.0, remembered_mm)
    assert other[0] > neutral[0] - 0.03
    assert other[-1] > neutral[-1] - 0.015


def test_candidates_still_contrast_with_a_remembered_preference() -> None:
    target = open_target(2, CROP, _pool(12.0, 3), OPTIONS, preference_mm=2.0)
    radii = [radius_mm(float((candidate > 0).sum() * CROP.cell_volume_ml)) for candidate in target.offered]
    assert radii[0] > target.size.base_mm + 1.0, "what is remembered"
    assert radii[-1] < target.size.base_mm + 0.3, "and what the model says itself"


@pytest.mark.parametrize(
    ("differences", "low", "high"),
    [
        ([], 0.0, 0.0),
        ([2.0], 0.5, 0.9),
        ([2.0] * 5, 1.7, 2.0),
        ([2.0, -2.0, 2.0, -2.0], 0.0, 0.0),
        ([0.2, -0.1, 0.3], 0.0, 0.0),
        ([2.0, 2.0, 2.0, 2.0, 60.0], 1.5, 2.5),
    ],
)
def test_few_or_contradicting_cases_move_little(differences: list[float], low: float, high: float) -> None:
    assert low <= estimate(differences).mm <= high
    assert -high <= estimate([-mm for mm in differences]).mm <= -low
