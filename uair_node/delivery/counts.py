"""Count deliveries by destination and state, for the console and for metrics."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.tables import Delivery, DeliveryState

_RECENT = timedelta(hours=24)
_UNCONFIRMED = tuple(state for state in DeliveryState if state != DeliveryState.CONFIRMED)


def count_deliveries(session: Session) -> dict[tuple[str, str], int]:
    """Return the number of deliveries for each destination and state.

    Only deliveries that were confirmed in the last 24 hours count as confirmed. To count all confirmed
    deliveries at each call would take too long.
    """
    number = func.count()
    waiting = (
        select(Delivery.destination, Delivery.state, number)
        .where(Delivery.state.in_(_UNCONFIRMED))
        .group_by(Delivery.state, Delivery.destination)
    )
    # Only confirmed rows have `confirmed_at`. With a condition on the state, SQLite would read all rows.
    confirmed = (
        select(Delivery.destination, number)
        .where(Delivery.confirmed_at > database_now(session) - _RECENT)
        .group_by(Delivery.destination)
    )
    found = {(name, str(state)): count for name, state, count in session.execute(waiting)}
    return found | {(name, str(DeliveryState.CONFIRMED)): count for name, count in session.execute(confirmed)}
