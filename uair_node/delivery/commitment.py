"""Request storage commitment of deliveries, record the reports, and send uncommitted objects again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.uid import generate_uid
from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import Destination
from uair_node.cases import work_items
from uair_node.cases.clock import database_now
from uair_node.cases.tables import Delivery, DeliveryState, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.delivery.closed_rounds import close_rounds_at
from uair_node.delivery.rows import apply_verdict, count_attempt
from uair_node.network.commitment_scu import Report, request_commitment
from uair_node.network.statuses import DeliveryVerdict, judge_commitment
from uair_node.work.performer import Claim, Commit

log = logging.getLogger(__name__)


def require_commitment(session: Session, destination: str) -> None:
    """Make the request for storage commitment due, for a destination that stored objects."""
    work_items.make_due_now(
        session, work_items.require_work(session, WorkKind.COMMIT, case=None, key=destination)
    )


def request_commitments(context: Context, claim: Claim) -> Commit:
    """Request storage commitment of stored objects. Send objects again if their report is overdue."""
    destination = context.settings.destination(claim.subject)
    if not isinstance(destination, Destination) or destination.commitment_timeout_s is None:
        return _confirm_all("stored; the configuration no longer requests storage commitment")
    patience = timedelta(seconds=destination.commitment_timeout_s)
    _send_again(context, destination, patience)
    failure = ""
    try:
        _ask(context, destination)
    except (TransientError, ConfigError) as error:
        failure = str(error)
        log.warning("storage commitment of %s: %s", destination.name, error.log_line)
        _note_failure(context, destination, failure)
    close_rounds_at(context, destination.name)
    return _wait_or_close(context, claim, patience, failure)


def take_report(context: Context, calling_ae: str, report: Report) -> None:
    """Record a destination's report of storage commitment.

    A report of an unknown transaction changes nothing.
    """
    known = [d.name for d in context.settings.destinations if getattr(d, "ae_title", None) == calling_ae]
    with context.database.transaction() as session:
        rows = session.scalars(
            select(Delivery)
            .where(
                Delivery.transaction_uid == report.transaction_uid,
                Delivery.destination.in_(known),
                Delivery.state != DeliveryState.CONFIRMED,
            )
            .options(joinedload(Delivery.result))
        ).all()
        for row in rows:
            _apply(context, session, row, report)
        destinations = {row.destination for row in rows}
    for name in destinations:
        close_rounds_at(context, name)
    words = "storage commitment report of %r: %d committed, %d failed; %d are objects of this node"
    log.info(words, calling_ae, len(report.committed), len(report.failed), len(rows))


def _apply(context: Context, session: Session, row: Delivery, report: Report) -> None:
    uid = row.result.sop_instance_uid
    if uid in report.committed:
        apply_verdict(row, DeliveryVerdict.CONFIRMED, "stored and committed")
    elif uid in report.failed:
        verdict, reason = judge_commitment(report.failed[uid])
        apply_verdict(row, verdict, reason)
        _forget_request(row)
        count_attempt(row, context.settings.delivery)
        work_items.require_work(session, WorkKind.DELIVER, case=None, key=row.destination)


def _stored_rows(destination: str) -> Select[Delivery]:
    return (
        select(Delivery)
        .where(Delivery.destination == destination, Delivery.state == DeliveryState.STORED)
        .order_by(Delivery.id)
    )


def _send_again(context: Context, destination: Destination, patience: timedelta) -> None:
    with context.database.transaction() as session:
        overdue = _stored_rows(destination.name).where(
            Delivery.commitment_asked_at < database_now(session) - patience
        )
        rows = session.scalars(overdue).all()
        late = f"not committed within {patience.total_seconds():.0f} s, sent again"
        for row in rows:
            apply_verdict(row, DeliveryVerdict.RETRY, late)
            row.commitment_asked_at = None
            count_attempt(row, context.settings.delivery)
        if rows:
            log.warning("%s did not commit to %d instances in time", destination.name, len(rows))
            work_items.require_work(session, WorkKind.DELIVER, case=None, key=destination.name)


def _ask(context: Context, destination: Destination) -> None:
    transaction_uid = str(generate_uid())
    with context.database.transaction() as session:
        unasked = _stored_rows(destination.name).where(Delivery.commitment_asked_at.is_(None))
        rows = session.scalars(unasked.options(joinedload(Delivery.result))).all()
        now = database_now(session)
        for row in rows:
            # Recorded before the request is sent, because the report can come before the response.
            row.transaction_uid, row.commitment_asked_at = transaction_uid, now
        instances = [(row.result.sop_class_uid, row.result.sop_instance_uid) for row in rows]
    if not instances:
        return

    def take(calling_ae: str, report: Report) -> None:
        take_report(context, calling_ae, report)

    if not request_commitment(destination, transaction_uid, instances, take):
        log.warning("%s offers no storage commitment", destination.name)
        with context.database.transaction() as session:
            _confirm(session, destination.name, "stored; the peer offers no storage commitment")


def _note_failure(context: Context, destination: Destination, failure: str) -> None:
    with context.database.transaction() as session:
        for row in session.scalars(_stored_rows(destination.name)):
            row.reason = failure
            _forget_request(row)


def _forget_request(row: Delivery) -> None:
    row.transaction_uid, row.commitment_asked_at = "", None


def _wait_or_close(context: Context, claim: Claim, patience: timedelta, failure: str) -> Commit:
    def write(session: Session, item: WorkItem) -> None:
        rows: Sequence[Delivery] = session.scalars(_stored_rows(item.subject)).all()
        if not rows:
            work_items.close(item)
        elif failure:
            work_items.postpone(
                session, item, work_items.back_off(context.settings.delivery, claim.attempt), failure
            )
        else:
            work_items.postpone(session, item, _seconds_left(rows, patience, database_now(session)), "")

    return write


def _seconds_left(rows: Sequence[Delivery], patience: timedelta, now: datetime) -> float:
    asked: list[datetime] = [row.commitment_asked_at for row in rows if row.commitment_asked_at is not None]
    if len(asked) < len(rows):
        return 0.0  # an object was stored during the last request and has no request yet
    return max(0.0, (min(asked) + patience - now).total_seconds())


def _confirm_all(reason: str) -> Commit:
    def write(session: Session, item: WorkItem) -> None:
        _confirm(session, item.subject, reason)
        work_items.close(item)

    return write


def _confirm(session: Session, destination: str, reason: str) -> None:
    for row in session.scalars(_stored_rows(destination)):
        apply_verdict(row, DeliveryVerdict.CONFIRMED, reason)
