"""Compute the place of each case in the queue of computations, and the time until it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.tables import Round, WorkItem, WorkKind

_RECENT = 30
CLAIMED_WITHIN_S = 60.0
"""The longest time in seconds until a running worker claims due work.

If no worker claims due work in this time, then no worker is running.
"""
_DONE_IN_THE_MEAN = 0.5
"""The fraction of a running computation that is already done, in the mean."""


@dataclass(frozen=True)
class QueuePosition:
    """A case's place in the queue.

    Parameters
    ----------
    position
        0 while a worker computes the case; 1 if the case is the next.
    seconds
        Estimated time in seconds until the case's candidates are computed. None before the first comparable
        computation, and while no worker runs.
    unmanned
        Whether no worker runs. No worker claimed due work in time, or no worker is connected to the broker.
    """

    position: int
    seconds: float | None
    unmanned: bool = False


def places(session: Session, *, worker_gone: bool = False) -> dict[int, QueuePosition]:
    """Return the place of each case whose computation is due, by case id.

    Workers claim later rounds before first rounds. Within rounds of the same number, they claim older work
    first. The estimate uses the median time of the last 30 first rounds (or later rounds), and the number of
    workers that compute now.

    Parameters
    ----------
    worker_gone
        Whether no worker is connected to the broker. Then each lease belongs to a worker that has ended.
    """
    now = database_now(session)
    items = session.scalars(
        select(WorkItem)
        .where(WorkItem.kind == WorkKind.COMPUTE, WorkItem.open)
        .order_by(WorkItem.round_number.desc(), WorkItem.id)
    ).all()
    first, later = _typical(session, first=True), _typical(session, first=False)
    held = [work for work in items if work.lease_until is not None and work.lease_until > now]
    waiting = [work for work in items if work not in held]
    waits_s = max(((now - work.not_before).total_seconds() for work in waiting), default=0.0)
    in_order = [(0, item) for item in held] + list(enumerate(waiting, start=1))
    if worker_gone or (not held and waits_s > CLAIMED_WITHIN_S):
        return {
            item.case_id: QueuePosition(position, None, unmanned=True)
            for position, item in in_order
            if item.case_id is not None
        }
    found = {}
    ahead: float | None = 0.0
    for position, item in in_order:
        takes = first if item.round_number == 1 else later
        takes = takes if takes is not None or first is None else first
        if position == 0 and takes is not None:
            takes *= 1 - _DONE_IN_THE_MEAN
        ends = None if ahead is None or takes is None else ahead + takes
        if item.case_id is not None:
            found[item.case_id] = QueuePosition(position, _shared(ends, takes, position, len(held)))
        ahead = ends
    return found


def _shared(ends: float | None, takes: float | None, position: int, workers: int) -> float | None:
    """Return the seconds until a computation ends, if `workers` workers share the earlier computations."""
    if ends is None or takes is None or position == 0:
        return takes
    return (ends - takes) / max(1, workers) + takes


def _typical(session: Session, *, first: bool) -> float | None:
    seconds: Sequence[float | None] = session.scalars(
        select(Round.compute_seconds)
        .where(Round.compute_seconds.is_not(None), Round.number == 1 if first else Round.number > 1)
        .order_by(Round.id.desc())
        .limit(_RECENT)
    ).all()
    return median(second for second in seconds if second is not None) if seconds else None
