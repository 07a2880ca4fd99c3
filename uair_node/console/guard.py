"""Access control. Every route except the login uses it.

A session comes from the login, or from the header of a reverse proxy. The header counts only on a connection
from the proxy. A form must come from our own page (Fetch Metadata or Origin) and carry the session's token.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicom_config.console import ANYBODY, ConsoleProxy
from dicom_config.errors import InputError, TransientError, UairError
from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest, Handler
from uair_node.console.sessions import Session
from uair_node.console.users import Role, check_name

log = logging.getLogger(__name__)

_LONGEST_FORM = 16_384
_LARGEST_ID = (1 << 31) - 1
_STATUS = {"no-such-case": 404, "no-such-page": 404, "forbidden": 403, "not-a-form": 400}
REFRESH = "refresh"
"""The query parameter of a page that refreshes itself. Such a request does not prolong the session."""


@dataclass(frozen=True)
class Peer:
    """The sender of a request: its address, and whether the request came over HTTPS and through our proxy."""

    address: str
    secure: bool
    proxied: bool


def guarded(
    console: ConsoleApp, path: str, handler: Handler, *, role: Role = Role.VIEWER, method: str = "GET"
) -> Route:
    """Return a route that requires `role`. A POST also requires the session's token."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request) if method == "POST" else {}
        return await run_in_threadpool(_answer, console, request, form, handler, role)

    return Route(path, endpoint, methods=[method])


async def read_form(request: Request) -> dict[str, str] | None:
    """Return the fields of a short URL-encoded form; None for anything else."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return None
    try:
        form = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return None
    return _storable(form)


def peer_of(request: Request, console: ConsoleApp) -> Peer:
    """Return the peer of a request. Forwarding headers count only if the proxy sent them."""
    address = request.client.host if request.client else ""
    section = console.context.settings.console
    proxy = section.proxy
    if proxy is None or not proxy.trusts(address):
        return Peer(address, section.tls is not None, False)
    if not _bears_secret(request, proxy, console.proxy_secret):
        return Peer(address, section.tls is not None, False)
    forwarded = request.headers.get("x-forwarded-for", "").rsplit(",", 1)[-1].strip()
    return Peer(forwarded[:64] or address, request.headers.get("x-forwarded-proto") == "https", True)


def _bears_secret(request: Request, proxy: ConsoleProxy, secret: bytes) -> bool:
    """Return whether a request has the proxy's secret, exactly once; True if no secret is configured."""
    given = request.headers.getlist(proxy.secret_header)
    known = len(given) == 1 and hmac.compare_digest(given[0].encode("latin-1"), secret)
    return not secret or known


def cookie_name(peer: Peer) -> str:
    """Return the session cookie's name.

    Over HTTPS, the prefix ``__Host-`` prevents that another host sets the cookie (RFC 6265bis 4.1.3.2).
    """
    return "__Host-uair-console" if peer.secure else "uair-console"


def set_cookie(response: Response, peer: Peer, cookie: str) -> None:
    """Add the session cookie to a response."""
    response.set_cookie(
        cookie_name(peer), cookie, path="/", secure=peer.secure, httponly=True, samesite="lax"
    )


