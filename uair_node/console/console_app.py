"""`ConsoleApp` has the parts that all requests share.

`ConsoleRequest` is a request that passed the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import HTMLResponse, RedirectResponse, Response

from uair_node.cases.tables import utc_now
from uair_node.console import audit
from uair_node.console.figures import last_answer
from uair_node.console.sessions import Session, Sessions
from uair_node.console.signs import department_signs
from uair_node.console.templating import make_environment
from uair_node.console.throttle import Throttle
from uair_node.console.users import Role, UsersFile, users_file
from uair_node.console.views import Views
from uair_node.context import Context
from uair_node.work.topology import QueueName


@dataclass(frozen=True)
class ConsoleRequest:
    """A request of a user who is logged in and has the right to make it.

    Parameters
    ----------
    session
        The session of the user who sent the request.
    address
        The user's network address, if it is known.
    path, query, form
        The parameters of the request. `guard` has checked that the form comes from this session.
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
        """The user's name in the form that audit rows and state transitions keep."""
        return f"console {self.session.name}"

    @property
    def operates(self) -> bool:
        """Whether the user has the role operator, which may do actions."""
        return self.session.role.covers(Role.OPERATOR)


@dataclass
class ConsoleApp:
    """The parts of a console that all requests share. It is built once, at the start."""

    context: Context
    users: UsersFile
    sessions: Sessions
    throttle: Throttle
    proxy_secret: bytes = b""  # each request of console.proxy must have it; empty: no check
    kept: dict[str, Any] = field(default_factory=dict)  # the latest answers of checks and peers, by name

    def __post_init__(self) -> None:
        """Load the templates. The cache of segmentations is empty at the start."""
        self._templates = make_environment()
        self.views = Views(self.context)

    def page(
        self, template: str, request: ConsoleRequest | None, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Render a page. The notice of the session is shown once."""
        notice = None
        if request is not None:
            notice, request.session.notice = request.session.notice, None
        signs = department_signs(self.context, self.kept) if request is not None else []
        shown = self._templates.get_template(template)
        text = shown.render(request=request, notice=notice, signs=signs, now=utc_now(), **values)
        return HTMLResponse(text, status)

    def gpu_worker_gone(self) -> bool:
        """Return whether the broker's last answer names no worker of the GPU queue."""
        broker = last_answer(self.kept, self.context.settings)
        return broker is not None and QueueName.GPU in broker.alone_since

    def note(self, request: ConsoleRequest, action: str, subject: str) -> None:
        """Record a view of patient data in the audit before the page is shown.

        A page that refreshes itself writes no further row for some time. The row has a transaction of its
        own, so that the page itself only reads and never waits for a writer.
        """
        if self._is_news(request, action, subject):
            with self.context.database.transaction() as session:
                audit.record(session, request.session.name, request.address, action, subject)
            request.session.seen[(action, subject)] = self.sessions.now()

    def _is_news(self, request: ConsoleRequest, action: str, subject: str) -> bool:
        last = request.session.seen.get((action, subject))
        return last is None or self.sessions.now() - last > audit.REPEAT_S

    def redirect_with_notice(
        self, request: ConsoleRequest, where: str, text: str, *, well: bool = True
    ) -> Response:
        """Redirect the browser after an action (POST, redirect, GET) to a page that shows the result."""
        request.session.notice = (well, text)
        return RedirectResponse(where, 303)


Handler = Callable[[ConsoleApp, ConsoleRequest], Response]


def make_console(context: Context) -> ConsoleApp:
    """Build the parts of a configured console.

    Raises
    ------
    ConfigError
        ``proxy-secret``, see `ConsoleProxy.read_secret`.
    """
    section = context.settings.console
    secret = section.proxy.read_secret() if section.proxy is not None else b""
    sessions = Sessions(section.idle_minutes * 60, section.session_hours * 3600)
    return ConsoleApp(context, users_file(context.settings), sessions, Throttle(), secret)
