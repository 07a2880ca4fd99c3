"""Login and logout. The login form has a token of its own, so that another site cannot log a user in."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicom_config.errors import UairError
from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.guard import (
    Peer,
    cookie_name,
    guarded,
    is_from_us,
    peer_of,
    read_form,
    set_cookie,
)
from uair_node.console.templating import span
from uair_node.console.users import LONGEST_PASSWORD, User

log = logging.getLogger(__name__)

_WRONG = "Name or password is wrong."
_CANNOT = "Login is not possible now. The console's log gives the reason."
_STALE = "This form is too old. Try again."


def login_routes(console: ConsoleApp) -> Sequence[Route]:
    """Return the route of the login, which needs no session, and the route of the logout."""
    login = _Login(console)
    return [
        Route("/login", login.show, methods=["GET"]),
        Route("/login", login.submit, methods=["POST"]),
        guarded(console, "/logout", _logout, method="POST"),
    ]


def safe_target(text: str) -> str:
    """Return the path that the browser opens after the login: `text` if it is our own path, else "/"."""
    parts = urlsplit(text) if text.isprintable() and "\\" not in text else None
    if parts is None or parts.scheme or parts.netloc or not text.startswith("/") or text.startswith("//"):
        return "/"
    return text


class _Login:
    """The login form and its handling.

    The form's token is a keyed digest of a random cookie. So the server stores no data before the login.
    """

    def __init__(self, console: ConsoleApp) -> None:
        self._console = console
        self._key = secrets.token_bytes(32)

    async def show(self, request: Request) -> Response:
        """Answer with the form."""
        return await run_in_threadpool(self._form, request, request.query_params.get("next", "/"))

    async def submit(self, request: Request) -> Response:
        """Log in, or answer with the form and the reason."""
        form = await read_form(request)
        return await run_in_threadpool(self._submit, request, form or {})

    def _submit(self, request: Request, form: dict[str, str]) -> Response:
        target, name, password = form.get("next", "/"), form.get("name", "").strip(), form.get("password", "")
        nonce = request.cookies.get(self._cookie(request), "")
        fresh = nonce and hmac.compare_digest(form.get("token", "").encode(), self._token(nonce).encode())
        if not fresh or not is_from_us(request):
            return self._form(request, target, _STALE, status=403)
        peer = peer_of(request, self._console)
        wait_s = self._console.throttle.wait_s(name, peer.address)
        if wait_s:
            if self._console.throttle.is_news(name, peer.address):
                self._note(name, peer, "throttled")
            words = f"Too many wrong passwords. Try again in {span(wait_s)}."
            return self._form(request, target, words, status=429, headers={"Retry-After": f"{wait_s:.0f}"})
        try:
            user = self._verified(name, password, peer)
            self._note(name, peer, "wrong password" if user is None else audit.ALLOWED)
        except UairError as error:
            log.error("console: login is not possible: %s", error.log_line)  # the page must not name files
            return self._form(request, target, _CANNOT, status=503)
        if user is None:
            return self._form(request, target, _WRONG, status=401)
        return self._begin(request, peer, user, target)

    def _verified(self, name: str, password: str, peer: Peer) -> User | None:
        self._console.throttle.failed(name, peer.address)
        if len(password) > LONGEST_PASSWORD:
            return None
        user = self._console.users.verify(name, password)
        if user is not None:
            self._console.throttle.succeeded(name, peer.address)
        return user

    def _begin(self, request: Request, peer: Peer, user: User, target: str) -> Response:
        self._console.sessions.end(request.cookies.get(cookie_name(peer), ""))
        cookie, _ = self._console.sessions.begin(user.name, user.role, user.password_hash)
        response = RedirectResponse(safe_target(target), 303)
        set_cookie(response, peer, cookie)
        response.delete_cookie(self._cookie(request), path="/", secure=peer.secure, httponly=True)
        return response

    def _note(self, name: str, peer: Peer, outcome: str) -> None:
        # An unknown name may be a password that the user typed into the wrong field.
        known = name if self._console.users.get(name) else "(unknown name)"
        if outcome != audit.ALLOWED:
            log.warning("console: login refused (%s)", outcome)
        with self._console.context.database.transaction() as session:
            audit.record(session, known, peer.address, "login", outcome=outcome)

    def _form(
        self,
        request: Request,
        target: str,
        words: str = "",
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        name, peer = self._cookie(request), peer_of(request, self._console)
        nonce = request.cookies.get(name, "") or secrets.token_urlsafe(16)
        response = self._console.page(
            "login.html",
            None,
            status=status,
            title="Log in",
            target=safe_target(target),
            token=self._token(nonce),
            words=words,
        )
        response.set_cookie(name, nonce, path="/", secure=peer.secure, httponly=True, samesite="strict")
        response.headers.update(headers or {})
        return response

    def _cookie(self, request: Request) -> str:
        return cookie_name(peer_of(request, self._console)) + "-login"

    def _token(self, nonce: str) -> str:
        return hmac.new(self._key, nonce.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _logout(console: ConsoleApp, request: ConsoleRequest) -> Response:
    console.sessions.end_session(request.session)
    with console.context.database.transaction() as session:
        audit.record(session, request.session.name, request.address, "logout")
    return RedirectResponse("/login", 303, {"Clear-Site-Data": '"cache", "storage"'})
