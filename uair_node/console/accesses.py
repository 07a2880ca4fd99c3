"""The audit of the console itself, for operators."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console import audit
from uair_node.console.desk import Ask, Desk
from uair_node.console.paging import page_of

_A_PAGE = 50


def show_accesses(desk: Desk, ask: Ask) -> Response:
    """Answer with who looked at what and did what, newest first."""
    with desk.context.database.reading() as session:
        paging = page_of(ask, audit.count(session), _A_PAGE)
        rows = audit.newest(session, limit=_A_PAGE, offset=paging.offset)
        return desk.page("accesses.html", ask, title="Access", rows=rows, paging=paging)
