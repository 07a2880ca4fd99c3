"""The page that lists cases with state, age and place in the queue.

A user can search, filter and sort the list, and turn its pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from uair_node.cases.queue import places
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Round
from uair_node.console.case_query import case_query
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.paging import page_of
from uair_node.console.patient_lookup import facts_of_cases
from uair_node.console.several import SEVERAL
from uair_node.delivery.outstanding import final_outstanding
from uair_node.operations.case_list import count_cases, find_cases, first_slices

_A_PAGE = 25


def list_cases(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with one page of the cases that match the query."""
    query = case_query(request.session, request.query)
    with console.context.database.reading() as session:
        paging = page_of(request, count_cases(session, query.wanted), _A_PAGE)
        found = find_cases(session, query.wanted, sort=query.sort, limit=_A_PAGE, offset=paging.offset)
        newest_rounds = _newest_rounds(session, [case.id for case in found])
        rows = [(case, newest_rounds.get(case.id)) for case in found]
        shown = ", ".join(str(case.id) for case in found)
        slices = first_slices(session, [case.id for case in found]) if query.lookup else {}
        values: dict[str, Any] = {
            "rows": rows,
            "places": places(session, worker_gone=console.gpu_worker_gone()),
            "missing": final_outstanding(session, found),
            "counts": _counts(session),
        }
    if query.lookup:
        console.note(request, "view patient data", f"cases {shown}" if shown else "")
    else:
        console.note(request, "search" if query.wanted.search else "list", f"cases {shown}" if shown else "")
    return console.page(
        "cases.html",
        request,
        title="Cases",
        paging=paging,
        query=query,
        patients=facts_of_cases(console.context, slices),
        several=SEVERAL if request.operates and rows else (),
        **values,
    )


def _newest_rounds(session: Session, case_ids: Sequence[int]) -> dict[int, int]:
    """Return the number of the newest round of each case that has a round."""
    newest = select(Round.case_id, func.max(Round.number)).where(Round.case_id.in_(case_ids))
    return {case_id: number for case_id, number in session.execute(newest.group_by(Round.case_id))}  # noqa: C416


def _counts(session: Session) -> dict[CaseState, int]:
    """Return the number of cases in each state, in the order of a case's life."""
    rows = session.execute(select(Case.state, func.count()).group_by(Case.state))
    found = {state: number for state, number in rows}  # noqa: C416 - rows are no pairs to dict
    return {state: found.get(state, 0) for state in CaseState}
