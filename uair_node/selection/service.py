"""A returned object, from its reading to its effect, in one transaction; refusals are recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.answer import Answer, target_name
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Result, Round, Selection, SelectionOutcome
from uair_node.selection.readers import Reading
from uair_node.selection.rules import check_document, choose, find_candidates, read_answer

log = logging.getLogger(__name__)

_TOOK_PART = (SelectionOutcome.EFFECTIVE, SelectionOutcome.JOINED, SelectionOutcome.HELD)


@dataclass(frozen=True)
class Evidence:
    """Who said it and how; kept beside every selection.

    The study tells where a refusal belongs whose object names none of our candidates. The remark says what
    the reader is told beside the outcome: new lesions, segments that were left out.
    """

    verb: Verb
    mechanism: str
    calling_ae: str = ""
    evidence_uid: str = ""
    artifact: str = ""
    study_uid: str = ""
    remark: str = ""
    evidence_sha256: str = ""


def select_by_object(session: Session, evidence: Evidence, reading: Reading) -> Selection:
    """Apply what an object references; the returned row tells the outcome."""
    try:
        check_document(session, evidence.verb, reading)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, [])
    return _select(session, evidence, reading.references, reading.segments, reading.study_instance_uid)


def select_by_edit(
    session: Session, evidence: Evidence, candidates: Sequence[str], answer: Answer, study_uid: str
) -> Selection:
    """Apply an edited segmentation of the round with these candidates (SOP Instance UIDs)."""
    named = find_candidates(session, candidates)
    try:
        return _apply(session, evidence, named, answer, study_uid)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)


def hold_part(session: Session, evidence: Evidence, candidates: Sequence[str], study_uid: str) -> Selection:
    """Keep a segmentation of some targets until those sent with it are there."""
    named = find_candidates(session, candidates)
    try:
        choose(session, evidence.verb, named, Answer(None), study_uid)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)
    row = _row(evidence, SelectionOutcome.HELD)
    row.case_id, row.round_number = named[0].round.case_id, named[0].round.number
    session.add(row)
    return row


def settle_parts(session: Session, parts: Sequence[Selection], answer: Answer, artifact: str) -> None:
    """Let parts of one round, held until now, take effect together: the last one stands for all."""
    last = parts[-1]
    case = session.scalars(select(Case).where(Case.id == last.case_id).with_for_update()).one()
    named = next(one for one in case.rounds if one.number == last.round_number).candidates
    try:
        choice = choose(session, Verb(last.verb), named, answer, "", artifact=artifact)
    except InputError as refusal:
        refuse_parts(session, parts, refusal)
        return
    for part in parts:
        part.outcome, part.answer = SelectionOutcome.JOINED, answer
    last.outcome = SelectionOutcome.REPEATED if choice.repeated else SelectionOutcome.EFFECTIVE
    last.artifact = artifact
    last.sentence = " ".join(dict.fromkeys(part.sentence for part in parts if part.sentence))
    session.flush()
    if not choice.repeated:
        lifecycle.apply_selection(session, case, last)


def refuse_parts(session: Session, parts: Sequence[Selection], refusal: InputError) -> None:
    """Refuse what was held."""
    for part in parts:
        part.outcome = SelectionOutcome.REFUSED
        part.code, part.sentence, part.mend = refusal.code, refusal.sentence, refusal.mend
    lifecycle.tell_reader(session, session.get_one(Case, parts[-1].case_id))
    log.warning("selection refused: %s", refusal.code)


def note_repetition(session: Session, evidence: Evidence) -> bool:
    """Record the very object that took effect already; False if it says something new.

    Other bytes under its UID are another object: viewers save under one UID again and again.
    """
    earlier = session.scalars(
        select(Selection).where(
            Selection.evidence_uid == evidence.evidence_uid,
            Selection.evidence_sha256.in_([evidence.evidence_sha256, ""]),
            Selection.verb == evidence.verb.value,
            Selection.outcome.in_(_TOOK_PART),
        )
    ).first()
    if earlier is None:
        return False
    row = _row(evidence, SelectionOutcome.REPEATED)
    row.case_id, row.round_number, row.answer = earlier.case_id, earlier.round_number, earlier.answer
    session.add(row)
    return True


def select_by_number(session: Session, evidence: Evidence, case: Case, answer: Answer) -> Selection:
    """Apply an answer to the newest round (command line, console).

    Raises
    ------
    InputError
        ``no-candidates``, ``no-such-candidate``, ``no-such-lesion``, or what
        `uair_node.selection.rules.choose` refuses.
    """
    round_ = case.current_round
    candidates = round_.candidates if round_ is not None else []
    if not candidates or case.state != CaseState.AWAITING_SELECTION:
        raise InputError(
            "no-candidates",
            f"Case {case.id} is {case.state}; it waits for no selection.",
            f"See `uair case show {case.id}`.",
        )
    _check_numbers(candidates, answer)
    return _apply(session, evidence, candidates, answer, "")


def _check_numbers(candidates: Sequence[Result], answer: Answer) -> None:
    for k in (answer.k, *answer.per_target.values()):
        if k is not None and all(one.k != k for one in candidates):
            raise InputError(
                "no-such-candidate", f"There is no candidate {k}.", "Candidates are numbered 1 to 4."
            )
    for value in answer.per_target:
        if all(value not in one.targets for one in candidates):
            raise InputError(
                "no-such-lesion",
                f"No candidate has {target_name(value)}.",
                "Lesions keep their numbers in all candidates; the overview page shows them.",
            )


def record_refusal(
    session: Session, evidence: Evidence, refusal: InputError, named: Sequence[Result]
) -> Selection:
    """Keep a selection that cannot be used, with its reason, at the case it speaks of if that is known."""
    round_ = named[0].round if named else _newest_round_of_study(session, evidence.study_uid)
    row = _row(evidence, SelectionOutcome.REFUSED)
    row.case_id = round_.case_id if round_ else None
    row.round_number = round_.number if round_ else None
    row.picked = named[0].k if len(named) == 1 else None
    row.code, row.sentence, row.mend = refusal.code, refusal.sentence, refusal.mend
    session.add(row)
    session.flush()
    if round_ is not None:
        lifecycle.tell_reader(session, round_.case)
    log.warning("selection refused: %s", refusal.code)
    return row


def _newest_round_of_study(session: Session, study_uid: str) -> Round | None:
    """Return the newest round of a study: what names no candidate was most likely meant for it."""
    return session.scalars(
        select(Round)
        .join(Round.case)
        .where(Case.study_instance_uid == study_uid, Case.state != CaseState.SUPERSEDED)
        .order_by(Case.id.desc(), Round.number.desc())
        .limit(1)
    ).first()


def _select(
    session: Session,
    evidence: Evidence,
    references: Sequence[str],
    segments: Mapping[str, Sequence[int]],
    study_uid: str,
) -> Selection:
    named: list[Result] = []
    try:
        named = find_candidates(session, references)
        answer = read_answer(evidence.verb, named, segments)
        return _apply(session, evidence, named, answer, study_uid)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)


def _apply(
    session: Session, evidence: Evidence, named: Sequence[Result], answer: Answer, study_uid: str
) -> Selection:
    # Two picks may arrive at the same time: the case's row decides which of them is first.
    session.scalars(select(Case).where(Case.id == named[0].round.case_id).with_for_update()).one()
    choice = choose(session, evidence.verb, named, answer, study_uid, artifact=evidence.artifact)
    row = _row(evidence, SelectionOutcome.REPEATED if choice.repeated else SelectionOutcome.EFFECTIVE)
    row.case_id, row.round_number, row.answer = choice.case.id, choice.round.number, choice.answer
    session.add(row)
    session.flush()
    if not choice.repeated:
        lifecycle.apply_selection(session, choice.case, row)
        log.info("case %d round %d: %s %s", row.case_id, row.round_number, row.verb, row.answer.words)
    return row


def _row(evidence: Evidence, outcome: SelectionOutcome) -> Selection:
    return Selection(
        verb=evidence.verb.value,
        mechanism=evidence.mechanism,
        evidence_uid=evidence.evidence_uid,
        evidence_sha256=evidence.evidence_sha256,
        artifact=evidence.artifact,
        calling_ae=evidence.calling_ae,
        outcome=outcome,
        sentence=evidence.remark,
    )
