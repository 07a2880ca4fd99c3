"""The audit of the console itself, for operators."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.paging import page_of

_A_PAGE = 50


def show_accesses(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the audit of the console, the newest row first."""
    with console.context.database.reading() as session:
        paging = page_of(request, audit.count(session), _A_PAGE)
        rows = audit.newest(session, limit=_A_PAGE, offset=paging.offset)
        return console.page("accesses.html", request, title="Access", rows=rows, paging=paging)
