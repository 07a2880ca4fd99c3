"""Prompts of the first ensemble, read off outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.uair.ensemble import ABSENT, predict
from workers.uair.prompts import (
    Member,
    Outline,
    Prompts,
    Spread,
    boxes_of,
    filled,
    first_members,
    moved,
    outline_of,
    stratified,
    tapered,
)

SPREAD = Spread(0.05, (-0.1, 0.2))


def outline(slices: int = 9) -> Outline:
    tight = np.full((slices, 4), np.nan, np.float32)
    tight[2:7] = (40.0, 44.0, 80.0, 90.0)
    return Outline((36.0, 40.0, 84.0, 96.0), 0, slices, tight)


def test_boxes_are_in_pixels_and_half_open() -> None:
    cells = np.zeros((2, 8, 8), np.float32)
    cells[0, 2:5, 3] = 1.0
    boxes = boxes_of(cells, 0.5, 32)
    np.testing.assert_array_equal(boxes[0], [12.0, 8.0, 16.0, 20.0])
    assert np.isnan(boxes[1]).all()


def test_missing_boxes_are_interpolated_and_the_ends_repeated() -> None:
    boxes = np.full((5, 4), np.nan, np.float32)
    boxes[1], boxes[3] = (0, 0, 10, 10), (4, 4, 20, 20)
    full = filled(boxes)
    np.testing.assert_allclose(full[2], [2, 2, 15, 15])
    np.testing.assert_allclose(full[0], boxes[1])
    np.testing.assert_allclose(full[4], boxes[3])
    with pytest.raises(ValueError, match="no slice"):
        filled(np.full((3, 4), np.nan, np.float32))


def test_tapered_boxes_are_widest_in_the_middle_and_inside_the_3d_box() -> None:
    boxes = tapered(outline(), np.arange(9))
    width = boxes[:, 2] - boxes[:, 0]
    assert width.argmax() == 4
    assert width[4] == pytest.approx(48.0, rel=0.01)
    assert width[0] < 0.6 * width[4]
    np.testing.assert_allclose(width, width[::-1], rtol=1e-4)


def cut_above(slices: int = 9) -> NDArray[Any]:
    """Half a ball: as wide as it gets on the last slice, where the scan ends."""
    logits = np.full((slices, 32, 32), -5.0, np.float32)
    for z in range(2, slices):
        radius = int(np.sqrt(12**2 - (12 * (slices - 1 - z) / 7) ** 2)) + 2
        logits[z, 16 - radius : 16 + radius, 16 - radius : 16 + radius] = 5.0
    return logits


def test_where_the_scan_cuts_a_target_boxes_stay_wide_and_no_member_stops_early() -> None:
    outline = outline_of(cut_above(), 128)
    assert outline.goes_on == (False, True)
    boxes = tapered(outline, np.arange(9))
    width = boxes[:, 2] - boxes[:, 0]
    assert width[8] == pytest.approx(width.max(), rel=0.02)
    assert width[0] < 0.5 * width.max()
    members = first_members(outline, 16, np.random.default_rng(0), spread=SPREAD, tokens=(0,))
    assert all(member.prompts.slices[-1] == 8 for member in members)
    assert len({int(member.prompts.slices[0]) for member in members}) == 2


def test_a_target_that_ends_inside_the_scan_is_not_cut() -> None:
    assert outline_of(cut_above()[::-1], 128).goes_on == (True, False)
    ended = np.pad(cut_above(), ((0, 1), (0, 0), (0, 0)), constant_values=-5.0)
    assert outline_of(ended, 128).goes_on == (False, False)


def test_a_moved_box_grows_by_a_part_of_its_size_and_never_inverts() -> None:
    box = np.array([[10.0, 20.0, 30.0, 60.0]], np.float32)
    np.testing.assert_allclose(moved(box, np.zeros(4), 0.5), [[5.0, 10.0, 35.0, 70.0]])
    tiny = moved(box, np.array([2.0, 2.0, -2.0, -2.0]), 0.0)[0]
    assert tiny[2] - tiny[0] >= 3.0
    assert tiny[3] - tiny[1] >= 3.0


def test_growth_is_spread_evenly() -> None:
    values = np.sort(stratified(16, -0.2, 0.6, np.random.default_rng(0)))
    steps = np.floor((values + 0.2) / 0.05)
    np.testing.assert_array_equal(steps, np.arange(16))


def test_members_cover_the_target_and_repeat_for_a_seed() -> None:
    def draw(seed: int) -> Any:
        return first_members(outline(), 16, np.random.default_rng(seed), spread=SPREAD, tokens=(0, None))

    members = draw(1)
    assert len(members) == 16
    assert {member.token for member in members} == {0, None}
    for member in members:
        assert {3, 4, 5} <= set(member.prompts.slices.tolist())
        assert (member.prompts.boxes[:, 2:] > member.prompts.boxes[:, :2]).all()
    for a, b in zip(members, draw(1), strict=True):
        np.testing.assert_array_equal(a.prompts.boxes, b.prompts.boxes)
    assert any(
        (a.prompts.boxes[3] != b.prompts.boxes[3]).any() for a, b in zip(members, draw(2), strict=True)
    )


def test_an_earlier_mask_prompts_every_fourth_member() -> None:
    logits = np.full((9, 16, 16), -4.0, np.float32)
    logits[2:7, 4:10, 5:12] = 4.0
    known = outline_of(logits, 128)
    assert (known.first, known.last) == (1, 8)
    assert known.around == (40.0, 32.0, 96.0, 80.0)
    members = first_members(known, 8, np.random.default_rng(0), spread=SPREAD, tokens=(0,))
    assert [member.prompts.masks is not None for member in members] == [False, False, False, True] * 2


def test_an_ensemble_takes_each_members_token_and_leaves_other_slices_absent() -> None:
    def decode(prompts: Prompts) -> tuple[NDArray[Any], NDArray[Any]]:
        logits = np.stack([np.full((len(prompts), 4, 4), float(token)) for token in range(4)], axis=1)
        quality = np.tile(np.array([0.9, 0.1, 0.8, 0.3], np.float32), (len(prompts), 1))
        return logits.astype(np.float32), quality

    asked = Prompts(np.array([1, 2]), np.zeros((2, 4), np.float32))
    found = predict(decode, [Member(asked, 1), Member(asked, None)], (4, 4, 4), 0.0)
    assert (found.logits[0, 1:3] == 1.0).all()
    assert (found.logits[1, 1:3] == 2.0).all()  # best predicted IoU among the alternatives
    assert (found.logits[:, [0, 3]] == ABSENT).all()
    np.testing.assert_allclose(found.quality, [0.1, 0.8])


def test_members_are_cut_off_outside_the_organ() -> None:
    found = predict(
        lambda asked: (np.full((len(asked), 4, 2, 2), 5.0, np.float32), np.ones((len(asked), 4), np.float32)),
        [Member(Prompts(np.array([0]), np.zeros((1, 4), np.float32)), 0)],
        (1, 2, 2),
        0.0,
    )
    organ = np.array([[[True, False], [True, True]]])
    np.testing.assert_array_equal(found.confined(organ).masks[0], organ)
    assert len(found.joined_by(found.logits[0]).logits) == 2
