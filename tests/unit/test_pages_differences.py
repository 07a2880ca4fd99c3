"""The words that tell candidates apart: true, and only where there is something to tell."""

import numpy as np
import pytest

from uair_node.rendering.differences import (
    against_reference,
    against_siblings,
    change,
    headline,
    of_the_unsure,
)

SPACING = (5.0, 2.0, 2.0)  # 0.02 ml a voxel


def liver() -> np.ndarray:
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[3:27, 5:35, 5:35] = 1
    return labels


def test_change_counts_both_ways() -> None:
    first, other = np.zeros((2, 10, 10), bool), np.zeros((2, 10, 10), bool)
    first[0, :5], other[0, 3:8] = True, True
    found = change(first, other, SPACING)
    assert (found.added_ml, found.removed_ml) == pytest.approx((0.6, 0.6))
    assert found.dice == pytest.approx(2 * 20 / 100)
    empty = np.zeros_like(first)
    assert change(empty, empty, SPACING).dice == 1.0


def test_the_largest_says_so_and_where() -> None:
    """Axis 0 grows upwards, axis 2 to the patient's left."""
    large = liver()
    large[20:27, 5:35, 2:5] = 1
    said = against_siblings(large, [liver()] * 3, SPACING)
    assert said == [
        "largest liver: 12.6 ml more than the next",
        "includes 12.6 ml unlike most others, mostly near the dome, on the right",
    ]


def test_the_smallest_says_so_and_where() -> None:
    small = liver()
    small[3:9, :, 26:35] = 0
    said = against_siblings(small, [liver()] * 3, SPACING)
    assert said == [
        "smallest liver: 32.4 ml less than the next",
        "leaves out 32.4 ml unlike most others, mostly near the lower edge, on the left",
    ]


def test_the_headline_is_what_a_reader_should_see_first() -> None:
    large, small, lesion = liver(), liver(), liver()
    large[20:27, 5:35, 2:5] = 1
    small[3:9, :, 26:35] = 0
    lesion[10:14, 10:20, 10:20] = 2
    others = [liver()] * 3
    assert headline(large, others, SPACING) == "adds 13 ml near the dome, on the right"
    assert headline(small, others, SPACING) == "leaves out 32 ml near the lower edge, on the left"
    assert headline(liver(), [lesion] * 3, SPACING) == "without lesion 1, unlike most others"
    large[10:14, 10:20, 10:20] = 2
    assert headline(large, others, SPACING) == "only here: lesion 1 (8.0 ml)", "a lesion counts more"
    assert headline(liver(), others, SPACING) == "hardly differs from the other candidates"
    assert headline(liver(), [], SPACING) == ""


def test_a_lesion_that_only_one_has_or_lacks_is_named() -> None:
    with_one, with_two = liver(), liver()
    with_one[10:14, 10:20, 10:20] = 2
    with_two[10:14, 10:20, 10:20] = 2
    with_two[20:22, 10:20, 10:20] = 4
    said = against_siblings(with_two, [with_one] * 3, SPACING)
    assert "largest lesion volume: 4.0 ml more than the next" in said
    assert "only here: lesion 3 (4.0 ml)" in said
    said = against_siblings(with_one, [with_two] * 3, SPACING)
    assert "without lesion 3, unlike most others" in said
    neither = liver()
    assert "without lesions 1, 3, unlike most others" in against_siblings(neither, [with_two] * 3, SPACING)
    assert not [
        sibling
        for sibling in against_siblings(neither, [liver(), liver(), with_two], SPACING)
        if "without" in sibling
    ]


def test_equals_have_nothing_to_tell() -> None:
    assert against_siblings(liver(), [liver()] * 3, SPACING) == ["hardly differs from the other candidates"]
    assert against_siblings(liver(), [], SPACING) == ["the only candidate"]


def test_depth_is_told() -> None:
    """Axis 1 grows to the back."""
    deep = liver()
    deep[10:20, 35:39, 5:35] = 1
    assert against_siblings(deep, [liver()] * 3, SPACING)[-1].endswith("mostly half-way up, at the back")


def test_the_part_of_the_unsure_region_that_is_taken_in() -> None:
    unsure = np.zeros((30, 40, 50), bool)
    unsure[3:27, 30:40, 5:35] = True
    large = liver()
    large[3:27, 35:40, 5:35] = 1
    said = of_the_unsure(liver(), [large, liver()], unsure, SPACING)
    assert said == [
        "contains 50 % of the 144 ml where the model is unsure; the other candidates: 50 to 100 %"
    ]
    said = of_the_unsure(large, [liver(), liver()], unsure, SPACING)
    assert said == ["contains 100 % of the 144 ml where the model is unsure; the other candidates: 50 %"]
    said = of_the_unsure(liver(), [liver()] * 3, unsure, SPACING)
    assert said == ["contains 50 % of the 144 ml where the model is unsure, like the other candidates"]
    assert of_the_unsure(liver(), [large], np.zeros_like(unsure), SPACING) == []


def test_against_the_selection_before_every_target_is_told() -> None:
    before, now = liver(), liver()
    before[10:12, 10:20, 10:20] = 2
    before[20:22, 10:20, 10:20] = 3
    now[10:12, 10:20, 10:22] = 2
    now[15:17, 10:20, 10:20] = 5
    assert against_reference(now, before, SPACING) == [
        "liver: unchanged",
        "lesion 1: 0.8 ml more, 0.0 less, Dice 0.91",
        "lesion 2: left out",
        "lesion 4: new",
    ]
