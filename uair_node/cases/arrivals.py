"""Decide whether a destination has all objects of a case's newest round.

If the destination has all these objects, then the node withdraws the objects of older rounds there.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.lifecycle import OFFERED_KINDS
from uair_node.cases.tables import Delivery, DeliveryState, Result, ResultKind, Round


def round_that_closes_others(session: Session, case_id: int, destination: str) -> int:
    """Return the newest round if the older rounds must now be withdrawn at a destination.

    Returns
    -------
    int
        Number of the newest round. The result is 0 if this round is round 1, or if the destination has not
        confirmed all written objects of this round. It is also 0 if the rejection note is already written.
    """
    rows = session.execute(
        select(Round.number, Result.kind, Delivery.state)
        .join(Result, Result.round_id == Round.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Round.case_id == case_id, Delivery.destination == destination)
    ).all()
    newest = max((number for number, kind, _ in rows if kind in OFFERED_KINDS), default=0)
    if newest < 2 or any(number == newest and kind == ResultKind.WITHDRAWAL for number, kind, _ in rows):
        return 0
    offered = [state for number, kind, state in rows if number == newest and kind in OFFERED_KINDS]
    return newest if all(state == DeliveryState.CONFIRMED for state in offered) else 0
