"""Show refusals: series by code, peers and connections by reason, answers without a case."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from uair_node.cases.installation_tables import ListenerRefusal
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.operations.refused_peers import explain, newest_refused

_MOST_CASES = 20
_MOST_ANSWERS = 50
_MOST_PEERS = 50


@dataclass(frozen=True)
class Group:
    """All refused series with the same code: the newest sentence, their number, and the newest series."""

    code: str
    sentence: str
    remedy: str
    count: int
    cases: list[Case]


def show_refused(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Show the refused series, grouped by code, the largest group first."""
    with console.context.database.reading() as session:
        groups = _groups(session)
        answers = session.scalars(
            select(Selection)
            .where(Selection.outcome == SelectionOutcome.REFUSED)
            .order_by(Selection.id.desc())
            .limit(_MOST_ANSWERS)
        ).all()
        refusals = session.scalars(select(ListenerRefusal).order_by(ListenerRefusal.count.desc())).all()
        peers = newest_refused(session, limit=_MOST_PEERS)
        return console.page(
            "refused.html",
            request,
            title="Refused",
            groups=groups,
            answers=answers,
            refusals=[(row, explain(row.outcome)) for row in refusals],
            peers=[(row, explain(row.outcome)) for row in peers],
        )


def _groups(session: Session) -> list[Group]:
    number = func.count()
    rejected = Case.state == CaseState.REJECTED
    query = select(Case.code, number).where(rejected).group_by(Case.code).order_by(number.desc(), Case.code)
    groups = []
    for code, count in session.execute(query):
        newest = select(Case).where(rejected, Case.code == code).order_by(Case.id.desc()).limit(_MOST_CASES)
        cases = list(session.scalars(newest))
        groups.append(Group(code, cases[0].sentence, cases[0].remedy, count, cases))
    return groups
