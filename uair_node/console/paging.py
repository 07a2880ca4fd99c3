"""Which part of a long list is shown, and the links to the others."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from uair_node.console.console_app import ConsoleRequest
from uair_node.console.guard import REFRESH

_PAGE = "page"


@dataclass(frozen=True)
class Paging:
    """Page `number` (1-based) of `pages`; `rest` is the query of the others, without their number."""

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
        """Return the query string with which this page asks for itself again."""
        return f"{self.link(self.number)}&{REFRESH}=1"


def page_of(request: ConsoleRequest, total: int, size: int) -> Paging:
    """Return the page that is asked for, the nearest one where there is no such page."""
    pages = max(1, -(-total // size))
    text = request.query.get(_PAGE, "1")
    number = min(max(1, int(text)), pages) if text.isdecimal() and len(text) < 10 else 1
    rest = urlencode({key: value for key, value in request.query.items() if key not in (_PAGE, REFRESH)})
    return Paging(number, pages, total, (number - 1) * size, f"{rest}&" if rest else "")
