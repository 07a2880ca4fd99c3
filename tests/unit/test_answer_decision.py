"""Effects of an answer: each cell of the table; every state is decided."""

from __future__ import annotations

import pytest

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.selection.decision import CLOSED, WAIT, Effect, Said, Standing, decide

S = CaseState
EARLIER = Said(Verb.PICK, 2, ReaderChoice(1))
"""The reader's answer to round 2; it started round 3."""
SAME = EARLIER
OTHER_PICK = Said(Verb.PICK, 2, ReaderChoice(3))
OTHER_LESION = Said(Verb.PICK, 2, ReaderChoice(1, {2: 4}))
EDIT = Said(Verb.PICK, 2, ReaderChoice(1), "edit.npz")
ACCEPT = Said(Verb.ACCEPT, 2, ReaderChoice(1))
NONE_FITS = Said(Verb.REJECT, 2, ReaderChoice(None))
OPEN = Said(Verb.PICK, 3, ReaderChoice(2))
OLDEST = Said(Verb.ACCEPT, 1, ReaderChoice(4))


def _outcome(state: CaseState, said: Said, *, sent: bool, taken: Said | None = EARLIER) -> Effect | str:
    try:
        return decide(Standing(7, state, 3, sent, taken), said)
    except InputError as refusal:
        return refusal.code if refusal.sentence and refusal.remedy else "no remedy"


@pytest.mark.parametrize(
    ("said", "effect"),
    [
        (OPEN, Effect.EFFECTIVE),
        (Said(Verb.ACCEPT, 3, ReaderChoice(2)), Effect.EFFECTIVE),
        (Said(Verb.REJECT, 3, ReaderChoice(None)), Effect.EFFECTIVE),
        (OLDEST, Effect.EFFECTIVE),
        (OTHER_PICK, Effect.EFFECTIVE),
        (ACCEPT, Effect.EFFECTIVE),
        (SAME, Effect.REPEATED),
    ],
)
def test_a_case_that_awaits_takes_candidates_of_any_round(said: Said, effect: Effect) -> None:
    assert _outcome(S.AWAITING_SELECTION, said, sent=True) == effect


@pytest.mark.parametrize("said", [OTHER_PICK, OTHER_LESION, EDIT, ACCEPT, NONE_FITS])
def test_another_answer_replaces_the_earlier_until_the_next_four_are_sent(said: Said) -> None:
    assert _outcome(S.REFINING, said, sent=False) == Effect.REPLACES
    assert _outcome(S.REFINING, said, sent=True) == WAIT


@pytest.mark.parametrize("sent", [False, True])
def test_while_refining_the_same_answer_is_repeated_and_an_older_round_waits(sent: bool) -> None:
    assert _outcome(S.REFINING, SAME, sent=sent) == Effect.REPEATED
    assert _outcome(S.REFINING, OLDEST, sent=sent) == WAIT
    assert _outcome(S.REFINING, OPEN, sent=sent) == WAIT


@pytest.mark.parametrize("state", [S.EXPIRED, S.SUPERSEDED, S.FAILED, S.REJECTED])
@pytest.mark.parametrize("said", [SAME, OTHER_PICK, OPEN, OLDEST, ACCEPT])
def test_a_closed_case_takes_no_answer(state: CaseState, said: Said) -> None:
    assert _outcome(state, said, sent=True) == CLOSED


def test_an_accepted_case_takes_nothing_but_the_repetition_of_its_end() -> None:
    end = Said(Verb.ACCEPT, 3, ReaderChoice(2))
    assert _outcome(S.ACCEPTED, end, sent=True, taken=end) == Effect.REPEATED
    for said in (SAME, OPEN, OLDEST, ACCEPT):
        assert _outcome(S.ACCEPTED, said, sent=True, taken=end) == CLOSED


@pytest.mark.parametrize("state", [S.RECEIVING, S.READY, S.SEGMENTING])
def test_before_the_first_round_is_published_an_answer_waits(state: CaseState) -> None:
    assert _outcome(state, OPEN, sent=False, taken=None) == WAIT


@pytest.mark.parametrize("state", list(CaseState))
def test_every_state_is_decided(state: CaseState) -> None:
    assert _outcome(state, OPEN, sent=False, taken=None) in {Effect.EFFECTIVE, WAIT, CLOSED}
