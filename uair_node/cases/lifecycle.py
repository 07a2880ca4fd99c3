"""The only module that changes a case's state.

Every function gets an open session and makes one complete step. In this step, the function checks the
transition against the table of states and writes the audit row. It also changes the case's rows and adds the
work that becomes due. The caller commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError, UairError
from dicom_config.model import Verb
from uair_node.cases import work_items
from uair_node.cases.clock import database_now
from uair_node.cases.codes import CaseCode, is_retriable
from uair_node.cases.lock import lock_case
from uair_node.cases.reasons import clear_reason, keep_reason
from uair_node.cases.siblings import replaced_by
from uair_node.cases.states import CaseState, check_transition
from uair_node.cases.tables import (
    Case,
    Delivery,
    Instance,
    Result,
    ResultKind,
    Round,
    Selection,
    SelectionOutcome,
    Transition,
    WorkKind,
)

NODE = "node"
_ENDED = (CaseState.ACCEPTED, CaseState.SUPERSEDED)
COMPUTING = (CaseState.READY, CaseState.SEGMENTING, CaseState.REFINING)
OFFERED_KINDS = (ResultKind.CANDIDATE, ResultKind.PAGE, ResultKind.FINDING)
"""The objects that a round offers to a reader."""
EXPIRABLE = (CaseState.AWAITING_SELECTION, CaseState.FAILED)


@dataclass(frozen=True)
class NewResult:
    """A written DICOM object. `add_results` adds a row for it, and deliveries to `destinations`.

    `path` is relative to the data folder. `targets` are the label values of a SEG's segments 1, 2, …
    """

    kind: ResultKind
    k: int
    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    path: str
    character: str
    volumes_ml: dict[str, Any]
    destinations: tuple[str, ...]
    targets: tuple[int, ...] = ()


def advance(session: Session, case: Case, state: CaseState, *, actor: str, reason: str = "") -> None:
    """Change a case's state if the table of states permits it, and write the audit row.

    Raises
    ------
    IllegalTransitionError
        The table does not permit the transition.
    TransientError
        ``case-changed``: another transaction moved the case since it was read.
    """
    check_transition(case.state, state)
    session.flush()
    moved = session.execute(
        update(Case)
        .where(Case.id == case.id, Case.state == case.state)
        .values(state=state)
        .returning(Case.id)
        .execution_options(synchronize_session=False)
    )
    if moved.first() is None:
        raise TransientError(
            "case-changed",
            f"Case {case.id} is no longer {case.state}.",
            "No action needed. The step is repeated with the case's present state.",
        )
    session.add(Transition(case_id=case.id, origin=case.state, state=state, actor=actor, reason=reason))
    case.state = state
    case.updated_at = database_now(session)


def open_case(session: Session, *, series_uid: str, study_uid: str, calling_ae: str) -> Case:
    """Add a case in the state RECEIVING for a series whose first instance arrived."""
    now = database_now(session)
    case = Case(
        created_at=now,
        last_instance_at=now,
        updated_at=now,
        series_instance_uid=series_uid,
        study_instance_uid=study_uid,
        calling_ae=calling_ae,
        state=CaseState.RECEIVING,
    )
    session.add(case)
    session.flush()
    session.add(Transition(case_id=case.id, origin=None, state=CaseState.RECEIVING, actor=calling_ae or NODE))
    return case


def make_ready(
    session: Session,
    case: Case,
    *,
    digest: str,
    instances: Sequence[Instance],
    slices: int,
    accession_number: str,
    assumed: str,
    warnings: Sequence[str] = (),
    chosen_by: str = "",
) -> None:
    """Make the case of a complete series READY, supersede the cases that it replaces, and make round 1 due.

    Parameters
    ----------
    slices
        Number of slices. It is larger than the number of instances if an instance has several frames.
    warnings
        Sentences about possible faults of the series that do not stop the case. They follow the warnings that
        the case got while the series arrived.
    chosen_by
        Text of the site's rules by which the series was chosen. The audit row keeps it.
    """
    case.digest, case.accession_number, case.assumed = digest, accession_number, assumed
    for warning in warnings:
        warn(case, warning)
    clear_reason(case)
    case.instances = list(instances)
    case.instance_count = slices
    for older in replaced_by(session, case):
        if older.state != CaseState.ACCEPTED:
            _supersede(session, older, by=case)
    chosen = f"; {chosen_by}" if chosen_by else ""
    reason = f"{slices} slices, regular{chosen}"
    advance(session, case, CaseState.READY, actor=NODE, reason=reason)
    _add_round(session, case, number=1, selection=None)


def warn(case: Case, warning: str) -> None:
    """Keep a sentence about a possible fault of the series. A repeated sentence is kept once."""
    known = case.warnings.splitlines()
    if warning not in known:
        case.warnings = "\n".join([*known, warning])


def reject_input(session: Session, case: Case, error: UairError, *, actor: str = NODE) -> None:
    """Refuse a series permanently. The case keeps code, sentence and remedy."""
    work_items.close_case_items(session, case)
    keep_reason(case, error)
    advance(session, case, CaseState.REJECTED, actor=actor, reason=error.code)
    for older in replaced_by(session, case):
        if older.state == CaseState.REJECTED:
            _supersede(session, older, by=case)


def reject_source(session: Session, case: Case, error: UairError) -> None:
    """Stop a case whose images an archive rejected. Withdraw its results and tell the reader the reason.

    An accepted case stays accepted, but its results are withdrawn, too.
    """
    work_items.close_case_items(session, case)
    keep_reason(case, error)
    if case.state == CaseState.ACCEPTED:
        case.updated_at = database_now(session)
    else:
        advance(session, case, CaseState.REJECTED, actor=NODE, reason=error.code)
    if any(round_.results for round_ in case.rounds):
        _require_withdrawal(session, case)
        tell_reader(session, case)


def start_computing(session: Session, case: Case, *, actor: str) -> None:
    """Record that a worker started the computation. A repeated start changes nothing."""
    if case.state == CaseState.READY:
        advance(session, case, CaseState.SEGMENTING, actor=actor)


def finish_computing(session: Session, case: Case, round_: Round) -> None:
    """Make the publication of a computed round due."""
    round_.computed_at = database_now(session)
    work_items.require_work(session, WorkKind.PUBLISH, case=case, key=str(round_.number))


def finish_publishing(
    session: Session, case: Case, round_: Round, results: Sequence[NewResult], *, pages: bool
) -> None:
    """Record a round's objects, make delivery and pictures due, and let the case await an answer."""
    add_results(session, round_, results)
    round_.published_at = database_now(session)
    if pages:
        work_items.require_work(session, WorkKind.PAGES, case=case, key=str(round_.number))
    if round_.number > 1 or not pages:
        tell_reader(session, case)
    advance(
        session, case, CaseState.AWAITING_SELECTION, actor=NODE, reason=f"round {round_.number} published"
    )


