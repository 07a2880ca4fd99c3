"""From a quiet series to a case: sealed when its geometry is whole, refused with a code when it stays broken.

Association release proves nothing (some PACS open one for each instance), so completeness is a quiet period
and a regular stack; an irregular one is waited for up to a limit (DESIGN §5).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError
from uair_node.cases import lifecycle
from uair_node.cases.lock import lock_case
from uair_node.cases.performer import describe_error
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, utc_now
from uair_node.context import Context
from uair_node.intake.gate import Verdict, inspect_series
from uair_node.intake.headers import SliceHeader, read_headers
from uair_node.intake.source_rejection import not_rejected, source_rejected
from uair_node.intake.study import Choice, choose
from uair_node.logs import bound
from uair_node.selection.readers import hash_patient_id

log = logging.getLogger(__name__)


def assemble(context: Context) -> int:
    """Decide every series that has been quiet long enough; return how many were decided.

    One that cannot be decided now, for a disk that fails, is left for the next time and stops no other.
    """
    decided = 0
    now = utc_now()
    for case_id in _quiet_cases(context, now):
        with bound(case=case_id):
            try:
                decided += _decide(context, case_id, now)
            except TransientError:
                raise
            except Exception as error:
                log.error("case %d is not decided: %s", case_id, describe_error(error))
    return decided


def series_digest(instances: Sequence[Instance]) -> str:
    """Return the identity of a set of instances: SHA-256 over their UIDs and contents, in UID order."""
    digest = hashlib.sha256()
    for instance in sorted(instances, key=lambda one: one.sop_instance_uid):
        digest.update(f"{instance.sop_instance_uid} {instance.sha256}\n".encode())
    return digest.hexdigest()


def _quiet_cases(context: Context, now: datetime) -> Sequence[int]:
    quiet_since = now - timedelta(seconds=context.settings.intake.quiet_s)
    with context.database.transaction() as session:
        return session.scalars(
            select(Case.id).where(Case.state == CaseState.RECEIVING, Case.last_instance_at <= quiet_since)
        ).all()


def _decide(context: Context, case_id: int, now: datetime) -> bool:
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        instances = _stored_instances(session, case)
        seen = case.last_instance_at
    # Headers are read outside the transaction: receiving goes on meanwhile.
    headers, verdict = _inspect(context, instances)
    choice = Choice() if verdict.refusal else choose(context, case_id, headers, now)
    if not verdict.refusal and not choice.refusal and not choice.waits:
        context.store.share(*(context.store.absolute(one.path) for one in instances))
    patient_key = context.patient_keys.key(hash_patient_id(headers[0].patient_id)) if headers else ""
    with context.database.transaction() as session:
        case = lock_case(session, case_id)
        if case.state != CaseState.RECEIVING or case.last_instance_at != seen:
            return False
        case.accession_number = headers[0].accession_number if headers else ""
        case.patient_key = patient_key
        if verdict.refusal is not None:
            return _refuse(context, session, case, verdict.refusal, verdict.may_complete, now)
        if choice.refusal is not None:
            return _refuse(context, session, case, choice.refusal, False, now)
        if choice.waits:
            case.code, case.sentence, case.mend = "", "Waiting for the other series of the study.", ""
            return False
        return _accept(session, case, len(headers), verdict, choice)


def _inspect(context: Context, instances: Sequence[Instance]) -> tuple[Sequence[SliceHeader], Verdict]:
    if not instances:
        return [], Verdict(source_rejected(), may_complete=False, assumed=())
    try:
        headers = read_headers([context.store.absolute(instance.path) for instance in instances])
    except InputError as refusal:
        return [], Verdict(refusal, may_complete=False, assumed=())
    settings = context.settings
    return headers, inspect_series(headers, settings.gate, settings.intake.modalities)


def _accept(session: Session, case: Case, slices: int, verdict: Verdict, choice: Choice) -> bool:
    instances = _stored_instances(session, case)
    lifecycle.make_ready(
        session,
        case,
        digest=series_digest(instances),
        instances=instances,
        slices=slices,
        accession_number=case.accession_number,
        assumed=", ".join(verdict.assumed),
        warnings=verdict.warnings,
        chosen_by=choice.reason,
    )
    log.info("case %d ready: %d slices", case.id, slices)
    return True


def _refuse(
    context: Context, session: Session, case: Case, refusal: InputError, may_complete: bool, now: datetime
) -> bool:
    waited = (now - case.last_instance_at).total_seconds()
    if may_complete and waited < context.settings.intake.max_wait_s:
        _show_waiting(case, refusal)
        return False
    lifecycle.reject_input(session, case, refusal)
    log.info("case %d rejected: %s", case.id, refusal.code)
    return True


def _show_waiting(case: Case, refusal: InputError) -> None:
    """Let a person see what the series still lacks."""
    case.code, case.sentence, case.mend = refusal.code, refusal.sentence, "Waiting for more slices."


def _stored_instances(session: Session, case: Case) -> Sequence[Instance]:
    return session.scalars(
        select(Instance)
        .where(
            Instance.series_instance_uid == case.series_instance_uid,
            Instance.status == InstanceStatus.STORED,
            not_rejected(),
        )
        .order_by(Instance.id)
    ).all()
