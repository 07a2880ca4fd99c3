"""Decide the effect of an answer.

The same rules hold for answers from returned objects, the command line, the console and partial edits. The
functions use no database. The caller locks the case first (`uair_node.cases.lock`) and passes the case's
state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState

WAIT = "round-closed"
CLOSED = "case-closed"
_S = CaseState
TAKES_REPETITIONS = (_S.AWAITING_SELECTION, _S.REFINING, _S.ACCEPTED)
_ENDS = {
    _S.ACCEPTED: "is accepted",
    _S.EXPIRED: "expired without an answer",
    _S.SUPERSEDED: "is replaced by a newer case",
    _S.FAILED: "failed",
    _S.REJECTED: "is rejected",
}
_COMPUTING = (_S.RECEIVING, _S.READY, _S.SEGMENTING, _S.REFINING)


@dataclass(frozen=True)
class Said:
    """A reader's answer to a round.

    Parameters
    ----------
    round_number
        Number of the round whose candidates the answer names.
    artifact
        Path of the edited label volume; empty if the answer takes unchanged candidates.
    marks
        Digest of the marks' meaning, see `uair_node.cases.marks`; empty without marks.
    """

    verb: Verb
    round_number: int
    answer: ReaderChoice
    artifact: str = ""
    marks: str = ""


@dataclass(frozen=True)
class Standing:
    """The state of a case, read under its lock.

    Parameters
    ----------
    newest
        Number of the newest round. If the case is REFINING, the node still computes this round.
    sent
        Whether candidates of the newest round exist. They are on their way to a destination, or already
        there.
    taken
        The answer that started the newest round or ended the case; None before the first answer.
    final
        A sentence that says where the final segmentation of an accepted case is.
    """

    case_id: int
    state: CaseState
    newest: int
    sent: bool
    taken: Said | None
    final: str = ""


class Effect(Enum):
    """The effect of an answer that is not refused."""

    EFFECTIVE = auto()
    REPEATED = auto()  # the same answer took effect last
    REPLACES = auto()  # the answer takes effect and cancels the earlier answer to the round


def decide(standing: Standing, said: Said) -> Effect:
    """Return the effect of an answer (see the table in docs/readers.md).

    Raises
    ------
    InputError
        ``round-closed``: the next candidates are being computed or sent. ``case-closed``: the case has ended
        or failed.
    """
    state = standing.state
    if said == standing.taken and state in TAKES_REPETITIONS:
        return Effect.REPEATED
    if state == CaseState.AWAITING_SELECTION:
        return Effect.EFFECTIVE
    answers_open_round = said.round_number == standing.newest - 1
    if state == CaseState.REFINING and answers_open_round and not standing.sent:
        return Effect.REPLACES
    raise refusal_of(standing.case_id, state, standing.newest, standing.final)


def refusal_of(case_id: int, state: CaseState, newest: int, final: str) -> InputError:
    """Return the error that explains why a case accepts no answer in this state, with a remedy.

    `newest` and `final` have the meaning of the attributes of `Standing`.
    """
    if state in _COMPUTING:
        return InputError(
            WAIT,
            f"Round {newest} of this case is being computed or sent.",
            f"Wait for the four candidates of round {newest}, then pick or accept one of them.",
        )
    return InputError(
        CLOSED, f"This case {_ENDS[state]}; it accepts no further answer.", _remedy(case_id, state, final)
    )


def _remedy(case_id: int, state: CaseState, final: str) -> str:
    see = f"`uair case show {case_id}` shows the history of the case."
    return {
        CaseState.ACCEPTED: f"{final} {see}".strip(),
        CaseState.EXPIRED: f"Send the series again; it is segmented anew. {see}",
        CaseState.SUPERSEDED: f"Pick one of the newer case's candidates. {see}",
        CaseState.FAILED: f"Send the answer again after `uair case retry {case_id}` has continued the case.",
        CaseState.REJECTED: f"Correct the series at its source and send it again. {see}",
    }[state]
