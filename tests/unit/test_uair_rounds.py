"""Refinement, composition and state of targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.uair import refine
from workers.uair.answered_targets import refine_target
from workers.uair.candidates import dice_matrix
from workers.uair.compose import Layer, compose, dice_by_label, spread_apart, tidied
from workers.uair.ensemble import Ensemble
from workers.uair.grids import Crop
from workers.uair.preference import SizePosterior, radius_mm
from workers.uair.prompts import INSIDE, OUTSIDE, PADDING, Prompts
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import LESION_PLAN, CandidateOptions, open_target

SHAPE = (24, 64, 64)
CROP = Crop((32.0, 32.0), 64.0, tuple(range(24)), (2.0, 1.0, 1.0), SHAPE, 64, 32)
OPTIONS = CandidateOptions(16, "medoids")


def sphere(radius_mm_: float = 14.0, shift: tuple[float, ...] = (0.0, 0.0, 0.0)) -> NDArray[Any]:
    """Logits on CROP: signed distance in cells of 2 mm."""
    z, y, x = np.meshgrid(np.arange(24), np.arange(32), np.arange(32), indexing="ij")
    centre = np.array([11.5, 15.5, 15.5]) + np.asarray(shift)
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return np.clip(radius_mm_ / 2.0 - distance, -8, 8).astype(np.float32)


def pool(count: int = 16, seed: int = 0) -> Ensemble:
    rng = np.random.default_rng(seed)
    logits = np.stack([sphere(14.0 + rng.normal(0, 2.0), rng.normal(0, 0.8, 3)) for _ in range(count)])
    return Ensemble(logits, np.full(count, 0.8, np.float32))


def answer_box(prompts: Prompts) -> tuple[NDArray[Any], NDArray[Any]]:
    """A model that fills the ellipse of each box."""
    y, x = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5, indexing="ij")
    logits = []
    for x0, y0, x1, y1 in prompts.boxes / 2.0:
        half_x, half_y = max(0.5, (x1 - x0) / 2), max(0.5, (y1 - y0) / 2)
        distance = np.hypot((x - (x0 + x1) / 2) / half_x, (y - (y0 + y1) / 2) / half_y)
        logits.append(np.clip(6.0 * (1.0 - distance), -8, 8))
    stack = np.repeat(np.array(logits, np.float32)[:, None], 4, axis=1)
    return stack, np.full((len(stack), 4), 0.8, np.float32)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def opened() -> TargetState:
    return open_target(2, CROP, pool(), OPTIONS)


def test_first_four_are_different_and_largest_first(opened: TargetState) -> None:
    masks = opened.offered > 0
    sizes = masks.reshape(4, -1).sum(axis=1)
    assert (np.diff(sizes) <= 0).all()
    agreement = dice_matrix(masks)
    assert agreement[~np.eye(4, dtype=bool)].max() <= 0.981


def test_identical_members_still_become_four_candidates() -> None:
    logits = np.repeat(sphere()[None], 16, axis=0)
    target = open_target(1, CROP, Ensemble(logits, np.ones(16, np.float32)), OPTIONS)
    agreement = dice_matrix(target.offered > 0)
    assert agreement[~np.eye(4, dtype=bool)].max() <= 0.981


def test_a_pick_is_kept_and_the_new_ones_are_near_it(opened: TargetState) -> None:
    after = refine_target(opened, answer_box, 3, 2, LESION_PLAN, OPTIONS, np.random.default_rng(0))
    np.testing.assert_array_equal(after.offered[0], opened.offered[3])
    reference = opened.offered[3] > 0
    near = [dice(candidate > 0, reference) for candidate in after.offered[1:]]
    assert min(near) > 0.6
    assert max(near) < 0.99
    assert len(after.earlier) == 3


def test_picking_the_largest_makes_the_next_ones_larger_than_picking_the_smallest(
    opened: TargetState,
) -> None:
    def mean_size(picked: int) -> int:
        rng = np.random.default_rng(0)
        after = refine_target(opened, answer_box, picked, 2, LESION_PLAN, OPTIONS, rng)
        return (after.offered[1:] > 0).sum()

    assert mean_size(0) > mean_size(3)


def test_a_rejection_avoids_what_was_rejected(opened: TargetState) -> None:
    after = refine_target(opened, answer_box, None, 2, LESION_PLAN, OPTIONS, np.random.default_rng(0))
    likeness = dice_matrix(np.concatenate([after.offered, opened.offered]) > 0)[:4, 4:]
    assert likeness.max() < 0.97


def test_refinement_repeats_for_a_seed(opened: TargetState) -> None:
    first, second = (
        refine_target(opened, answer_box, 1, 2, LESION_PLAN, OPTIONS, np.random.default_rng(4))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.offered, second.offered)


def test_members_of_a_refinement_ask_in_every_way() -> None:
    kinds = refine.kinds_of(16)
    assert set(kinds) == set(refine.Kind)
    reference, uncertain = sphere(), np.abs(sphere()) < 1.0
    rng = np.random.default_rng(0)
    members = refine.refined_members(reference, uncertain, kinds, rng, pixels=64, spread=0.05, tokens=(0,))
    for kind, member in zip(kinds, members, strict=True):
        assert (member.prompts.masks is None) == (kind is refine.Kind.BOX)
        assert (member.prompts.points is not None) == (kind is refine.Kind.POINTS)


def test_points_lie_where_their_labels_say() -> None:
    reference, uncertain = sphere(), np.abs(sphere()) < 1.5
    rng = np.random.default_rng(0)
    kinds = (refine.Kind.POINTS,) * 4
    members = refine.refined_members(reference, uncertain, kinds, rng, pixels=64, spread=0.05, tokens=(0,))
    seen = set()
    for member in members:
        prompts = member.prompts
        for z, points, labels in zip(prompts.slices, prompts.points, prompts.labels, strict=True):
            for column, ((x, y), label) in enumerate(zip(points, labels, strict=True)):
                value = reference[z, int(y // 2), int(x // 2)]
                seen.add(int(label))
                if label != PADDING and column == 0:
                    assert value > refine.CERTAIN
                    assert label == INSIDE
                elif label != PADDING and column == 1:
                    assert value < -refine.CERTAIN
                    assert label == OUTSIDE
                elif label != PADDING:
                    assert (value > 0) != bool(label)
    assert seen == {INSIDE, OUTSIDE, PADDING}


def test_level_members_take_the_sizes_that_the_reader_may_want() -> None:
    reference = sphere(14.0)
    radii = np.array([10.0, 14.0, 18.0])
    history = reference[None]
    shaping = refine.Shaping(CROP, radii, 14.0, history, np.ones(1))
    kinds = (refine.Kind.LEVEL,) * 3
    answers = np.repeat(reference[None], 3, axis=0)
    shaped = refine.reshape(answers, reference, kinds, shaping, np.random.default_rng(0))
    found = [radius_mm((shape > 0).sum() * CROP.cell_volume_ml) for shape in shaped]
    assert found[0] < found[1] < found[2]
    assert found[1] == pytest.approx(14.0, abs=1.0)
    assert found[2] - found[0] > 4.0


def test_a_one_sided_member_moves_one_side() -> None:
    reference = sphere(14.0)
    shaping = refine.Shaping(CROP, np.array([14.0]), 14.0, reference[None], np.ones(1))
    kinds = (refine.Kind.ONE_SIDED,)
    shaped = refine.reshape(reference[None].copy(), reference, kinds, shaping, np.random.default_rng(1))[0]
    changed = (shaped > 0) != (reference > 0)
    assert changed.any()
    offset = np.argwhere(changed).mean(axis=0) - np.array([11.5, 15.5, 15.5])
    assert np.linalg.norm(offset) > 3.0


def test_tidying_keeps_one_solid_piece() -> None:
    logits = sphere(14.0)
    logits[11, 15, 15] = -3.0
    logits[2, 2, 2] = 5.0
    clean = tidied(logits) > 0
    assert clean[11, 15, 15]
    assert not clean[2, 2, 2]
    assert not tidied(np.full((3, 4, 4), -1.0, np.float32)).max() > 0


def test_a_bay_stays_open_and_a_hole_of_one_slice_is_closed() -> None:
    logits = np.full((4, 9, 9), -5.0, np.float32)
    logits[1:3, 1:8, 1:8] = 3.0
    logits[1, 3, 3] = -3.0  # a hole in its slice and, with the next line, open to the outside below
    logits[0:1, 3, 3] = -5.0
    logits[2, 4, 4:] = -3.0  # reaches the edge
    clean = tidied(logits)
    assert clean[1, 3, 3] > 0
    assert not (clean[2, 4, 4:] > 0).any()
    np.testing.assert_array_equal(clean[0], logits[0])


def test_lesions_stay_in_the_domain_and_the_larger_logit_wins() -> None:
    liver = Layer(1, CROP, sphere(24.0))
    domain = sphere(26.0) > 0
    left, right = Layer(2, CROP, sphere(9.0, (0, 0, -3))), Layer(3, CROP, sphere(9.0, (0, 0, 3)))
    outside = Layer(4, CROP, sphere(8.0, (0, 0, 13)))
    labels = compose(liver, domain, [left, right, outside], SHAPE)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    x_of = {value: np.argwhere(labels == value)[:, 2] for value in (2, 3)}
    assert x_of[2].max() <= 32
    assert x_of[3].min() >= 31
    assert abs(len(x_of[2]) - len(x_of[3])) < 0.02 * len(x_of[2])
    allowed = np.argwhere(labels == 4)
    distance = np.hypot(
        np.hypot((allowed[:, 1] - 31.5), (allowed[:, 2] - 31.5)), 2.0 * (allowed[:, 0] - 11.5)
    )
    assert distance.max() < 30.0


def test_dice_by_label_counts_lesions_as_liver() -> None:
    a = np.array([[[1, 1, 2, 0]]], np.uint8)
    b = np.array([[[1, 2, 2, 1]]], np.uint8)
    assert dice_by_label(a, b) == {2: pytest.approx(2 / 3), 1: pytest.approx(6 / 7)}
    assert dice_by_label(a, a) == {1: 1.0, 2: 1.0}


def test_moving_apart_leaves_the_fixed_one_alone() -> None:
    logits = np.repeat(sphere()[None], 4, axis=0)
    apart = spread_apart(logits, 2, 0.97)
    np.testing.assert_array_equal(apart[2], logits[2])
    agreement = dice_matrix(apart > 0)
    assert agreement[~np.eye(4, dtype=bool)].max() <= 0.97


def test_state_survives_its_file(opened: TargetState, tmp_path: Path) -> None:
    hu = np.full(opened.crop.stack_shape, 55, np.float16)
    lesion = replace(opened, value=3, present=(True, False, True, False), confidence=0.7, hu=hu)
    state = RoundState(2, "ab" * 32, (opened, lesion), sphere() > 0)
    state.save(tmp_path / "state.npz")
    back = RoundState.load(tmp_path / "state.npz")
    assert (back.number, back.model_digest) == (2, "ab" * 32)
    np.testing.assert_array_equal(back.domain, state.domain)
    for old, new in zip(state.targets, back.targets, strict=True):
        assert (old.value, old.crop, old.present, old.confidence) == (
            new.value,
            new.crop,
            new.present,
            new.confidence,
        )
        np.testing.assert_array_equal(old.offered, new.offered)
        np.testing.assert_array_equal(old.deviation, new.deviation)
        np.testing.assert_array_equal(old.earlier, new.earlier)
        np.testing.assert_array_equal(old.size.mass, new.size.mass)
        np.testing.assert_array_equal(old.hu, new.hu)
    assert isinstance(back.targets[0].size, SizePosterior)


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", header=np.array('{"format": 99}'))
    with pytest.raises(ValueError, match="format 99"):
        RoundState.load(tmp_path / "odd.npz")
