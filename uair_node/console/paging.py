"""Divide a long list into pages, with links to the other pages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from uair_node.console.console_app import ConsoleRequest
from uair_node.console.guard import REFRESH

_PAGE = "page"


@dataclass(frozen=True)
class Paging:
    """Page `number` (1-based) of `pages`. `rest` is the query without the page number."""

    number: int
    pages: int
    total: int
    offset: int
    rest: str

    def link(self, number: int) -> str:
        """Return the query string of a page."""
        return f"?{self.rest}{_PAGE}={number}"

    @property
    def refreshing(self) -> str:
        """Return the query string with which this page refreshes itself."""
        return f"{self.link(self.number)}&{REFRESH}=1"


def page_of(request: ConsoleRequest, total: int, size: int) -> Paging:
    """Return the requested page, or the nearest existing page."""
    pages = max(1, -(-total // size))
    text = request.query.get(_PAGE, "1")
    number = min(max(1, int(text)), pages) if text.isdecimal() and len(text) < 10 else 1
    rest = urlencode({key: value for key, value in request.query.items() if key not in (_PAGE, REFRESH)})
    return Paging(number, pages, total, (number - 1) * size, f"{rest}&" if rest else "")
