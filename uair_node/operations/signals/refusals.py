"""Connections and associations that the listener refused, kept for the console, which is another process."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import ListenerRefusal
from uair_node.network.tally import Tally


def keep_refusals(database: Database, tally: Tally) -> None:
    """Add the refusals since the last call to the table. Keep them for the next call if this fails.

    Raises
    ------
    TransientError
        ``database-unavailable``.
    """
    counts = tally.take_refusals()
    if not counts:
        return
    try:
        with database.transaction() as session:
            _add(session, counts)
    except BaseException:
        tally.give_back(counts)
        raise


def _add(session: Session, counts: Mapping[str, int]) -> None:
    for outcome, count in sorted(counts.items()):
        row = session.get(ListenerRefusal, outcome, with_for_update=True)
        if row is None:
            row = ListenerRefusal(outcome=outcome, count=0)
            session.add(row)
        row.count += count
        row.last_at = database_now(session)
