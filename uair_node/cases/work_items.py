"""Work items: which work is due, which worker holds it, when it is tried again.

An item is written in the transaction that makes it due, and closed in the transaction that stores its
outcome. In between, a worker claims it with a lease. The broker only wakes workers up. If messages are lost,
then the node's loop enqueues every item again that is open, unclaimed and not just enqueued.

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
"""If no worker claims an item in this time, then its message counts as lost. A second message is harmless."""


def require_work(session: Session, kind: WorkKind, *, case: Case | None, key: str) -> WorkItem:
    """Make work due: add the item, or open it again if it is closed.

    Parameters
    ----------
    case
        The case that it belongs to; None for a delivery.
    key
        The item's name among those of its kind: ``"3"`` for round 3, or a destination's name.
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
    """Make a postponed item due now. A worker that holds it decides again when it writes its outcome."""
    item.not_before = database_now(session)
    item.enqueued_at = None


def due_items(session: Session) -> Sequence[WorkItem]:
    """Return the items to enqueue now: refinements before first rounds, the oldest first."""
    now = database_now(session)
    return session.scalars(
        select(WorkItem)
        .where(_claimable(now))
        .where(
            or_(
                WorkItem.enqueued_at.is_(None),
                WorkItem.enqueued_at < now - REQUEUE_AFTER,
                WorkItem.lease_until.is_not(None),  # claimable with a lease: it ran out, its holder died
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
    """Treat the messages of the items `ids` as lost; without `ids` those of every item, as at start-up."""
    which = WorkItem.open if ids is None else WorkItem.open & WorkItem.id.in_(ids)
    session.execute(update(WorkItem).where(which).values(enqueued_at=None))


def claim(session: Session, item_id: int, owner: str, lease_s: float) -> WorkItem | None:
    """Claim an item for `owner`. Return None if it is done, held by another worker or not due.

    A message for any computation claims the most urgent one. A reader waits for a refinement, so it comes
    before first rounds, whatever the broker's order is.
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
    """Extend a lease. Return False if `owner` does not hold it any more."""
    changed = session.execute(
        update(WorkItem)
        .where(WorkItem.id == item_id, WorkItem.lease_owner == owner, WorkItem.open)
        .values(lease_until=database_now(session) + timedelta(seconds=lease_s))
        .returning(WorkItem.id)
    )
    return changed.first() is not None


def hold(session: Session, item_id: int, owner: str) -> WorkItem | None:
    """Lock an item to write its outcome. Return None if the lease was lost: the outcome is dropped."""
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
    """Release an item, to be tried again after a delay."""
    item.not_before = database_now(session) + timedelta(seconds=delay_s)
    item.cause = cause
    item.enqueued_at = None
    _release(item)


def back_off(section: DeliverySection, attempt: int) -> float:
    """Return the seconds between attempt number `attempt` (1-based) of an item and the next."""
    return growing_pause(section.retry_first_s, section.retry_max_s, attempt)


def growing_pause(first_s: float, longest_s: float, attempt: int) -> float:
    """Return the seconds between attempt number `attempt` (1-based) and the next.

    The pause doubles, up to `longest_s`. It is shortened at random by up to a quarter, so that work that
    failed together is not tried together.
    """
    return min(longest_s, first_s * float(2 ** min(attempt - 1, 16))) * random.uniform(0.75, 1.0)  # no secret


def close_case_items(session: Session, case: Case) -> None:
    """Close all open work of a case. A worker that holds some of it loses its lease."""
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
