"""Overlap and surface measures, simulated readers and their preferences."""

import numpy as np
import pytest

from workers.research.evaluation.fixed_preferences import resized, rounds_needed, wishes
from workers.research.evaluation.reader import combined, noisy, pick_targets
from workers.research.evaluation.surface_distance import surface_distance
from workers.truth.metrics import Overlap, agreement, dice, jaccard, overlap

SHAPE = (4, 10, 10)


def labels_of(**blocks: tuple[slice, slice, slice]) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for name, block in blocks.items():
        labels[block] = int(name[1:])
    return labels


WHOLE = (slice(0, 4), slice(0, 10), slice(0, 5))
LESION_A = (slice(1, 3), slice(1, 3), slice(1, 3))
LESION_B = (slice(1, 3), slice(6, 8), slice(1, 3))
TRUTH = labels_of(v1=WHOLE, v2=LESION_A, v3=LESION_B)


def test_dice_and_jaccard_of_half_overlapping_masks() -> None:
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[0, 0, :4] = True
    second[0, 0, 2:6] = True
    assert overlap(first, second) == Overlap(2, 4, 4)
    assert dice(first, second) == pytest.approx(0.5)
    assert jaccard(first, second) == pytest.approx(1 / 3)


def test_two_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert dice(empty, empty) == jaccard(empty, empty) == 1.0
    assert dice(empty, full) == jaccard(empty, full) == 0.0


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        overlap(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool))


def test_the_liver_includes_its_lesions() -> None:
    without_lesions = labels_of(v1=WHOLE)
    found = agreement(without_lesions, TRUTH)
    assert found.liver.dice == 1.0
    assert found.lesions is not None
    assert found.lesions.dice == 0.0


def test_lesions_are_matched_by_overlap_not_by_number() -> None:
    swapped = labels_of(v1=WHOLE, v3=LESION_A, v2=LESION_B)
    found = agreement(swapped, TRUTH)
    assert {n: lesion.dice for n, lesion in found.each_lesion.items()} == {1: 1.0, 2: 1.0}
    missed = agreement(labels_of(v1=WHOLE, v2=LESION_B), TRUTH)
    assert {n: lesion.dice for n, lesion in missed.each_lesion.items()} == {1: 0.0, 2: 1.0}


def test_without_any_lesion_there_is_no_lesion_figure() -> None:
    plain = labels_of(v1=WHOLE)
    assert agreement(plain, plain).lesions is None
    invented = agreement(labels_of(v1=WHOLE, v2=LESION_A), plain)
    assert invented.lesions is not None
    assert invented.lesions.dice == 0.0


def test_each_target_is_judged_on_its_own_and_combined() -> None:
    larger = (slice(0, 4), slice(1, 4), slice(1, 4))
    good_liver = labels_of(v1=WHOLE, v2=larger)
    good_lesion = labels_of(v1=(slice(0, 4), slice(0, 10), slice(0, 8)), v2=LESION_A)
    candidates = [good_liver, good_lesion]
    picks = pick_targets(candidates, TRUTH, (1, 2))
    assert picks == {1: 1, 2: 2}
    assert np.array_equal(combined(candidates, picks), labels_of(v1=WHOLE, v2=LESION_A))


def test_of_an_invented_lesion_the_smallest_is_best() -> None:
    nowhere = (slice(0, 1), slice(4, 6), slice(3, 5))
    candidates = [labels_of(v1=WHOLE, v4=nowhere), labels_of(v1=WHOLE)]
    picks = pick_targets(candidates, TRUTH, (1, 4))
    assert picks[4] == 2
    assert not (combined(candidates, picks) == 4).any()


def test_equal_candidates_give_the_first() -> None:
    assert pick_targets([TRUTH, TRUTH], TRUTH, (1, 2, 3)) == {1: 1, 2: 1, 3: 1}


def test_the_noisy_reader_takes_the_second_best_in_its_share_of_picks() -> None:
    choose = noisy(np.random.default_rng(0), 0.3)
    picked = [choose([0.2, 0.9, 0.7, 0.1]) for _ in range(1000)]
    assert set(picked) == {1, 2}
    assert picked.count(2) == pytest.approx(300, abs=50)


def block(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros((20, 40, 40), bool)
    mask[z, y, x] = True
    return mask


def test_surfaces_of_parallel_plates_are_as_far_apart_as_the_plates() -> None:
    near, far = block(slice(5, 6), slice(0, 40), slice(0, 40)), block(slice(8, 9), slice(0, 40), slice(0, 40))
    found = surface_distance(near, far, (2.5, 1.0, 1.0))
    assert found is not None
    assert (found.average_mm, found.hd95_mm) == (pytest.approx(7.5), pytest.approx(7.5))
    assert surface_distance(near, near, (2.5, 1.0, 1.0)).average_mm == 0.0  # type: ignore[union-attr]
    assert surface_distance(near, np.zeros_like(near), (1.0, 1.0, 1.0)) is None


def test_a_far_speck_moves_the_percentile_less_than_the_average_of_its_own_side() -> None:
    truth = block(slice(5, 15), slice(5, 15), slice(5, 15))
    drawn = truth | block(slice(10, 11), slice(39, 40), slice(39, 40))
    found = surface_distance(drawn, truth, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.hd95_mm == 0.0
    assert 0.0 < found.average_mm < 0.1


def test_growing_and_shrinking_move_the_surface_by_the_margin() -> None:
    cube = block(slice(6, 14), slice(10, 30), slice(10, 30))
    spacing = (2.0, 1.0, 1.0)
    grown, shrunk = resized(cube, spacing, 2.0), resized(cube, spacing, -2.0)
    assert [np.ptp(np.flatnonzero(grown.any(axis=axes))) + 1 for axes in ((1, 2), (0, 2))] == [10, 24]
    assert [np.ptp(np.flatnonzero(shrunk.any(axis=axes))) + 1 for axes in ((1, 2), (0, 2))] == [6, 16]


def test_a_wish_for_hardly_anything_is_left_out_and_rims_need_to_be_known() -> None:
    tiny = block(slice(9, 12), slice(20, 24), slice(20, 24))
    large = block(slice(2, 18), slice(5, 35), slice(5, 35))
    spacing = (1.0, 1.0, 1.0)
    assert [wish.preference for wish in wishes(tiny, spacing, None)] == ["truth", "+2 mm"]
    with_rim = {wish.preference: wish.mask for wish in wishes(large, spacing, 3.0)}
    assert list(with_rim) == ["truth", "+2 mm", "-2 mm", "rim in", "rim out"]
    assert np.array_equal(with_rim["rim in"], large)
    assert with_rim["rim out"].sum() < with_rim["-2 mm"].sum() < large.sum()


@pytest.mark.parametrize(
    ("dices", "rounds"),
    [
        ([0.95], 1),
        ([0.7, 0.91, 0.93], 2),
        ([0.7, 0.8, 0.801, 0.802], 2),
        ([0.7, 0.7, 0.8], 3),
        ([0.8, 0.7], 1),
    ],
)
def test_a_reader_stops_when_satisfied_or_when_nothing_is_gained(dices: list[float], rounds: int) -> None:
    assert rounds_needed(dices) == rounds
