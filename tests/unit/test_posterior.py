"""The belief over shapes: Bayes' rule, four candidates, and what each answer does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.test_uair_rounds import CROP, answer_box, dice, pool, sphere
from workers.uair import belief as shapes
from workers.uair import posterior
from workers.uair.answered_targets import SETTLED_GAIN, answered, chosen_with, refine_target
from workers.uair.belief import Belief, prior_belief
from workers.uair.candidates import dice_matrix
from workers.uair.edits import adopt_edit
from workers.uair.posterior import after_pick, after_rejection, expected_gain, likelihood_of_pick
from workers.uair.prompts import Member, Prompts, mean_box_area
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import LESION_PLAN, CandidateOptions, open_target

OPTIONS = CandidateOptions(16, "belief")
CELLS = (2.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def opened() -> TargetState:
    return open_target(2, CROP, pool(), OPTIONS)


def believed(target: TargetState) -> Belief:
    assert target.belief is not None
    return target.belief


def after(target: TargetState, picked: int | None, number: int = 2, *, quiet: bool = False) -> TargetState:
    rng = np.random.default_rng([7, number])
    return answered(target, believed(target), picked, number, rng, quiet=quiet)


def test_particles_are_as_many_as_promised_and_equally_likely_after_every_answer(opened: TargetState) -> None:
    belief = believed(opened)
    assert len(belief.particles) == shapes.PARTICLES
    weights = likelihood_of_pick(belief.agreement(opened.offered > 0), dice_matrix(opened.offered > 0)[0])
    weights /= weights.sum()
    assert weights.sum() == pytest.approx(1.0)
    assert (weights > 0).all(), "a careless pick excludes no shape"
    drawn = posterior._systematic(weights, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=len(weights))
    assert np.abs(counts - weights * len(weights)).max() < 1.0, "drawn as often as the weight says"


@pytest.mark.parametrize("seed", range(5))
def test_a_pick_never_lowers_the_probability_of_what_equals_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = rng.random((50, 3, 8, 8)) > rng.uniform(0.2, 0.8, (50, 1, 1, 1))
    for four in (shapes[:4], np.concatenate([shapes[:1], shapes[:1], shapes[1:3]])):
        agreement = dice_matrix(np.concatenate([four, shapes]))[4:, :4]
        likelihood = likelihood_of_pick(agreement, dice_matrix(four)[0])
        assert likelihood[0] == pytest.approx(1.0)
        assert likelihood[0] >= likelihood.mean()


def test_a_pick_speaks_against_shapes_that_are_nearer_to_what_was_not_picked(opened: TargetState) -> None:
    belief, offered = believed(opened), opened.offered > 0
    four = np.concatenate([offered[3:], offered[:3]])
    likelihood = likelihood_of_pick(belief.agreement(four), dice_matrix(four)[0])
    nearest = belief.agreement(four).argmax(axis=1)
    assert likelihood[nearest == 0].min() > likelihood[nearest != 0].max()


def test_the_belief_moves_to_what_was_picked_and_away_from_what_was_rejected(opened: TargetState) -> None:
    belief, offered = believed(opened), opened.offered > 0
    rng = np.random.default_rng(0)
    picked = after_pick(belief, offered, 2, 1, rng)
    assert picked.agreement(offered)[:, 2].mean() > belief.agreement(offered)[:, 2].mean()
    rejected = after_rejection(belief, offered, 1, rng)
    assert rejected.agreement(offered).max(axis=1).mean() < belief.agreement(offered).max(axis=1).mean()


def test_replays_are_equal(opened: TargetState) -> None:
    def play() -> np.ndarray:
        target = open_target(2, CROP, pool(), OPTIONS)
        for number, picked in enumerate((1, None, 2), start=2):
            target = after(target, picked, number)
        return target.offered

    np.testing.assert_array_equal(play(), play())


def test_a_state_from_disk_answers_as_the_one_in_memory(opened: TargetState, tmp_path: Path) -> None:
    RoundState(1, "ab" * 32, (opened,), sphere() > 0).save(tmp_path / "state.npz")
    (back,) = RoundState.load(tmp_path / "state.npz").targets
    np.testing.assert_array_equal(after(opened, 1).offered, after(back, 1).offered)
    assert (tmp_path / "state.npz").stat().st_size < 700_000


def test_four_are_distinct_in_every_round_or_the_target_is_settled(opened: TargetState) -> None:
    target = opened
    for number in range(2, 14):
        agreement = dice_matrix(target.offered > 0)
        assert target.settled or agreement[~np.eye(4, dtype=bool)].max() <= 0.981
        target = after(target, 0 if number > 3 else 1, number)


def narrow(target: TargetState, share: float) -> TargetState:
    """The target with less spread in its belief."""
    belief = believed(target)
    centre = belief.particles.astype(np.float32).mean(axis=0)
    particles = centre + share * (belief.particles.astype(np.float32) - centre)
    return replace(target, belief=replace(belief, particles=particles.astype(np.float16)))


def test_a_target_is_settled_once_another_pick_would_gain_nothing(opened: TargetState) -> None:
    second = after(opened, 2)
    assert not second.settled
    assert expected_gain(believed(second), second.offered > 0) > SETTLED_GAIN
    drawn = replace(second, drawn=True)
    certain = after(narrow(after(drawn, 0, 3), 0.05), 0, 4)
    assert certain.settled
    assert (certain.offered == certain.offered[0]).all()


def test_a_quiet_target_stays_as_it_is_until_none_fits(opened: TargetState) -> None:
    settled = after(opened, 2, 2, quiet=True)
    assert settled.settled
    assert (settled.offered == opened.offered[2]).all()
    later = after(settled, 3, 3, quiet=True)
    assert later.settled
    np.testing.assert_array_equal(later.offered, settled.offered)
    rejected = after(settled, None, 3)
    assert not rejected.settled
    np.testing.assert_array_equal(rejected.offered[0], opened.offered[2])


@pytest.mark.parametrize("value", [1, 2])
def test_a_quiet_target_speaks_again_when_it_is_asked(value: int) -> None:
    target = open_target(value, CROP, pool(), OPTIONS)
    quiet = after(target, 2, 2, quiet=True)
    assert quiet.settled
    assert not after(quiet, 0, 3).settled


def test_what_was_picked_is_candidate_1_voxel_for_voxel(opened: TargetState) -> None:
    second = after(opened, 3)
    np.testing.assert_array_equal(second.offered[0], opened.offered[3])
    assert second.held


def test_after_none_fits_what_was_picked_last_is_candidate_1(opened: TargetState) -> None:
    second = after(opened, 3)
    third = after(second, None, 3)
    np.testing.assert_array_equal(third.offered[0], opened.offered[3])
    rejected_at_once = after(opened, None)
    assert not rejected_at_once.held
    assert max(dice(rejected_at_once.offered[0] > 0, candidate > 0) for candidate in opened.offered) < 1.0


@pytest.mark.parametrize("value", [1, 2])
def test_nothing_leaves_the_organ(value: int) -> None:
    organ = np.zeros(CROP.stack_shape, bool)
    organ[:, :, :17] = True
    # The liver's first four are members, which the engine confines.
    members = pool().confined(organ) if value == 1 else pool()
    target = open_target(value, CROP, members, OPTIONS, organ=organ)
    for number, picked in enumerate((0, None, 3), start=2):
        assert not (target.offered > 0)[:, ~organ].any()
        target = after(target, picked, number)


def test_a_drawing_is_believed_more_than_a_pick(opened: TargetState) -> None:
    drawn = sphere(16.0, (0.0, 2.0, 0.0))
    edited = replace(opened, offered=np.concatenate([drawn[None], opened.offered[1:]]).astype(np.float16))
    as_pick = after(edited, 0)
    as_drawing = after(replace(edited, drawn=True), 0)
    mask = (drawn > 0)[None]
    picked, told = (believed(entry).agreement(mask).mean() for entry in (as_pick, as_drawing))
    assert told > 0.87
    assert told > picked + 0.02
    assert not as_drawing.drawn


def test_an_edit_is_taken_up_as_a_drawing(opened: TargetState) -> None:
    state = RoundState(1, "ab" * 32, (opened,), sphere() > 0)
    assert all(target.drawn for target in adopt_edit(state, np.zeros(CROP.shape, np.uint8)).targets)


def test_three_picks_pay() -> None:
    """A lesion that all members see 4 mm beside its place: picks find it, shape by shape."""
    truth = sphere(14.0, (0.0, 2.0, 0.0)) > 0
    target = open_target(2, CROP, pool(seed=2), OPTIONS)
    reached = []
    for number in (2, 3, 4):
        agreement = [dice(candidate > 0, truth) for candidate in target.offered]
        reached.append(max(agreement))
        target = after(target, int(np.argmax(agreement)), number)
    assert reached[0] <= reached[1] <= reached[2]
    assert reached[2] > reached[0] + 0.05


def test_a_remembered_preference_moves_half_of_the_shapes() -> None:
    masks = np.stack([sphere(14.0) > 0] * 8)
    plain, told = (
        prior_belief(masks, None, CELLS, np.random.default_rng(0), preference_mm=mm) for mm in (0.0, 3.0)
    )
    change = told.particles[:, -1].astype(float) - plain.particles[:, -1]
    assert change[1::2].mean() == pytest.approx(3.0, abs=0.15)
    assert told.particles[1::2, -1].astype(float).std() < 0.3, "a remembered reader draws as remembered"
    np.testing.assert_allclose(change[::2], 0.0, atol=0.01)
    np.testing.assert_array_equal(plain.with_preference(3.0).particles[::2], plain.particles[::2])


def test_large_targets_are_sampled_and_small_ones_are_not() -> None:
    small = prior_belief(np.stack([sphere(8.0) > 0] * 8), None, CELLS, np.random.default_rng(0))
    assert small.stride == (1, 1, 1)
    wide = np.zeros((40, 128, 128), bool)
    wide[4:36, 10:110, 10:110] = True
    large = prior_belief(np.stack([wide] * 8), None, (3.0, 1.5, 1.5), np.random.default_rng(0))
    assert np.prod(large.factors.shape[1:]) <= shapes.MOST_CELLS
    logits = large.logits_of(np.arange(shapes.PARTICLES), wide.shape)
    assert dice(logits > 0, wide) > 0.95


def test_a_state_from_before_beliefs_goes_on_by_medoids(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    old = open_target(2, CROP, pool(), CandidateOptions(16, "medoids"))
    RoundState(1, "ab" * 32, (old,), sphere() > 0).save(path)
    with np.load(path) as arrays:
        kept = dict(arrays)
    header = json.loads(str(kept["header"]))
    header["format"] = 4
    for key in ("belief", "held", "drawn"):
        del header["targets"][0][key]
    np.savez(path, **{**kept, "header": np.array(json.dumps(header))})
    (back,) = RoundState.load(path).targets
    assert (back.belief, back.held, back.drawn) == (None, False, False)
    again = refine_target(back, answer_box, 1, 2, LESION_PLAN, OPTIONS, np.random.default_rng(0))
    np.testing.assert_array_equal(again.offered[0], old.offered[1])


@pytest.mark.parametrize(("present", "odds"), [((True,) * 4, 1.0), ((True, False, True, False), 10.0)])
def test_who_picks_a_doubtful_lesion_says_that_it_is_there(
    opened: TargetState, present: Any, odds: float
) -> None:
    doubtful = replace(opened, confidence=0.5, present=present)
    assert chosen_with(doubtful, 0) == pytest.approx(odds / (1.0 + odds))
    assert chosen_with(doubtful, None) == 0.5


def test_the_prompts_boxes_are_summed_over_slices_and_averaged_over_members() -> None:
    def member(count: int, side: float) -> Member:
        boxes = np.tile(np.array([0.0, 0.0, side, 2.0 * side], np.float32), (count, 1))
        return Member(Prompts(np.arange(count), boxes), 0)

    assert mean_box_area([member(3, 2.0), member(1, 4.0)]) == pytest.approx((24.0 + 32.0) / 2)
    assert mean_box_area([]) == 0.0