def add_results(session: Session, round_: Round, results: Sequence[NewResult]) -> None:
    """Record written objects and make their delivery due."""
    for new in results:
        values = {name: value for name, value in vars(new).items() if name != "destinations"}
        row = Result(round_id=round_.id, **(values | {"targets": list(new.targets)}))
        session.add(row)
        session.flush()
        session.add_all(Delivery(result_id=row.id, destination=name) for name in new.destinations)
    session.expire(round_, ["results"])
    for name in sorted({name for new in results for name in new.destinations}):
        work_items.require_work(session, WorkKind.DELIVER, case=None, key=name)


def apply_selection(session: Session, case: Case, selection: Selection) -> None:
    """Apply an effective selection: start the next round, or end the case."""
    actor = selection.calling_ae or selection.mechanism
    work_items.close_case_items(session, case)  # pictures of an answered round are not needed
    if selection.verb == Verb.ACCEPT:
        advance(session, case, CaseState.ACCEPTED, actor=actor, reason=selection.words)
        work_items.require_work(session, WorkKind.FINISH, case=case, key=str(selection.round_number))
        return
    if case.state != CaseState.REFINING:
        advance(session, case, CaseState.REFINING, actor=actor, reason=selection.words)
    tell_reader(session, case)
    assert selection.round_number is not None, "an effective selection answers a round"
    _add_round(session, case, number=selection.round_number + 1, selection=selection)


def drop_computation(session: Session, case: Case, replaced: Selection) -> None:
    """Cancel the round that an answer started, because another answer replaces this answer.

    No object of the cancelled round was sent. A worker that computes this round loses its lease, and the
    worker's outcome is dropped.
    """
    work_items.close_case_items(session, case)
    round_ = case.current_round
    assert round_ is not None, "an answer started it"
    replaced.outcome = SelectionOutcome.REPLACED
    # Notices that were written meanwhile are kept. They now belong to the previous round.
    session.execute(update(Result).where(Result.round_id == round_.id).values(round_id=case.rounds[-2].id))
    session.expire(round_, ["results"])
    session.delete(round_)
    session.flush()
    session.expire(case, ["rounds"])


def tell_reader(session: Session, case: Case) -> None:
    """Make the job due that writes notices into the study. The notices report the outcomes of selections."""
    work_items.require_work(session, WorkKind.NOTICES, case=case, key="0")


def close_rounds(session: Session, case: Case, number: int) -> None:
    """Make the rejection note due that withdraws the objects of the rounds before `number`."""
    work_items.require_work(session, WorkKind.CLOSE_ROUNDS, case=case, key=str(number))


def effective_selection(session: Session, case: Case, round_number: int) -> Selection | None:
    """Return the selection that took effect in a round; None while the round is open."""
    return session.scalar(
        select(Selection).where(
            Selection.case_id == case.id,
            Selection.round_number == round_number,
            Selection.outcome == SelectionOutcome.EFFECTIVE,
        )
    )


