"""Lesions that round 1 found, and lesions that the reader added or dropped."""

from __future__ import annotations

from typing import Any

import pytest

from uair_node.cases.marks import Mark, MarkedLesion, Marks
from uair_node.cases.tables import Case, Result, ResultKind, Round, Selection
from uair_node.operations.lesion_recall import LesionTally, tally_lesions


def _result(kind: ResultKind, k: int, *targets: int) -> Result:
    return Result(kind=kind, k=k, targets=list(targets))


def _case(*finals: Result, **first: Any) -> Case:
    candidates = [_result(ResultKind.CANDIDATE, 1, 1, 2, 3), _result(ResultKind.CANDIDATE, 2, 1, 2, 4)]
    rounds = [Round(number=1, results=candidates, **first), Round(number=2, results=list(finals))]
    return Case(rounds=rounds)


def test_found_added_and_dropped_lesions_are_counted() -> None:
    new = MarkedLesion(5, new=True, size_mm=9.0, marks=(Mark("point", ((1.0, 2.0, 3.0),)),))
    marked = Selection(marks=Marks(lesions=(new,)).record)
    # Lesions 1 and 3 were offered, 4 was marked, 5 was drawn; candidate 1 showed lesion 2, too.
    case = _case(_result(ResultKind.FINAL, 1, 1, 2, 4, 5, 6))
    tally = tally_lesions(case, [marked, Selection()])
    assert tally == LesionTally(found=2, marked=1, drawn=1, dropped=1)
    assert tally is not None
    assert (tally.accepted, tally.recall) == (4, 0.5)


def test_a_case_without_a_final_or_from_another_system_tells_nothing() -> None:
    assert tally_lesions(_case(), []) is None
    assert tally_lesions(_case(_result(ResultKind.FINAL, 1, 1, 2), selection_id=7), []) is None


def test_tallies_add_up() -> None:
    total = LesionTally(1, 2, 3, 4) + LesionTally(1, 0, 1, 0)
    assert total == LesionTally(2, 2, 4, 4)
    assert total.recall == pytest.approx(0.25)
    assert LesionTally().recall is None
