"""Decide when the candidates of closed rounds are withdrawn at a destination with `withdraw: each-round`.

They are withdrawn after the next round has arrived at the destination. So a reader always has candidates.
"""

from __future__ import annotations

from sqlalchemy import select

from uair_node.cases import lifecycle
from uair_node.cases.arrivals import round_that_closes_others
from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Round
from uair_node.context import Context


def close_rounds_at(context: Context, destination: str) -> None:
    """Make the withdrawal of closed rounds due for each case whose newest round reached `destination`."""
    if destination not in context.withdrawing_each_round:
        return
    waiting = select(Case.id).join(Case.rounds).distinct()
    waiting = waiting.where(Case.state == CaseState.AWAITING_SELECTION, Round.number > 1)
    with context.database.reading() as session:
        arrived = [
            case_id
            for case_id in session.scalars(waiting).all()
            if round_that_closes_others(session, case_id, destination)
        ]
    for case_id in arrived:
        with context.database.transaction() as session:
            case = lock_case(session, case_id)
            number = round_that_closes_others(session, case_id, destination)
            if number and case.state == CaseState.AWAITING_SELECTION:
                lifecycle.close_rounds(session, case, number)
