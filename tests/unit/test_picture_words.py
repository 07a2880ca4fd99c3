"""The console's text below the pictures of a case."""

from __future__ import annotations

import pytest

from uair_node.cases.tables import Result, ResultKind, Round
from uair_node.console.case import picture_words


@pytest.mark.parametrize(
    ("kind", "k", "character", "words"),
    [
        (ResultKind.NOTICE, 0, "Round 3 is ready", "Round 3 is ready"),
        (ResultKind.NOTICE, 0, "Round 1: not used", "Round 1: not used"),
        (ResultKind.PAGE, 0, "overview", "Round 3: overview"),
        (ResultKind.PAGE, 2, "tight", "Round 3: tight (candidate 2)"),
        (ResultKind.FINDING, 4, "lesion 4: drop", "Round 3: drop lesion 4?"),
        (ResultKind.FINAL_PAGE, 1, "as selected", "Round 3: result, as selected (candidate 1)"),
        (ResultKind.FINAL_PAGE, 1, "change since 2026-03-01", "Round 3: change since 2026-03-01"),
    ],
)
def test_a_picture_names_its_round_once(kind: ResultKind, k: int, character: str, words: str) -> None:
    assert picture_words(Result(kind=kind, k=k, character=character, round=Round(number=3))) == words
