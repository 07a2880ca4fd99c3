"""Which candidate a returned object means, and whether it may take effect now.

Refusals are InputError with a code; the caller records them, none is dropped (DESIGN invariant 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.codes import REJECTION_TITLES
from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Result,
    ResultKind,
    Round,
)
from uair_node.selection.readers import Reading


@dataclass(frozen=True)
class Choice:
    """A candidate that a reader named; `repeated` if that already took effect."""

    case: Case
    round: Round
    k: int | None
    repeated: bool


def check_document(session: Session, verb: Verb, reading: Reading) -> None:
    """Refuse documents that name candidates for another reason than to choose one.

    Raises
    ------
    InputError
        ``own-object``: our own report or rejection note, forwarded back by a PACS. ``rejection-note``:
        somebody else's, sent to a verb that chooses.
    """
    own = session.scalar(
        select(Result.kind).where(
            Result.sop_instance_uid == reading.sop_instance_uid,
            Result.kind.not_in([ResultKind.CANDIDATE, ResultKind.PAGE]),
        )
    )
    if own is not None:
        raise InputError(
            "own-object",
            f"This is our own {own} object; it chooses nothing.",
            "Let the archive forward only what readers make to the selection AE titles.",
        )
    rejects = reading.title is not None and reading.title.value in REJECTION_TITLES
    if rejects and verb != Verb.REJECT:
        raise InputError(
            "rejection-note",
            "This document rejects what it names.",
            "To say that none of the four fits, send it to the AE title for that (UAIR_REJECT).",
        )


def find_candidates(session: Session, references: Sequence[str]) -> list[Result]:
    """Return our candidates, or their pages, among referenced SOP Instance UIDs.

    Raises
    ------
    InputError
        ``unknown-reference``: none of them is ours.
    """
    found = session.scalars(
        select(Result).where(
            Result.sop_instance_uid.in_(references),
            Result.kind.in_([ResultKind.CANDIDATE, ResultKind.PAGE]),
        )
    ).all()
    if not found:
        raise InputError(
            "unknown-reference",
            "This object names none of our candidates.",
            "Send one of the four candidates of the newest round, or a Key Object that references it.",
        )
    return list(found)


def choose(
    session: Session, verb: Verb, named: Sequence[Result], study_uid: str, *, artifact: str = ""
) -> Choice:
    """Decide what naming these candidates with this verb means.

    Parameters
    ----------
    study_uid
        Study Instance UID of the returned object; empty where it came without one (command line).

    artifact
        Where the edited label volume is kept, if the object was one.

    Raises
    ------
    InputError
        ``other-study``, ``ambiguous-selection``, ``case-closed``, ``round-closed``.
    """
    rounds = {result.round_id: result.round for result in named}
    if len(rounds) > 1:
        raise _ambiguous("candidates of several rounds")
    (round_,) = rounds.values()
    case = round_.case
    if study_uid and study_uid != case.study_instance_uid:
        raise InputError(
            "other-study",
            "The object belongs to another study than the candidate that it names.",
            "Pick in the study that the candidates were made for.",
        )
    ks = sorted({result.k for result in named})
    if verb != Verb.REJECT and len(ks) > 1:
        raise _ambiguous(f"candidates {', '.join(map(str, ks))} at once")
    if verb != Verb.REJECT and ks == [0]:
        raise _ambiguous("the overview, which shows all four")
    k = None if verb == Verb.REJECT else ks[0]
    repeated = _already_effective(session, case, round_, verb, k, artifact)
    if not repeated:
        _check_open(case, round_)
    return Choice(case, round_, k, repeated)


def _already_effective(
    session: Session, case: Case, round_: Round, verb: Verb, k: int | None, artifact: str
) -> bool:
    effective = lifecycle.effective_selection(session, case, round_.number)
    answer = (verb, k, artifact)
    return effective is not None and (effective.verb, effective.picked, effective.artifact) == answer


def _check_open(case: Case, round_: Round) -> None:
    newest = case.current_round
    assert newest is not None, "a candidate belongs to a round"
    if case.state in (CaseState.ACCEPTED, CaseState.EXPIRED, CaseState.SUPERSEDED, CaseState.FAILED):
        raise InputError(
            "case-closed",
            f"The case is {case.state}; nothing can be picked in it now.",
            f"See `uair case show {case.id}`.",
        )
    if case.state != CaseState.AWAITING_SELECTION or newest.number != round_.number:
        raise InputError(
            "round-closed",
            f"Round {round_.number} was already answered; round {newest.number} is the open one.",
            f"Pick one of round {newest.number}; your earlier choice is among its candidates.",
        )


def _ambiguous(what: str) -> InputError:
    return InputError(
        "ambiguous-selection",
        f"The object names {what}.",
        "Send exactly one candidate or its page, or a Key Object that references exactly one.",
    )