def is_from_us(request: Request) -> bool:
    """Return whether our own page sent a form, according to the browser's headers."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _storable(values: dict[str, str]) -> dict[str, str]:
    """Return values without the characters that database texts cannot contain."""
    return {key: value.replace("\0", "") for key, value in values.items()}


def _check_numbers(admitted: ConsoleRequest) -> None:
    if any(isinstance(value, int) and value > _LARGEST_ID for value in admitted.path.values()):
        raise InputError("no-such-page", "There is no such page.", "Start from the list of cases.")


def _answer(
    console: ConsoleApp, request: Request, form: dict[str, str] | None, handler: Handler, role: Role
) -> Response:
    peer = peer_of(request, console)
    admitted: ConsoleRequest | None = None
    try:
        cookie, session = _session(console, request, peer)
        if session is None:
            return _to_login(request)
        query = _storable(dict(request.query_params))
        admitted = ConsoleRequest(
            session, peer.address, request.path_params, query, form or {}, request.url.path
        )
        _check_numbers(admitted)
        if not session.role.covers(role):
            _note_refusal(console, admitted, request)
            raise InputError("forbidden", "Your role is viewer.", "Ask an operator.")
        if request.method == "POST":
            _check_form(request, session, form)
        response = handler(console, admitted)
    except UairError as error:
        return _problem(console, admitted, error)
    if cookie:
        set_cookie(response, peer, cookie)
    return response


def _session(console: ConsoleApp, request: Request, peer: Peer) -> tuple[str, Session | None]:
    """Return the session of a request, and the cookie to set if the session is new."""
    touch = REFRESH not in request.query_params
    found = console.sessions.find(request.cookies.get(cookie_name(peer), ""), touch=touch)
    proxy = console.context.settings.console.proxy
    named = proxy is not None and proxy.user_header in request.headers
    if proxy is not None and named and not peer.proxied and proxy.trusts(peer.address):
        raise _without_secret()
    if proxy is not None and named and peer.proxied:
        name = _only_name(request.headers.getlist(proxy.user_header))
        role = _proxied_role(proxy, name)
        if found is not None and (found.name, found.role, found.credential) == (name, role, "proxy"):
            return "", found
        return console.sessions.begin(name, role, "proxy")
    if found is None or found.credential == "proxy":
        return "", None
    user = console.users.get(found.name)
    current = user is not None and (user.password_hash, user.role) == (found.credential, found.role)
    return "", found if current else None


def _without_secret() -> InputError:
    """Return the error for a request from the proxy's network without the right secret."""
    log.warning("console: a request from the proxy's network without the proxy's secret was refused")
    return InputError(
        "forbidden",
        "The request names a user, but lacks the secret of the reverse proxy.",
        "Configure the proxy to send the secret of console.proxy.secret_file in the header "
        "console.proxy.secret_header.",
    )


def _only_name(names: list[str]) -> str:
    """Return the only name. Two names are refused, since the browser and not the proxy added one of them."""
    if len(names) > 1:
        raise InputError(
            "forbidden",
            "The request names its user more than once.",
            "Configure the proxy to replace the header (console.proxy.user_header) instead of adding it.",
        )
    return names[0]


def _proxied_role(proxy: ConsoleProxy, name: str) -> Role:
    check_name(name)
    for names, role in ((proxy.operators, Role.OPERATOR), (proxy.viewers, Role.VIEWER)):
        if name in names or ANYBODY in names:
            return role
    raise InputError(
        "forbidden",
        "You are logged in, but may not use this console.",
        "Ask the administrator of the console for a role (console.proxy).",
    )


def _check_form(request: Request, session: Session, form: dict[str, str] | None) -> None:
    if form is None:
        raise InputError(
            "not-a-form",
            "This form is not from this console.",
            "Open the page of the form again, and send the form from there.",
        )
    given = form.pop("csrf", "")
    if not is_from_us(request) or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        log.warning("console: a form without this session's token was refused")
        raise InputError(
            "forbidden", "This form did not come from your own page.", "Open the page again and repeat."
        )


def _to_login(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Refresh": "true"})
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    where = "/login" if request.method != "GET" or back == "/" else f"/login?next={quote(back, safe='/')}"
    return RedirectResponse(where, 303)


def _note_refusal(console: ConsoleApp, admitted: ConsoleRequest, request: Request) -> None:
    with console.context.database.transaction() as session:
        subject = f"{request.method} {request.url.path}"
        audit.record(session, admitted.session.name, admitted.address, "forbidden", subject, audit.REFUSED)


def _problem(console: ConsoleApp, admitted: ConsoleRequest | None, error: UairError) -> Response:
    status = 503 if isinstance(error, TransientError) else _STATUS.get(error.code, 409)
    if error.code == "user-name":
        status = 403
    return console.page("problem.html", admitted, status=status, error=error, title="Not done")