def answer_that_counts(session: Session, case: Case) -> Selection | None:
    """Return the answer that started the newest round or ended the case; None before the first answer.

    An accepted case ended with an answer to its newest round. Otherwise the answer to the round before
    started the newest round.
    """
    newest = case.current_round
    if newest is None:
        return None
    return effective_selection(session, case, newest.number) or effective_selection(
        session, case, newest.number - 1
    )


def fail(session: Session, case: Case, *, code: str, cause: str, remedy: str, actor: str = NODE) -> None:
    """Set a case to FAILED with a cause and a remedy. The case can be retried.

    An accepted or superseded case keeps its state.
    """
    work_items.close_case_items(session, case)
    case.code, case.sentence, case.remedy = code, cause, remedy
    if case.state not in _ENDED:  # ended cases keep their state, but their deliveries can be retried
        advance(session, case, CaseState.FAILED, actor=actor, reason=f"{code}: {cause}")
        if len(case.rounds) > 1:  # a reader saw the case
            tell_reader(session, case)


def cancel(session: Session, case: Case, *, actor: str) -> None:
    """Stop a computation that is due or running. The case becomes FAILED and can be retried.

    Raises
    ------
    InputError
        ``nothing-to-cancel``: no computation of the case is due or running.
    """
    if case.state not in COMPUTING:
        raise InputError(
            "nothing-to-cancel",
            f"Case {case.id} is {case.state}; no computation is running for it.",
            "A case that awaits a selection can be expired.",
        )
    remedy = f"`uair case retry {case.id}` continues the case."
    fail(session, case, code=CaseCode.CANCELLED, cause=f"Cancelled by {actor}.", remedy=remedy, actor=actor)


def expire(session: Session, case: Case, *, actor: str, reason: str) -> None:
    """Permanently expire a case that awaits a selection or has failed.

    Raises
    ------
    InputError
        ``nothing-to-expire``: the case neither awaits a selection nor failed.
    """
    if case.state not in EXPIRABLE:
        raise InputError(
            "nothing-to-expire",
            f"Case {case.id} is {case.state}; only a case that awaits a selection or FAILED expires.",
            "Cancel the computation first.",
        )
    work_items.close_case_items(session, case)
    advance(session, case, CaseState.EXPIRED, actor=actor, reason=reason)


def expire_unanswered(session: Session, case_id: int, *, before: datetime) -> None:
    """Expire a case if it still awaits a selection and was last changed earlier than `before`."""
    case = lock_case(session, case_id)
    if case.state == CaseState.AWAITING_SELECTION and case.updated_at < before:
        expire(session, case, actor=NODE, reason="no answer came in time")


def can_be_retried(case: Case) -> bool:
    """Return whether a case failed, or ended with a failure to deliver or withdraw its objects."""
    stuck = case.state in _ENDED and is_retriable(case.code)
    return case.current_round is not None and (case.state == CaseState.FAILED or stuck)


def retry(session: Session, case: Case, *, actor: str) -> None:
    """Continue a case from the step at which it failed.

    Raises
    ------
    InputError
        ``nothing-to-retry``: `can_be_retried` is false for the case.
    """
    round_ = case.current_round
    if round_ is None or not can_be_retried(case):
        raise InputError(
            "nothing-to-retry",
            f"Case {case.id} is {case.state}; only a FAILED case is retried.",
            "A rejected series must be corrected at its source and sent again.",
        )
    clear_reason(case)
    if case.state == CaseState.ACCEPTED:
        work_items.require_work(session, WorkKind.FINISH, case=case, key=str(round_.number))
        return
    if case.state == CaseState.SUPERSEDED:
        _require_withdrawal(session, case)
        return
    state = CaseState.SEGMENTING if round_.number == 1 else CaseState.REFINING
    advance(session, case, state, actor=actor, reason="retried")
    kind = WorkKind.COMPUTE if round_.computed_at is None else WorkKind.PUBLISH
    work_items.require_work(session, kind, case=case, key=str(round_.number))


def _add_round(session: Session, case: Case, *, number: int, selection: Selection | None) -> None:
    session.add(Round(case_id=case.id, number=number, selection_id=selection.id if selection else None))
    session.flush()
    session.expire(case, ["rounds"])
    work_items.require_work(session, WorkKind.COMPUTE, case=case, key=str(number))


def _supersede(session: Session, case: Case, *, by: Case) -> None:
    work_items.close_case_items(session, case)
    case.code = CaseCode.SUPERSEDED
    case.sentence = f"More or newer slices of this series arrived; case {by.id} replaces this case."
    case.remedy = f"See `uair case show {by.id}`."
    withdrawn = case.state == CaseState.REJECTED
    advance(session, case, CaseState.SUPERSEDED, actor=NODE, reason=f"by case {by.id}")
    if not withdrawn:
        _require_withdrawal(session, case)


def _require_withdrawal(session: Session, case: Case) -> None:
    """Make the rejection note due that withdraws all results of a case.

    Pending deliveries are sent before this note, because deliveries keep their order.
    """
    published = [round_.number for round_ in case.rounds if round_.results]
    if published:
        work_items.require_work(session, WorkKind.WITHDRAW, case=case, key=str(published[-1]))
