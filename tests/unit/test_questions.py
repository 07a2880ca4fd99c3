"""One pick for all targets answers two questions, and no more are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.synthetic import SPACING
from tests.support.synthetic_round import synthetic_round
from tests.unit.test_uair_rounds import CROP, pool
from workers.engine import SIZES_AFTER_PICK, Feedback
from workers.uair.answered_targets import answered
from workers.uair.questions import _joined, two_questions
from workers.uair.state import TargetState
from workers.uair.targets import CandidateOptions, open_target


def refined(value: int, seed: int) -> TargetState:
    """A target after a pick, in doubt."""
    opened = open_target(value, CROP, pool(seed=seed), CandidateOptions(16, "belief"))
    assert opened.belief is not None
    return answered(opened, opened.belief, 1, 2, np.random.default_rng(seed))


def versions(target: TargetState) -> list[int]:
    """For each candidate the first one that shows the target alike."""
    return [
        next(k for k in range(4) if (target.offered[k] == candidate).all()) for candidate in target.offered
    ]


def test_two_targets_at_most_differ_and_the_four_combine_them() -> None:
    liver, *lesions = (refined(value, value) for value in (1, 2, 3))
    asked, names = two_questions((liver, *lesions))
    assert sorted(map(versions, asked)) == [[0, 0, 0, 0], [0, 0, 2, 2], [0, 1, 0, 1]]
    assert [target.resting for target in asked] == [versions(target) == [0] * 4 for target in asked]
    for before, after in zip((liver, *lesions), asked, strict=True):
        np.testing.assert_array_equal(after.offered[0], before.offered[0])
        assert all((candidate == before.offered).all(axis=(1, 2, 3)).any() for candidate in after.offered)
    assert names is not None
    assert names[0] == "as selected"
    assert names[3] == _joined(names[1:3])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ((), ""),
        (("lesion 2 tighter",), "lesion 2 tighter"),
        (("lesion 2 tighter", "lesion 1 wider"), "lesion 2 tighter, lesion 1 wider"),
        (("lesion 12 wider", "lesion 1 wider"), "lesions 1 and 12 wider"),
        (("liver wider", "lesion 1 wider"), "liver and lesion 1 wider"),
        (("lesion 1 tighter", "liver tighter"), "liver and lesion 1 tighter"),
    ],
)
def test_changes_are_told_in_one_short_line(changes: tuple[str, ...], line: str) -> None:
    assert _joined(changes) == line


def test_names_say_what_changes() -> None:
    asked, names = two_questions((refined(1, 1), refined(2, 2)))
    assert names is not None
    for target, name in zip(asked, ("liver", "lesion 1"), strict=True):
        other = next(k for k in (1, 2) if versions(target)[k] == k)
        larger = (target.offered[other] > 0).sum() >= (target.offered[0] > 0).sum()
        assert names[other] == f"{name} {'wider' if larger else 'tighter'}"


def test_whether_a_lesion_is_there_is_the_second_question() -> None:
    doubtful = replace(refined(3, 3), present=(True, True, False, False))
    asked, names = two_questions((refined(1, 1), refined(2, 2), doubtful))
    assert sorted(map(versions, asked)) == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert asked[2].present == (True, True, False, False)
    assert names is not None
    assert (names[0], names[2]) == ("as selected", "as selected")
    assert names[1] == names[3] != "as selected"


@pytest.mark.parametrize("others", [(), (2,)])
def test_less_than_two_doubts_leave_the_four_as_they_are(others: tuple[int, ...]) -> None:
    resting = [
        replace(target, offered=np.repeat(target.offered[:1], 4, axis=0))
        for target in (refined(value, value) for value in others)
    ]
    targets = (refined(1, 1), *resting)
    asked, names = two_questions(targets)
    assert names is None
    for before, after in zip(targets, asked, strict=True):
        np.testing.assert_array_equal(before.offered, after.offered)


def test_a_reader_who_answers_for_each_target_is_offered_four_of_each() -> None:
    engine, volume, first = synthetic_round()
    for_all = engine.next_round(volume, SPACING, first.state, Feedback(picked=3))
    assert [candidate.character.split(",")[0] for candidate in for_all.candidates] != list(SIZES_AFTER_PICK)
    each = engine.next_round(volume, SPACING, first.state, Feedback(picked=3, per_target={2: 2}))
    assert [candidate.character.split(",")[0] for candidate in each.candidates] == list(SIZES_AFTER_PICK)
    open_lesions = [target for target in each.state.targets[1:] if any(target.present) and not target.settled]
    assert all(versions(target) == [0, 1, 2, 3] for target in open_lesions)
