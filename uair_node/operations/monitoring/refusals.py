"""Store the listener's refusals of connections and associations for the console and `uair check`."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import ListenerRefusal, RefusedPeer
from uair_node.network.listener_metrics import ListenerMetrics, Refusal

_MOST_KEPT = 200


def keep_refusals(database: Database, metrics: ListenerMetrics) -> None:
    """Add the refusals since the last call to the tables. If this fails, the next call adds them.

    Raises
    ------
    TransientError
        ``database-unavailable``: the database cannot be used.
    """
    counts = metrics.take_refusals()
    if not counts:
        return
    try:
        with database.transaction() as session:
            now = database_now(session)
            _add_reasons(session, counts, now)
            _add_peers(session, counts, now)
    except BaseException:
        metrics.give_back(counts)
        raise


def _add_reasons(session: Session, counts: Mapping[Refusal, int], now: datetime) -> None:
    reasons: collections.Counter[str] = collections.Counter()
    for refusal, count in counts.items():
        reasons[refusal.reason] += count
    for reason, count in sorted(reasons.items()):
        row = session.get(ListenerRefusal, reason, with_for_update=True)
        if row is None:
            row = ListenerRefusal(outcome=reason, count=0)
            session.add(row)
        row.count += count
        row.last_at = now


def _add_peers(session: Session, counts: Mapping[Refusal, int], now: datetime) -> None:
    """Add the counts to the rows of peers, and delete the oldest rows above a limit.

    The caller has locked the rows of the reasons. These locks also protect the rows of peers.
    """
    for refusal, count in sorted(counts.items()):
        if not refusal.address:
            continue
        values = {
            "outcome": str(refusal.reason),
            "address": refusal.address,
            "calling_ae": refusal.calling_ae,
            "called_ae": refusal.called_ae,
            "why": refusal.why,
        }
        row = session.scalar(select(RefusedPeer).filter_by(**values))
        if row is None:
            row = RefusedPeer(**values, count=0)
            session.add(row)
        row.count += count
        row.last_at = now
    session.flush()
    newest = select(RefusedPeer.id).order_by(RefusedPeer.last_at.desc(), RefusedPeer.id.desc())
    session.execute(
        delete(RefusedPeer).where(RefusedPeer.id.in_(newest.offset(_MOST_KEPT).limit(_MOST_KEPT)))
    )
