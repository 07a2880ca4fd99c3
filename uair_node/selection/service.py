"""Apply a returned object in one transaction, and record each refusal."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.clock import database_now
from uair_node.cases.lock import lock_case
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.reader_choice import ReaderChoice, part_name, target_name
from uair_node.cases.reasons import keep_reason, refuse
from uair_node.cases.states import CaseState
from uair_node.cases.tables import MARKS, Case, Result, Round, Selection, SelectionOutcome
from uair_node.delivery.outstanding import final_words
from uair_node.dicom.readers import Reading
from uair_node.selection.decision import TAKES_REPETITIONS, Effect, Said, Standing, decide, refusal_of
from uair_node.selection.marked_round import MarkedRound
from uair_node.selection.match import (
    check_document,
    check_study,
    find_candidates,
    no_such_lesion,
    read_answer,
    the_case_and_round,
)

log = logging.getLogger(__name__)

_PART = "part"
"""A placeholder for the path of the merged partial edits. No earlier answer has this path."""
_TOOK_PART = (SelectionOutcome.EFFECTIVE, SelectionOutcome.JOINED, SelectionOutcome.HELD)


@dataclass(frozen=True)
class Evidence:
    """The sender, the mechanism and the content of a selection. The selection's row stores them.

    Attributes
    ----------
    verb, mechanism, calling_ae
        The verb, the mechanism, and the sender's AE title.
    evidence_uid, evidence_sha256
        SOP Instance UID and SHA-256 of the object; empty without an object.
    artifact
        Path of the reader's label volume; empty if the reader took unchanged candidates.
    study_uid
        Study Instance UID of the object. If the object names none of our candidates, then the refusal is
        recorded in this study.
    remark
        Sentences for the reader about new lesions and about segments that were left out.
    marks
        The reader's marks in their interpreted form.
    """

    verb: Verb
    mechanism: str
    calling_ae: str = ""
    evidence_uid: str = ""
    artifact: str = ""
    study_uid: str = ""
    remark: str = ""
    evidence_sha256: str = ""
    marks: Marks | None = None


def select_by_object(session: Session, evidence: Evidence, reading: Reading) -> Selection:
    """Apply the answer that an object gives by its references. The returned row has the outcome."""
    try:
        check_document(session, evidence.verb, reading)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, [])
    return _select(session, evidence, reading.references, reading.segments, reading.study_instance_uid)


def select_by_edit(
    session: Session, evidence: Evidence, candidates: Sequence[str], answer: ReaderChoice, study_uid: str
) -> Selection:
    """Apply an edited segmentation of the round with these candidates (SOP Instance UIDs)."""
    named = find_candidates(session, candidates)
    try:
        return _apply(session, evidence, named, answer, study_uid)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)


class AnswerChangedError(Exception):
    """The effective answer changed after the marks were read. The caller must read the marks again."""


def select_by_marks(session: Session, evidence: Evidence, marked: MarkedRound, reading: Reading) -> Selection:
    """Apply an object's marks together with the object's pick, or with an earlier answer.

    If the marks are refused, then the returned row records the refusal.

    Raises
    ------
    AnswerChangedError
        The effective answer changed after the marks were read.
    """
    if marked.marks.says_something:
        evidence = replace(evidence, mechanism=MARKS)
    try:
        return select_marked(session, evidence, marked, reading.study_instance_uid)
    except InputError as refusal:
        named = find_candidates(session, marked.candidates)
        evidence = _with_marks(evidence, marked)
        return record_refusal(session, evidence, refusal, named[:1])


def select_marked(
    session: Session, evidence: Evidence, marked: MarkedRound, study_uid: str = ""
) -> Selection:
    """Apply marks of an object, of the command line or of the console.

    Raises
    ------
    InputError
        The marks are refused.
    AnswerChangedError
        The effective answer changed after the marks were read.
    """
    named = find_candidates(session, marked.candidates)
    before = marked.before
    case = lock_case(session, named[0].round.case_id)
    counts = lifecycle.answer_that_counts(session, case)
    if before is not None and before.selection_id != (counts.id if counts else None):
        raise AnswerChangedError
    row = _apply(session, _with_marks(evidence, marked), named, marked.answer, study_uid)
    if counts is not None and counts.outcome == SelectionOutcome.REPLACED and marked.joins:
        counts.outcome = SelectionOutcome.JOINED
    return row


def _with_marks(evidence: Evidence, marked: MarkedRound) -> Evidence:
    marks = marked.marks if marked.marks.says_something else None
    return replace(evidence, marks=marks, remark=marked.remark, artifact=marked.artifact)


def hold_part(session: Session, evidence: Evidence, candidates: Sequence[str], study_uid: str) -> Selection:
    """Keep a segmentation of some targets until the other segmentations of the same answer have arrived.

    If the segmentation is refused, then the returned row records the refusal.
    """
    named = find_candidates(session, candidates)
    try:
        case = lock_case(session, named[0].round.case_id)
        check_study(case, study_uid)
        decide(
            _standing(session, case), Said(evidence.verb, named[0].round.number, ReaderChoice(None), _PART)
        )
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)
    row = _row(evidence, SelectionOutcome.HELD)
    row.case_id, row.round_number = case.id, named[0].round.number
    row.received_at = database_now(session)
    session.add(row)
    return row


def hold_start(session: Session, evidence: Evidence, case: Case) -> Selection:
    """Keep another system's segmentation for the first round of a case.

    The segmentation replaces an earlier segmentation that was kept for this round.
    """
    session.execute(
        update(Selection)
        .where(
            Selection.case_id == case.id,
            Selection.verb == Verb.START.value,
            Selection.outcome == SelectionOutcome.HELD,
        )
        .values(outcome=SelectionOutcome.REPLACED)
    )
    row = _row(evidence, SelectionOutcome.HELD)
    row.case_id, row.round_number, row.received_at = case.id, 0, database_now(session)
    session.add(row)
    return row


def apply_parts(session: Session, parts: Sequence[Selection], answer: ReaderChoice, artifact: str) -> None:
    """Apply the held partial edits of a round as a single answer.

    The row of the last partial edit represents the answer.

    Parameters
    ----------
    answer, artifact
        The merged answer, and the path of its label volume. The path is empty if the answer takes unchanged
        candidates.
    """
    last = parts[-1]
    assert last.case_id is not None, "a part is held for a case"
    assert last.round_number is not None, "a part is held for a round"
    case = lock_case(session, last.case_id)
    said = Said(Verb(last.verb), last.round_number, answer, artifact)
    counts = lifecycle.answer_that_counts(session, case)
    try:
        if counts is not None and counts.round_number == last.round_number and counts.id > last.id:
            # The later answer counts.
            raise refusal_of(case.id, CaseState.REFINING, last.round_number + 1, "")
        effect = decide(_standing(session, case), said)
    except InputError as refusal:
        refuse_parts(session, parts, refusal)
        return
    for part in parts:
        part.outcome, part.answer = SelectionOutcome.JOINED, answer
    last.artifact = artifact
    last.sentence = " ".join(dict.fromkeys(part.sentence for part in parts if part.sentence))
    _take_effect(session, case, last, said, effect)


def refuse_parts(session: Session, parts: Sequence[Selection], refusal: InputError) -> None:
    """Refuse the held partial edits of an answer, and make a notice for the reader due."""
    for part in parts:
        refuse(part, refusal)
    lifecycle.tell_reader(session, session.get_one(Case, parts[-1].case_id))
    log.warning("selection refused: %s", refusal.code)


def note_repetition(session: Session, evidence: Evidence) -> bool:
    """Record a repeated object that has already taken effect. Return False if the object is no repetition.

    An object with the same UID and other bytes is a new object, because viewers save repeatedly under one
    UID. If the case has failed or was closed since, then the object is no repetition either. So the sender
    learns that the object has no effect.
    """
    earlier = session.scalars(
        select(Selection).where(
            Selection.evidence_uid == evidence.evidence_uid,
            Selection.evidence_sha256.in_([evidence.evidence_sha256, ""]),
            Selection.verb == evidence.verb.value,
            Selection.outcome.in_(_TOOK_PART),
        )
    ).first()
    if earlier is None or earlier.case_id is None:
        return False
    case = lock_case(session, earlier.case_id)
    if earlier.outcome not in _TOOK_PART or case.state not in TAKES_REPETITIONS:
        return False
    row = _row(evidence, SelectionOutcome.REPEATED)
    row.case_id, row.round_number, row.answer = earlier.case_id, earlier.round_number, earlier.answer
    row.candidates_round = earlier.candidates_round
    session.add(row)
    return True


def select_by_number(
    session: Session,
    evidence: Evidence,
    case: Case,
    answer: ReaderChoice | None,
    marked: MarkedRound | None = None,
    *,
    of_round: int | None = None,
) -> Selection:
    """Apply an answer of the command line or the console.

    Parameters
    ----------
    answer
        The chosen candidates; None if only `marked` counts.
    marked
        Lesions that are dropped, kept or added with the answer.
    of_round
        Number of the round whose candidates the answer names; None for the newest round that a reader sees.

    Raises
    ------
    InputError
        ``no-candidates``: the round has no candidates. ``no-such-candidate``, ``no-such-lesion``,
        ``no-such-part``: the answer names something that the round does not have. ``case-changed``: the case
        changed after `marked` was read. Also the errors of `uair_node.selection.decision.decide`.
    """
    case = lock_case(session, case.id)
    round_, candidates = _candidates_of(case, of_round)
    if answer is not None:
        _check_numbers(candidates, answer)
        _check_parts(round_, candidates, answer)
    if marked is None:
        return _apply(session, evidence, candidates, answer or ReaderChoice(None), "")
    remedy = "Look at the case again, then answer."
    changed = InputError("case-changed", f"Case {case.id} has changed since you saw it.", remedy)
    if {candidate.sop_instance_uid for candidate in candidates} != set(marked.candidates):
        raise changed
    try:
        return select_marked(session, evidence, marked)
    except AnswerChangedError:
        raise changed from None


def _candidates_of(case: Case, number: int | None) -> tuple[Round, Sequence[Result]]:
    if number is None:
        round_ = case.offered_round
        missing = f"Case {case.id} is {case.state}; it has no candidates."
    else:
        round_ = next((turn for turn in case.rounds if turn.number == number and turn.candidates), None)
        missing = f"Case {case.id} has no candidates of round {number}."
    if round_ is None:
        raise InputError("no-candidates", missing, f"See `uair case show {case.id}`.")
    return round_, round_.candidates


def _check_numbers(candidates: Sequence[Result], answer: ReaderChoice) -> None:
    for k in (answer.k, *answer.per_target.values(), *answer.per_part.values()):
        if k is not None and all(candidate.k != k for candidate in candidates):
            raise InputError(
                "no-such-candidate", f"There is no candidate {k}.", "Candidates are numbered 1 to 4."
            )
    for value in answer.per_target:
        if all(value not in candidate.targets for candidate in candidates):
            raise no_such_lesion(value)


def _check_parts(round_: Round, candidates: Sequence[Result], answer: ReaderChoice) -> None:
    """Raise ``no-such-part`` for an unknown part of a target, or if a named candidate lacks the target."""
    targets = {candidate.k: candidate.targets for candidate in candidates}
    for (value, name), k in answer.per_part.items():
        names = round_.parts.get(str(value), [])
        if name not in names:
            known = f"Its parts are: {', '.join(names)}." if names else "Answer for the whole target."
            sentence = f"Round {round_.number} has no {part_name(value, name)}."
            raise InputError("no-such-part", sentence, known)
        if any(value not in targets[other] for other in (k, answer.candidate_of(value)) if other):
            sentence = f"One of the named candidates lacks {target_name(value)}."
            raise InputError(
                "no-such-part", sentence, f"Name only candidates that contain {target_name(value)}."
            )


def record_refusal(
    session: Session, evidence: Evidence, refusal: InputError, named: Sequence[Result]
) -> Selection:
    """Record a selection that cannot be used, with the reason. Return its row.

    The row names the round of the `named` candidates, or else the newest round of the object's study.
    """
    round_ = named[0].round if named else _newest_round_of_study(session, evidence.study_uid)
    row = _row(evidence, SelectionOutcome.REFUSED)
    row.case_id = round_.case_id if round_ else None
    row.round_number = round_.number if round_ else None
    row.picked = named[0].k if len(named) == 1 else None
    keep_reason(row, refusal)
    session.add(row)
    session.flush()
    if round_ is not None:
        lifecycle.tell_reader(session, round_.case)
    log.warning("selection refused: %s", refusal.code)
    return row


def _newest_round_of_study(session: Session, study_uid: str) -> Round | None:
    """Return the newest round of a study; None if there is none.

    An object that names no candidate most likely refers to this round.
    """
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
        named = find_candidates(session, references, segments)
        answer = read_answer(evidence.verb, named, segments)
        return _apply(session, evidence, named, answer, study_uid)
    except InputError as refusal:
        return record_refusal(session, evidence, refusal, named)


def _apply(
    session: Session, evidence: Evidence, named: Sequence[Result], answer: ReaderChoice, study_uid: str
) -> Selection:
    case, round_ = the_case_and_round(session, named, study_uid)
    said = Said(evidence.verb, round_.number, answer, evidence.artifact, _digest(evidence.marks))
    effect = decide(_standing(session, case), said)
    row = _row(evidence, SelectionOutcome.EFFECTIVE)
    row.case_id, row.answer = case.id, answer
    _take_effect(session, case, row, said, effect)
    return row


def _standing(session: Session, case: Case) -> Standing:
    """Return the state of a case. The caller has locked the case."""
    newest = case.current_round
    assert newest is not None, "a candidate belongs to a round"
    row = lifecycle.answer_that_counts(session, case)
    final = final_words(session, case) if case.state == CaseState.ACCEPTED else ""
    said = _said(row) if row else None
    return Standing(case.id, case.state, newest.number, bool(newest.candidates), said, final)


def _said(row: Selection) -> Said:
    number = row.candidates_round
    assert number is not None, "an effective selection names a round's candidates"
    return Said(Verb(row.verb), number, row.answer, row.artifact, _digest(marks_of(row.marks)))


def _digest(marks: Marks | None) -> str:
    return "" if marks is None else marks.digest


def _take_effect(session: Session, case: Case, row: Selection, said: Said, effect: Effect) -> None:
    """Apply an answer: write its row, and start the next round or end the case."""
    counts = lifecycle.answer_that_counts(session, case)
    row.candidates_round = said.round_number
    if effect is Effect.REPEATED:
        assert counts is not None, "there is an answer that it repeats"
        row.outcome, row.round_number = SelectionOutcome.REPEATED, counts.round_number
        session.add(row)
        session.flush()
        return
    if effect is Effect.REPLACES:
        assert counts is not None, "there is an answer that it replaces"
        lifecycle.drop_computation(session, case, counts)
    assert case.current_round is not None, "an answer names a round"
    row.outcome, row.round_number = SelectionOutcome.EFFECTIVE, case.current_round.number
    session.add(row)
    session.flush()
    lifecycle.apply_selection(session, case, row)
    log.info("case %d round %d: %s %s", row.case_id, row.round_number, row.verb, row.answer.words)


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
        marks=evidence.marks.record if evidence.marks else None,
    )
