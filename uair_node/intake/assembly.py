"""Decide about the case of a quiet series: READY if its geometry is complete, otherwise refused with a code.

The release of an association is no sign that a series is complete, because some PACS open an association for
each instance. A series is complete after a quiet period, if its stack is regular. The node waits for missing
slices of an irregular stack, up to a limit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError
from uair_node.cases import lifecycle
from uair_node.cases.clock import database_now
from uair_node.cases.lock import lock_case
from uair_node.cases.states import HOLDING, CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.dicom.gate import GateResult
from uair_node.dicom.headers import read_headers
from uair_node.dicom.readers import hash_patient_id
from uair_node.intake.series_parts import SeriesPart, inspect_parts
from uair_node.intake.source_rejection import not_rejected, source_rejected
from uair_node.intake.study import SeriesDecision, choose
from uair_node.logs import bound
from uair_node.work.performer import error_line

log = logging.getLogger(__name__)


def assemble(context: Context) -> int:
    """Decide about every series that was quiet long enough. Return the number of decided series.

    If the decision about a series fails, for example because of a disk, then the next call tries it again.
    The failure does not affect other series.
    """
    decided = 0
    with context.database.reading() as session:
        now = database_now(session)
    for case_id in _quiet_cases(context, now):
        with bound(case=case_id):
            try:
                decided += _decide(context, case_id, now)
            except TransientError:
                raise
            except Exception as error:
                log.error("case %d is not decided: %s", case_id, error_line(error))
    return decided


def series_digest(instances: Sequence[Instance]) -> str:
    """Return the identity of a set of instances: SHA-256 of their UIDs and contents, in UID order."""
    digest = hashlib.sha256()
    for instance in sorted(instances, key=lambda row: row.sop_instance_uid):
        digest.update(f"{instance.sop_instance_uid} {instance.sha256}\n".encode())
    return digest.hexdigest()


def _quiet_cases(context: Context, now: datetime) -> Sequence[int]:
    quiet_since = now - timedelta(seconds=context.settings.intake.quiet_s)
    with context.database.reading() as session:
        return session.scalars(
            select(Case.id).where(Case.state == CaseState.RECEIVING, Case.last_instance_at <= quiet_since)
        ).all()


def _decide(context: Context, case_id: int, now: datetime) -> bool:
    with context.database.reading() as session:
        case = session.get_one(Case, case_id)
        instances: Sequence[Instance] = session.scalars(_stored_instances(case)).all()
        seen, held = case.last_instance_at, _held_digests(session, case)
    # Headers are read outside of the transaction, so the node can receive instances meanwhile.
    every = _inspect(context, instances)
    # An acquisition that already has a case gets no second case, unless there are no other acquisitions.
    parts = [part for part in every if part.digest not in held] or every[:1]
    waited = (now - seen).total_seconds() >= context.settings.intake.max_wait_s
    lacking = (
        None
        if waited
        else next((refused.refusal for refused in parts if refused.found.verdict.may_complete), None)
    )
    decisions = [] if lacking else _choose(context, case_id, parts, len(every) - len(parts), now)
    # All parts have the same patient, because the gate refuses a series with several patients.
    first = next((header for part in parts for header in part.found.headers), None)
    patient_key = context.patient_keys.key(hash_patient_id(first.patient_id)) if first else ""
    with context.database.transaction() as session:
        case = lock_case(session, case_id)
        if case.state != CaseState.RECEIVING or case.last_instance_at != seen:
            return False
        known = set(session.scalars(_stored_instances(case).with_only_columns(Instance.id)))
        if held != _held_digests(session, case) or known != {instance.id for instance in instances}:
            return False
        _describe(case, parts[0], patient_key)
        if lacking is not None:
            _show_waiting(case, lacking)
            return False
        if any(decision.waits for decision in decisions):
            case.code, case.sentence, case.remedy = "", "Waiting for the other series of the study.", ""
            return False
        others = [_another_case(session, case) for _ in parts[1:]]
        for own, part, decision in zip([case, *others], parts, decisions, strict=True):
            _describe(own, part, patient_key)
            _apply_decision(session, own, part, decision)
    return True


@dataclass(frozen=True)
class _Part:
    """An acquisition of a series, and its instances."""

    found: SeriesPart
    instances: Sequence[Instance]

    @property
    def digest(self) -> str:
        return series_digest(self.instances)

    @property
    def refusal(self) -> InputError | None:
        return self.found.verdict.refusal


def _choose(
    context: Context, case_id: int, parts: Sequence[_Part], held: int, now: datetime
) -> list[SeriesDecision]:
    """Return the decision for each part. Upload the files of the parts that are segmented."""
    passing = [part for part in parts if part.refusal is None]
    chosen = choose(context, case_id, [part.found for part in passing], held, now) if passing else []
    for part, decision in zip(passing, chosen, strict=True):
        if decision.refusal is None and not decision.waits:
            context.store.share(*(context.store.absolute(instance.path) for instance in part.instances))
    following = iter(chosen)
    return [
        next(following) if part.refusal is None else SeriesDecision(refusal=part.refusal) for part in parts
    ]


def _held_digests(session: Session, case: Case) -> set[str]:
    """Return the digests of the open and accepted cases of the same series."""
    held = select(Case.digest).where(
        Case.series_instance_uid == case.series_instance_uid, Case.state.in_(HOLDING)
    )
    return set(session.scalars(held))


def _inspect(context: Context, instances: Sequence[Instance]) -> list[_Part]:
    refusal = None if instances else source_rejected()
    try:
        headers = read_headers([context.store.absolute(instance.path) for instance in instances])
    except FileNotFoundError:
        gone = InputError(
            "instance-missing",
            "A file of the series is no longer in the spool.",
            "Check the disk of the data folder, then send the series again.",
        )
        return [_Part(SeriesPart("", [], GateResult(gone, may_complete=True, assumed=())), instances)]
    except InputError as unreadable:
        headers, refusal = [], unreadable
    if refusal is not None:
        return [_Part(SeriesPart("", [], GateResult(refusal, may_complete=False, assumed=())), instances)]
    parts = []
    for found in inspect_parts(headers, context.settings):
        uids = {header.sop_instance_uid for header in found.headers}
        parts.append(_Part(found, [row for row in instances if row.sop_instance_uid in uids]))
    return parts


def _another_case(session: Session, case: Case) -> Case:
    """Open a case for another acquisition of the same series."""
    opened = lifecycle.open_case(
        session,
        series_uid=case.series_instance_uid,
        study_uid=case.study_instance_uid,
        calling_ae=case.calling_ae,
    )
    opened.warnings, opened.last_instance_at = case.warnings, case.last_instance_at
    return opened


def _describe(case: Case, part: _Part, patient_key: str) -> None:
    case.accession_number = part.found.headers[0].accession_number if part.found.headers else ""
    case.patient_key = patient_key


def _apply_decision(session: Session, case: Case, part: _Part, decision: SeriesDecision) -> None:
    """Make the case of a part READY, or refuse it."""
    slices, verdict = len(part.found.headers), part.found.verdict
    case.acquisition = part.found.acquisition
    if decision.refusal is not None:
        if case.acquisition:
            case.instance_count = slices
        lifecycle.reject_input(session, case, decision.refusal)
        log.info("case %d rejected: %s", case.id, decision.refusal.code)
        return
    lifecycle.make_ready(
        session,
        case,
        digest=part.digest,
        instances=part.instances,
        slices=slices,
        accession_number=case.accession_number,
        assumed=", ".join(verdict.assumed),
        warnings=verdict.warnings,
        chosen_by=decision.reason,
    )
    log.info("case %d ready: %d slices", case.id, slices)


def _show_waiting(case: Case, refusal: InputError) -> None:
    """Write into the case which slices the series still lacks."""
    case.code, case.sentence, case.remedy = refusal.code, refusal.sentence, "Waiting for more slices."


def _stored_instances(case: Case) -> Select[Instance]:
    return (
        select(Instance)
        .where(
            Instance.series_instance_uid == case.series_instance_uid,
            Instance.status == InstanceStatus.STORED,
            not_rejected(),
        )
        .order_by(Instance.id)
    )
