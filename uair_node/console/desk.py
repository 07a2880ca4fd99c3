"""What all requests of a console share, and what a handler gets of one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import HTMLResponse, RedirectResponse, Response

from uair_node.cases.tables import utc_now
from uair_node.console import audit
from uair_node.console.sessions import Session, Sessions
from uair_node.console.signs import department_signs
from uair_node.console.templating import make_environment
from uair_node.console.throttle import Throttle
from uair_node.console.users import Role, UsersFile, users_file
from uair_node.console.views import Views
from uair_node.context import Context


@dataclass(frozen=True)
class Ask:
    """A request of a user who is logged in and has the right to make it.

    Parameters
    ----------
    session
        The session of the user who sent the request.
    address
        The user's network address, as far as known.
    path, query, form
        Its parameters; a form was checked to come from this session.
    url
        Path of the page.
    """

    session: Session
    address: str
    path: Mapping[str, Any]
    query: Mapping[str, str]
    form: Mapping[str, str]
    url: str

    @property
    def actor(self) -> str:
        """What audit rows and transitions call who asks."""
        return f"console {self.session.name}"

    @property
    def operates(self) -> bool:
        """Whether who asks may act."""
        return self.session.role.covers(Role.OPERATOR)


@dataclass
class Desk:
    """Built once at start."""

    context: Context
    users: UsersFile
    sessions: Sessions
    throttle: Throttle
    proxy_secret: bytes = b""  # what requests of console.proxy bear; empty: nothing
    kept: dict[str, Any] = field(default_factory=dict)  # last answers of peers and checks, by page

    def __post_init__(self) -> None:
        """Load the templates; nobody has looked at a segmentation yet."""
        self._templates = make_environment()
        self.views = Views(self.context)

    def page(self, template: str, ask: Ask | None, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page; the notice that the session holds is shown once."""
        notice = None
        if ask is not None:
            notice, ask.session.notice = ask.session.notice, None
        signs = department_signs(self.context, self.kept) if ask is not None else []
        shown = self._templates.get_template(template)
        text = shown.render(ask=ask, notice=notice, signs=signs, now=utc_now(), **values)
        return HTMLResponse(text, status)

    def note(self, ask: Ask, action: str, subject: str) -> None:
        """Write a view of patient data to the audit, before it is shown; not each time it is refreshed.

        The row has a transaction of its own, so that a page only reads and waits for no writer.
        """
        if self._is_news(ask, action, subject):
            with self.context.database.transaction() as session:
                audit.record(session, ask.session.name, ask.address, action, subject)
            ask.session.seen[(action, subject)] = self.sessions.now()

    def _is_news(self, ask: Ask, action: str, subject: str) -> bool:
        last = ask.session.seen.get((action, subject))
        return last is None or self.sessions.now() - last > audit.REPEAT_S

    def done(self, ask: Ask, where: str, text: str, *, well: bool = True) -> Response:
        """Send a browser on after a deed (POST, redirect, GET), to a page that says what came of it."""
        ask.session.notice = (well, text)
        return RedirectResponse(where, 303)


Handler = Callable[[Desk, Ask], Response]


def make_desk(context: Context) -> Desk:
    """Return the desk of a configured console.

    Raises
    ------
    ConfigError
        ``proxy-secret``.
    """
    section = context.settings.console
    secret = section.proxy.read_secret() if section.proxy is not None else b""
    sessions = Sessions(section.idle_minutes * 60, section.session_hours * 3600)
    return Desk(context, users_file(context.settings), sessions, Throttle(), secret)
