"""Parts of a target: how they are found, and the effect of an answer for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic import SPACING
from tests.support.synthetic_round import synthetic_round
from tests.unit.test_uair_rounds import CROP, dice, pool, sphere
from workers.engine import Feedback
from workers.research.evaluation.part_answers import numbers_on_volume, pick_parts, with_parts
from workers.uair.answered_targets import answered
from workers.uair.compose import tidied
from workers.uair.parts import (
    DIRECTIONS,
    Part,
    numbers_on_crop,
    part_numbers,
    parts_of,
    put_together,
)
from workers.uair.posterior import after_parts, after_pick
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import CandidateOptions, open_target

OPTIONS = CandidateOptions(16, "belief")


@pytest.fixture(scope="module")
def opened() -> TargetState:
    return open_target(2, CROP, pool(), OPTIONS)


def after(
    target: TargetState, picked: int, by_part: dict[str, int], number: int = 2, *, seed: int = 7
) -> TargetState:
    assert target.belief is not None
    rng = np.random.default_rng([seed, number])
    return answered(target, target.belief, picked, number, rng, by_part=by_part)


def best_by_part(target: TargetState, truth: np.ndarray) -> dict[str, int]:
    """Part -> candidate with the fewest wrong cells in it."""
    parts = parts_of(target)
    numbers = numbers_on_crop(parts, target)
    wrong = (target.offered > 0) != truth
    return {
        part.name: int(wrong[:, numbers == index].sum(axis=1).argmin()) for index, part in enumerate(parts)
    }


def test_a_target_in_doubt_has_three_parts_of_different_names(opened: TargetState) -> None:
    parts = parts_of(opened)
    names = [part.name for part in parts]
    assert len(set(names)) == 3
    assert set(names) <= set(DIRECTIONS)
    numbers = numbers_on_crop(parts, opened)
    doubtful = opened.deviation > opened.limit
    shares = [(doubtful & (numbers == index)).sum() / doubtful.sum() for index in range(3)]
    assert sum(shares) == pytest.approx(1.0), "each doubtful cell belongs to a part"
    assert min(shares) > 0.1


@pytest.mark.parametrize(
    ("centre", "name"),
    [
        ((9, 5, 5), "upper"),
        ((1, 5, 5), "lower"),
        ((5, 5, 9), "left"),
        ((5, 5, 1), "right"),
        ((5, 9, 5), "back"),
        ((5, 1, 5), "front"),
    ],
)
def test_names_are_the_patients_directions(opened: TargetState, centre: tuple[int, ...], name: str) -> None:
    """The canonical axes grow to superior, posterior and left."""
    z, y, x = np.indices(opened.deviation.shape)
    shape = np.array(opened.deviation.shape)
    place = np.array(centre) / 10 * shape
    squares = ((z - place[0]) / shape[0]) ** 2 + ((y - place[1]) / shape[1]) ** 2
    near = squares + ((x - place[2]) / shape[2]) ** 2 < 0.01
    assert near.sum() >= 24
    opposite = dict(zip(DIRECTIONS, np.roll(np.reshape(DIRECTIONS, (3, 2)), 1, axis=1).ravel(), strict=True))
    names = {part.name for part in parts_of(replace(opened, deviation=near.astype(np.float16)))}
    assert name in names
    assert opposite[name] not in names


def test_settled_resting_and_absent_targets_have_no_parts(opened: TargetState) -> None:
    same = np.repeat(opened.offered[:1], 4, axis=0)
    assert parts_of(replace(opened, offered=same, held=True)) == ()
    assert parts_of(replace(opened, resting=True)) == ()
    assert parts_of(replace(opened, present=(False,) * 4)) == ()
    assert parts_of(replace(opened, belief=None)) == ()
    assert parts_of(replace(opened, deviation=np.zeros_like(opened.deviation))) == ()


def test_a_place_belongs_to_the_nearest_centre_in_millimetres() -> None:
    parts = (Part("upper", (2.0, 0.0, 0.0)), Part("left", (0.0, 0.0, 8.0)))
    z, y, x = np.array([0.0, 2.0]), np.array([0.0]), np.array([0.0, 8.0])
    assert part_numbers(parts, (5.0, 1.0, 1.0), z, y, x).tolist() == [[[1, 1]], [[0, 0]]]
    assert part_numbers(parts, (1.0, 1.0, 1.0), z, y, x).tolist() == [[[0, 1]], [[0, 1]]]


def test_what_is_put_together_is_candidate_1_of_the_next_round(opened: TargetState) -> None:
    parts = parts_of(opened)
    chosen = [3, 0, 1]
    target = after(opened, 2, {part.name: k for part, k in zip(parts, chosen, strict=True)})
    numbers = numbers_on_crop(parts, opened)
    wanted = tidied(put_together(opened.offered.astype(np.float32), numbers, chosen)) > 0
    np.testing.assert_array_equal(target.offered[0] > 0, wanted)
    assert target.held
    assert all((wanted != (opened.offered[k] > 0)).any() for k in range(4))


def test_parts_of_the_picked_candidate_are_a_pick(opened: TargetState) -> None:
    plain = after(opened, 1, {})
    for same in ({part.name: 1 for part in parts_of(opened)}, {"no such": 3}):
        np.testing.assert_array_equal(after(opened, 1, same).offered, plain.offered)


@pytest.mark.parametrize("seed", range(4))
def test_the_belief_moves_to_what_is_put_together(opened: TargetState, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = numbers_on_crop(parts_of(opened), opened)
    chosen = rng.permutation(4)[:3]
    wanted = put_together(opened.offered, numbers, chosen)[None] > 0
    belief, offered = opened.belief, opened.offered > 0
    assert belief is not None
    by_part = after_parts(belief, offered, numbers, chosen, 1, np.random.default_rng(0))
    picks = [after_pick(belief, offered, k, 1, np.random.default_rng(0)) for k in range(4)]
    assert len(by_part.particles) == len(belief.particles)
    assert by_part.agreement(wanted).mean() > max(
        belief.agreement(wanted).mean(), *(pick.agreement(wanted).mean() for pick in picks)
    )


def test_answers_for_parts_pay_more_than_a_pick() -> None:
    """A truth that no candidate meets: wide on one side, narrow on the other."""
    wide, narrow = sphere(17.0) > 0, sphere(11.0) > 0
    truth = np.where(np.indices(wide.shape)[2] < wide.shape[2] // 2, wide, narrow)
    gains = []
    for seed in range(3):
        whole = by_part = open_target(2, CROP, pool(seed=seed), OPTIONS)
        for number in (2, 3):
            pick = int(np.argmax([dice(candidate > 0, truth) for candidate in whole.offered]))
            whole = after(whole, pick, {}, number, seed=seed)
            pick = int(np.argmax([dice(candidate > 0, truth) for candidate in by_part.offered]))
            by_part = after(by_part, pick, best_by_part(by_part, truth), number, seed=seed)
        best = [
            max(dice(candidate > 0, truth) for candidate in target.offered) for target in (whole, by_part)
        ]
        gains.append(best[1] - best[0])
    assert np.mean(gains) > 0.0


def test_a_round_names_its_parts_and_takes_an_answer_for_each(tmp_path: Path) -> None:
    engine, volume, first = synthetic_round()
    value, parts = next((value, parts) for value, parts in first.parts.items() if value > 1)
    labels = [candidate.labels for candidate in first.candidates]
    numbers = numbers_on_volume(first.parts, SPACING, labels)[value]
    assert ((numbers > 0) == np.any([own == value for own in labels], axis=0)).all()
    said = {part.name: k for part, k in zip(parts, (1, 3, 4), strict=True)}
    feedback = Feedback(2, per_part={value: said})
    path = tmp_path / "state.npz"
    first.state.save(path)
    second, again = (
        engine.next_round(volume, SPACING, state, feedback) for state in (first.state, RoundState.load(path))
    )
    taken = second.candidates[0].labels == value
    for index, part in enumerate(parts, start=1):
        here = numbers == index
        wanted = labels[said[part.name] - 1] == value
        assert dice(taken & here, wanted & here) > 0.9
    for a, b in zip(second.candidates, again.candidates, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)


def test_an_answer_for_a_part_leaves_the_other_targets_to_the_pick() -> None:
    engine, volume, first = synthetic_round()
    value, parts = next((value, parts) for value, parts in first.parts.items() if value > 1)
    feedback = Feedback(3, per_part={value: {parts[0].name: 1}})
    second = engine.next_round(volume, SPACING, first.state, feedback)
    for target in first.targets:
        if target not in (1, value):
            same = (second.candidates[0].labels == target) == (first.candidates[2].labels == target)
            assert same.all()


def _row(*runs: tuple[int, int]) -> np.ndarray:
    """Labels in a row of 12 voxels: (value, count) after each other."""
    return np.concatenate([np.full(count, value, np.uint8) for value, count in runs])[None, None]


TRUTH = _row((1, 3), (2, 4), (1, 3), (0, 2))
OFFERED = (
    _row((1, 1), (2, 6), (1, 4), (0, 1)),
    _row((1, 3), (2, 2), (1, 4), (0, 3)),
    _row((1, 10), (0, 2)),
)
HALVES = {2: _row((0, 1), (1, 3), (2, 3), (0, 5)), 1: _row((1, 6), (2, 5), (0, 1))}


def test_the_reader_takes_each_part_where_it_has_the_fewest_wrong_voxels() -> None:
    chosen = pick_parts(OFFERED, TRUTH, HALVES, {1: 1, 2: 1})
    assert chosen == {2: (2, 1), 1: (1, 3)}
    assert pick_parts(OFFERED, TRUTH, HALVES, {1: 1, 2: 3}) == {1: (1, 3)}, "the picked one lacks the lesion"


def test_labels_with_parts_hold_what_was_chosen_for_each() -> None:
    labels = with_parts(OFFERED[0], OFFERED, HALVES, {2: (2, 1), 1: (1, 3)})
    assert "".join(map(str, labels.ravel())) == "111222211100"
