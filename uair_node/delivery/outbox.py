"""The outbox: every result that must reach a destination is a row until the peer confirmed it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import Destination
from uair_node.cases import work
from uair_node.cases.performer import Claim, Commit
from uair_node.cases.tables import Delivery, DeliveryState, WorkItem, utc_now
from uair_node.context import Context
from uair_node.delivery.scu import Answer, Parcel, send
from uair_node.delivery.statuses import Verdict

log = logging.getLogger(__name__)

_STATE_AFTER = {
    Verdict.CONFIRMED: DeliveryState.CONFIRMED,
    Verdict.RETRY: DeliveryState.PENDING,
    Verdict.PARK: DeliveryState.PARKED,
}


def deliver(context: Context, claim: Claim) -> Commit:
    """Send all that is pending for one destination; what it does not take stays, with the reason."""
    destination = next((d for d in context.settings.destinations if d.name == claim.subject), None)
    if destination is None:
        return _park_all(f"The configuration has no destination {claim.subject}.")
    parcels = _pending(context, destination)
    failure = ""
    try:
        for answer in send(destination, parcels) if parcels else ():
            _record(context, destination, answer)
    except (TransientError, ConfigError) as error:
        failure = str(error)
        log.warning("delivery to %s: %s", destination.name, error)
        _note_failure(context, destination, failure)
    return _close_or_retry(context, destination, failure)


def _pending(context: Context, destination: Destination) -> list[Parcel]:
    with context.database.transaction() as session:
        rows = session.scalars(_pending_rows(destination.name).options(joinedload(Delivery.result))).all()
        return [
            Parcel(row.id, row.result.sop_class_uid, context.store.absolute(row.result.path)) for row in rows
        ]


def _pending_rows(destination: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's statement types
    return (
        select(Delivery)
        .where(Delivery.destination == destination, Delivery.state == DeliveryState.PENDING)
        .order_by(Delivery.id)
    )


def _record(context: Context, destination: Destination, answer: Answer) -> None:
    """Keep each answer at once: a process that dies in the middle of a batch repeats little."""
    with context.database.transaction() as session:
        row = session.get_one(Delivery, answer.key)
        row.state, row.reason = _STATE_AFTER[answer.verdict], answer.reason
        if answer.verdict == Verdict.CONFIRMED:
            row.confirmed_at = utc_now()
        _count_attempt(row, context)
    if answer.verdict != Verdict.CONFIRMED:
        log.warning("delivery %d to %s: %s", answer.key, destination.name, answer.reason)


def _count_attempt(row: Delivery, context: Context) -> None:
    row.attempts += 1
    if row.state == DeliveryState.PENDING and row.attempts >= context.settings.delivery.max_attempts:
        row.state = DeliveryState.PARKED


def _note_failure(context: Context, destination: Destination, failure: str) -> None:
    with context.database.transaction() as session:
        for row in session.scalars(_pending_rows(destination.name)):
            row.reason = failure
            _count_attempt(row, context)


def _close_or_retry(context: Context, destination: Destination, failure: str) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        left: Sequence[Delivery] = session.scalars(_pending_rows(destination.name)).all()
        if not left:
            work.close(item)
            return
        settings = context.settings.delivery
        attempts = max(row.attempts for row in left)
        # Rows without an attempt arrived while we were sending: they go at once.
        delay = settings.retry_first_s * 2 ** min(attempts - 1, 16) if attempts else 0.0
        work.postpone(item, min(settings.retry_max_s, delay), failure)

    return commit


def _park_all(reason: str) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        for row in session.scalars(_pending_rows(item.subject)):
            row.state, row.reason = DeliveryState.PARKED, reason
        work.close(item)

    return commit
