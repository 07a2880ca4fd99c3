"""Work items. An item records which work is due, which worker has claimed it, and when it is tried again.

The transaction that makes work due also writes the item. The transaction that stores the outcome of the work
also closes the item. In between, a worker claims the item with a lease. The broker only starts the workers.
If messages are lost, then the node's loop enqueues again each due item that no worker holds. If the message
of an item was sent in the last 60 seconds, then the loop waits.

All times of an item come from the database's clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from dicom_config.model import DeliverySection
from uair_node.cases.clock import database_now
from uair_node.cases.tables import Case, WorkItem, WorkKind

REQUEUE_AFTER = timedelta(seconds=60)
"""Time after which the message of an unclaimed item counts as lost. A second message is harmless."""


def require_work(session: Session, kind: WorkKind, *, case: Case | None, key: str) -> WorkItem:
    """Make work due. Add its item, or open the item again if it is closed. Return the item.

    Parameters
    ----------
    case
        The case to which the work belongs; None for work of a destination.
    key
        Round number of the case, such as ``"3"``; without a case, the destination's name.
    """
    subject = key if case is None else f"{case.id}/{key}"
    found = session.scalar(
        select(WorkItem).where(WorkItem.kind == kind, WorkItem.subject == subject).with_for_update()
    )
    if found is None:
        found = WorkItem(
            kind=kind,
            subject=subject,
            case_id=case.id if case else None,
            not_before=database_now(session),
        )
        if case is not None:
            found.round_number = int(key)
        session.add(found)
        session.flush()
    elif not found.open:
        found.open, found.attempts, found.cause = True, 0, ""
        found.not_before, found.enqueued_at = database_now(session), None
    return found


def make_due_now(session: Session, item: WorkItem) -> None:
    """Make a postponed item due now.

    If a worker holds the item, then that worker sets the due time again when it writes the outcome.
    """
    item.not_before = database_now(session)
    item.enqueued_at = None


def due_items(session: Session) -> Sequence[WorkItem]:
    """Return the items to enqueue now: later rounds before first rounds, and otherwise older items first."""
    now = database_now(session)
    return session.scalars(
        select(WorkItem)
        .where(_claimable(now))
        .where(
            or_(
                WorkItem.enqueued_at.is_(None),
                WorkItem.enqueued_at < now - REQUEUE_AFTER,
                WorkItem.lease_until.is_not(None),  # the lease ran out, so the worker has ended
            )
        )
        .order_by(WorkItem.round_number.desc().nulls_first(), WorkItem.id)
    ).all()


def note_enqueued(session: Session, items: Sequence[WorkItem]) -> None:
    """Record that messages for these items were sent, and clear their expired leases."""
    now = database_now(session)
    for item in items:
        item.enqueued_at = now
        _release(item)


def forget_enqueued(session: Session, ids: Sequence[int] | None = None) -> None:
    """Treat the messages of the items `ids` as lost. None means all open items, as at the node's start."""
    which = WorkItem.open if ids is None else WorkItem.open & WorkItem.id.in_(ids)
    session.execute(update(WorkItem).where(which).values(enqueued_at=None))


def claim(session: Session, item_id: int, owner: str, lease_s: float) -> WorkItem | None:
    """Claim an item for `owner` for `lease_s` seconds. Return None if the item cannot be claimed.

    An item cannot be claimed if it is done, if another worker holds it, or if it is not due. If the item is a
    computation, then the worker claims the most urgent computation instead. Later rounds come before first
    rounds, because a reader waits for later rounds. The broker's order does not matter.
    """
    now = database_now(session)
    item = session.get(WorkItem, item_id)
    query = select(WorkItem).where(_claimable(now))
    if item is not None and item.kind == WorkKind.COMPUTE:
        query = query.where(WorkItem.kind == WorkKind.COMPUTE).order_by(
            WorkItem.round_number.desc(), WorkItem.id
        )
    else:
        query = query.where(WorkItem.id == item_id)
    found = session.scalar(query.limit(1).with_for_update(skip_locked=True))
    if found is None:
        return None
    found.attempts += 1
    found.lease_owner = owner
    found.lease_until = now + timedelta(seconds=lease_s)
    return found


def renew(session: Session, item_id: int, owner: str, lease_s: float) -> bool:
    """Extend a lease to `lease_s` seconds from now. Return False if `owner` has lost the lease."""
    changed = session.execute(
        update(WorkItem)
        .where(WorkItem.id == item_id, WorkItem.lease_owner == owner, WorkItem.open)
        .values(lease_until=database_now(session) + timedelta(seconds=lease_s))
        .returning(WorkItem.id)
    )
    return changed.first() is not None


def hold(session: Session, item_id: int, owner: str) -> WorkItem | None:
    """Lock an item before its outcome is written. Return None if `owner` has lost the lease.

    If the result is None, then the caller must drop the outcome.
    """
    return session.scalar(
        select(WorkItem)
        .where(WorkItem.id == item_id, WorkItem.lease_owner == owner, WorkItem.open)
        .with_for_update()
    )


def close(item: WorkItem) -> None:
    """Mark an item as done, and clear the cause of an earlier failure."""
    item.open, item.cause = False, ""
    _release(item)


def postpone(session: Session, item: WorkItem, delay_s: float, cause: str) -> None:
    """Release an item, and make it due again in `delay_s` seconds.

    `cause` describes the failure; it is empty if there is no failure.
    """
    item.not_before = database_now(session) + timedelta(seconds=delay_s)
    item.cause = cause
    item.enqueued_at = None
    _release(item)


def back_off(section: DeliverySection, attempt: int) -> float:
    """Return the pause in seconds after attempt number `attempt` (1-based) of an item.

    The limits are those of the configuration's `section`.
    """
    return growing_pause(section.retry_first_s, section.retry_max_s, attempt)


def growing_pause(first_s: float, longest_s: float, attempt: int) -> float:
    """Return the pause in seconds after attempt number `attempt` (1-based).

    The pause starts at `first_s` and doubles up to `longest_s`. A random factor shortens the pause by up to a
    quarter. So items that failed at the same time are not tried again at the same time.
    """
    return min(longest_s, first_s * float(2 ** min(attempt - 1, 16))) * random.uniform(0.75, 1.0)  # no secret


def close_case_items(session: Session, case: Case) -> None:
    """Close all open work items of a case. Workers that hold these items lose their leases."""
    for item in session.scalars(select(WorkItem).where(WorkItem.case_id == case.id, WorkItem.open)):
        close(item)


def _release(item: WorkItem) -> None:
    item.lease_owner, item.lease_until = "", None


def _claimable(now: datetime) -> ColumnElement[bool]:
    return (
        WorkItem.open
        & (WorkItem.not_before <= now)
        & or_(WorkItem.lease_until.is_(None), WorkItem.lease_until < now)
    )
