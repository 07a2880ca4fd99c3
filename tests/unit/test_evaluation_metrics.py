"""Overlap measures and the simulated reader."""

import numpy as np
import pytest

from workers.evaluation.metrics import Overlap, agreement, dice, jaccard, overlap
from workers.evaluation.reader import combined, judge, judge_targets, score

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


def test_dice_and_jaccard_of_half_overlapping_masks():
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[0, 0, :4] = True
    second[0, 0, 2:6] = True
    assert overlap(first, second) == Overlap(2, 4, 4)
    assert dice(first, second) == pytest.approx(0.5)
    assert jaccard(first, second) == pytest.approx(1 / 3)


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert dice(empty, empty) == jaccard(empty, empty) == 1.0
    assert dice(empty, full) == jaccard(empty, full) == 0.0


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        overlap(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool))


def test_the_liver_includes_its_lesions():
    without_lesions = labels_of(v1=WHOLE)
    found = agreement(without_lesions, TRUTH)
    assert found.liver.dice == 1.0
    assert found.lesions is not None
    assert found.lesions.dice == 0.0


def test_lesions_are_matched_by_overlap_not_by_number():
    swapped = labels_of(v1=WHOLE, v3=LESION_A, v2=LESION_B)
    found = agreement(swapped, TRUTH)
    assert {n: one.dice for n, one in found.each_lesion.items()} == {1: 1.0, 2: 1.0}
    missed = agreement(labels_of(v1=WHOLE, v2=LESION_B), TRUTH)
    assert {n: one.dice for n, one in missed.each_lesion.items()} == {1: 0.0, 2: 1.0}


def test_without_any_lesion_there_is_no_lesion_figure():
    plain = labels_of(v1=WHOLE)
    assert agreement(plain, plain).lesions is None
    invented = agreement(labels_of(v1=WHOLE, v2=LESION_A), plain)
    assert invented.lesions is not None
    assert invented.lesions.dice == 0.0
    assert score(invented) == invented.liver.dice


def test_the_reader_takes_the_candidate_nearest_to_the_truth():
    poor = labels_of(v1=(slice(0, 4), slice(0, 10), slice(0, 9)))
    without_lesion_b = labels_of(v1=WHOLE, v2=LESION_A)
    opinion = judge([poor, without_lesion_b, TRUTH, poor], TRUTH)
    assert opinion.k == 3
    assert score(opinion.best) == 1.0
    assert judge([poor, without_lesion_b], TRUTH).k == 2


def test_equal_candidates_give_the_first():
    assert judge([TRUTH, TRUTH, TRUTH, TRUTH], TRUTH).k == 1
    with pytest.raises(ValueError, match="candidates"):
        judge([], TRUTH)


def test_each_target_is_judged_on_its_own_and_combined():
    larger = (slice(0, 4), slice(1, 4), slice(1, 4))
    good_liver = labels_of(v1=WHOLE, v2=larger)
    good_lesion = labels_of(v1=(slice(0, 4), slice(0, 10), slice(0, 8)), v2=LESION_A)
    candidates = [good_liver, good_lesion]
    picks = judge_targets(candidates, TRUTH, (1, 2))
    assert picks == {1: 1, 2: 2}
    assert np.array_equal(combined(candidates, picks), labels_of(v1=WHOLE, v2=LESION_A))


def test_of_an_invented_lesion_the_smallest_is_best():
    nowhere = (slice(0, 1), slice(4, 6), slice(3, 5))
    candidates = [labels_of(v1=WHOLE, v4=nowhere), labels_of(v1=WHOLE)]
    picks = judge_targets(candidates, TRUTH, (1, 4))
    assert picks[4] == 2
    assert not (combined(candidates, picks) == 4).any()
