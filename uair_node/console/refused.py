"""What was not segmented, by code, answers that belong to no case, and what the listener refused."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from uair_node.cases.installation_tables import ListenerRefusal
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.console.desk import Ask, Desk

_MOST_CASES = 20
_MOST_ANSWERS = 50


_IN_LOG = "The node's log names the sender."
_LISTENER = {
    "address_not_admitted": (
        "Connections from addresses that no allow rule names.",
        f"{_IN_LOG} Add its address to node.allow if it is wanted.",
    ),
    "too_many_connections": ("Connections beyond 400 open ones.", f"{_IN_LOG} Find who opens them."),
    "too_many_of_an_address": (
        "Connections beyond 100 open ones of one address.",
        f"{_IN_LOG} Let it close its associations.",
    ),
    "calling_ae_not_recognised": (
        "Associations whose AE title, address or certificate no allow rule admits for this verb.",
        f"{_IN_LOG} Correct node.allow if it is wanted.",
    ),
    "called_ae_not_recognised": (
        "Associations to an AE title that is none of ours.",
        f"{_IN_LOG} Correct the title there, or node.ae_titles here.",
    ),
    "application_context_not_supported": (
        "Associations with another application context.",
        f"{_IN_LOG} It does not speak DICOM's.",
    ),
    "local_limit_exceeded": (
        "Associations beyond node.max_associations, after waiting.",
        "Raise node.max_associations, or let senders use fewer associations.",
    ),
}


@dataclass(frozen=True)
class Group:
    """All refused series with the same code: the newest sentence, their number, and the newest series."""

    code: str
    sentence: str
    mend: str
    count: int
    cases: list[Case]


def show_refused(desk: Desk, ask: Ask) -> Response:
    """Show the refused series, grouped by code, the largest group first."""
    with desk.context.database.reading() as session:
        groups = _groups(session)
        answers = session.scalars(
            select(Selection)
            .where(Selection.outcome == SelectionOutcome.REFUSED)
            .order_by(Selection.id.desc())
            .limit(_MOST_ANSWERS)
        ).all()
        refusals = session.scalars(select(ListenerRefusal).order_by(ListenerRefusal.count.desc())).all()
        connections = [(row, *_LISTENER.get(row.outcome, (row.outcome, _IN_LOG))) for row in refusals]
        return desk.page(
            "refused.html", ask, title="Refused", groups=groups, answers=answers, connections=connections
        )


def _groups(session: Session) -> list[Group]:
    number = func.count()
    rejected = Case.state == CaseState.REJECTED
    query = select(Case.code, number).where(rejected).group_by(Case.code).order_by(number.desc(), Case.code)
    groups = []
    for code, count in session.execute(query):
        newest = select(Case).where(rejected, Case.code == code).order_by(Case.id.desc()).limit(_MOST_CASES)
        cases = list(session.scalars(newest))
        groups.append(Group(code, cases[0].sentence, cases[0].mend, count, cases))
    return groups
