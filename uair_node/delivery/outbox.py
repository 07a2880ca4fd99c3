"""The outbox: a row for each object and destination, pending until the destination confirms the object."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import AnyDestination, Destination
from uair_node.cases import work_items
from uair_node.cases.tables import Delivery, DeliveryState, Result, WorkItem
from uair_node.context import Context
from uair_node.delivery.closed_rounds import close_rounds_at
from uair_node.delivery.commitment import require_commitment
from uair_node.delivery.rows import apply_verdict, count_attempt, mark_sent
from uair_node.network.destination_kinds import send_to
from uair_node.network.outgoing import (
    OutgoingInstance,
    SendResult,
    reason_of,
    result_deleted,
    result_unreadable,
)
from uair_node.network.statuses import DeliveryVerdict
from uair_node.work.performer import Claim, Commit

log = logging.getLogger(__name__)

_TAKEN = (DeliveryState.STORED, DeliveryState.CONFIRMED)


def deliver(context: Context, claim: Claim) -> Commit:
    """Send all pending objects of a destination. Record the reason for each refused object."""
    destination = context.settings.destination(claim.subject)
    if destination is None:
        return _park_all(f"The configuration has no destination {claim.subject}.")
    failure, progress = "", False
    try:
        instances = list(_readable(context, destination))
        for result in send_to(destination, instances, partial(_announce, context)) if instances else ():
            _record(context, destination, result)
            progress |= result.verdict == DeliveryVerdict.CONFIRMED
    except (TransientError, ConfigError) as error:
        failure = str(error)
        log.warning("delivery to %s: %s", destination.name, error.log_line)
        _note_failure(context, destination, failure)
    close_rounds_at(context, destination.name)
    return _close_or_retry(context, destination, 1 if progress else claim.attempt, failure)


def _announce(context: Context, instance: OutgoingInstance) -> bool:
    """Record in the database that an object is about to be sent. Return whether it was sent before.

    If the process then crashes and the peer later reports a duplicate, then the record proves that the
    duplicate is our object.
    """
    with context.database.transaction() as session:
        return mark_sent(session.get_one(Delivery, instance.key, with_for_update=True))


def _wants_commitment(destination: AnyDestination) -> bool:
    return isinstance(destination, Destination) and destination.commitment_timeout_s is not None


def _readable(context: Context, destination: AnyDestination) -> Iterator[OutgoingInstance]:
    """Yield the pending objects that have a file. Park the objects without a file."""
    for key, sop_class_uid, kept in choose_pending(context, destination.name):
        path = context.store.fetch_if_kept(kept) if kept else None
        if path is not None:
            yield OutgoingInstance(key, sop_class_uid, path)
            continue
        context.store.require_available()  # without this check, an outage of the store would park all objects
        error = result_unreadable("the file does not exist") if kept else result_deleted()
        _record(context, destination, SendResult(key, DeliveryVerdict.PARK, reason_of(error)))


def choose_pending(context: Context, destination: str) -> Sequence[tuple[int, str, str]]:
    """Return the pending objects of a destination in order: delivery id, SOP class UID, path in the store."""
    chosen = (
        select(Delivery.id, Result.sop_class_uid, Result.path)
        .join(Delivery.result)
        .where(*_pending_at(destination))
        .order_by(Delivery.id)
    )
    with context.database.reading() as session:
        return [(key, sop_class_uid, path) for key, sop_class_uid, path in session.execute(chosen)]


def _pending_at(destination: str) -> tuple[ColumnElement[bool], ...]:
    return Delivery.destination == destination, Delivery.state == DeliveryState.PENDING


def _record(context: Context, destination: AnyDestination, answer: SendResult) -> None:
    """Record the result of a single object at once.

    If the process dies within a batch, then few objects are sent twice.
    """
    with context.database.transaction() as session:
        row = session.get_one(Delivery, answer.key, with_for_update=True)
        if answer.verdict == DeliveryVerdict.DUPLICATE and row.state in _TAKEN:
            return  # another worker sent the object at the same moment
        apply_verdict(row, answer.verdict, answer.reason)
        if answer.verdict == DeliveryVerdict.CONFIRMED and _wants_commitment(destination):
            row.state, row.confirmed_at = DeliveryState.STORED, None
            require_commitment(session, destination.name)
        count_attempt(row, context.settings.delivery)
    if answer.verdict != DeliveryVerdict.CONFIRMED:
        log.warning("delivery %d to %s: %s", answer.key, destination.name, answer.reason)


def _note_failure(context: Context, destination: AnyDestination, failure: str) -> None:
    """Record the reason why pending deliveries wait.

    This does not count as an attempt, because an unreachable peer has not refused an object.
    """
    with context.database.transaction() as session:
        session.execute(update(Delivery).where(*_pending_at(destination.name)).values(reason=failure))


def _close_or_retry(context: Context, destination: AnyDestination, attempt: int, failure: str) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        tried = or_(Delivery.attempts > 0, Delivery.reason != "")
        counts = select(func.count(), func.count().filter(tried)).where(*_pending_at(destination.name))
        left, tried_before = session.execute(counts).one()
        if not left:
            work_items.close(item)
            return
        # Rows without an attempt were added during the sending. If no other row is pending, they are sent at
        # once.
        delay_s = work_items.back_off(context.settings.delivery, attempt) if tried_before else 0.0
        work_items.postpone(session, item, delay_s, failure)

    return commit


def _park_all(reason: str) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        parked = {"state": DeliveryState.PARKED, "reason": reason}
        session.execute(update(Delivery).where(*_pending_at(item.subject)).values(parked))
        work_items.close(item)

    return commit
