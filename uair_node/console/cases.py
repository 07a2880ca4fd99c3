"""The list of cases: state, age, place in the queue; searched, filtered, paged."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from uair_node.cases.queue import places
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Round
from uair_node.console.desk import Ask, Desk
from uair_node.console.paging import page_of
from uair_node.delivery.outstanding import final_outstanding
from uair_node.operations import reports

_A_PAGE = 25


def list_cases(desk: Desk, ask: Ask) -> Response:
    """Answer with one page of the cases that match."""
    search = ask.query.get("search", "").strip()[:64]
    state = ask.query.get("state", "").upper()
    state = state if state in CaseState.__members__ else ""
    with desk.context.database.reading() as session:
        paging = page_of(ask, reports.count_cases(session, state=state, search=search), _A_PAGE)
        found = reports.find_cases(session, state=state, search=search, limit=_A_PAGE, offset=paging.offset)
        newest_rounds = _newest_rounds(session, [case.id for case in found])
        rows = [(case, newest_rounds.get(case.id)) for case in found]
        shown = ", ".join(str(case.id) for case in found)
        page = desk.page(
            "cases.html",
            ask,
            title="Cases",
            rows=rows,
            places=places(session),
            missing=final_outstanding(session, found),
            paging=paging,
            search=search,
            state=state,
            counts=_counts(session),
        )
    desk.note(ask, "search" if search else "list", f"cases {shown}" if shown else "")
    return page


def _newest_rounds(session: Session, case_ids: Sequence[int]) -> dict[int, int]:
    """Return the number of the newest round of each case that has any."""
    newest = select(Round.case_id, func.max(Round.number)).where(Round.case_id.in_(case_ids))
    return {case_id: number for case_id, number in session.execute(newest.group_by(Round.case_id))}  # noqa: C416


def _counts(session: Session) -> dict[CaseState, int]:
    """Return how many cases are in each state, in the order of a case's life."""
    rows = session.execute(select(Case.state, func.count()).group_by(Case.state))
    found = {state: number for state, number in rows}  # noqa: C416 - rows are no pairs to dict
    return {state: found.get(state, 0) for state in CaseState}
