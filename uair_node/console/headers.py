"""Add security headers to every answer: own content only, no frames, no type guessing, no caching.

Also hide the text of unexpected exceptions in answers and logs, since this text may quote a DICOM header.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uair_node.work.performer import error_line

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex",
}
_ONE_YEAR = "max-age=31536000"


class SecurityHeaders:
    """ASGI middleware around the whole application and its error pages.

    Parameters
    ----------
    strict_transport
        Whether browsers must use HTTPS only (RFC 6797). It is set if the console itself serves HTTPS.
    """

    def __init__(self, app: ASGIApp, *, strict_transport: bool) -> None:
        self._app = app
        self._strict_transport = strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and add the headers to its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if self._strict_transport:
                    headers["Strict-Transport-Security"] = _ONE_YEAR
            await send(message)

        await self._app(scope, receive, send_with_headers)


class NothingEscapes:
    """ASGI middleware that catches every exception. Otherwise the server would log the exception's text.

    Parameters
    ----------
    problem
        A function that returns the answer to a failed request.
    """

    def __init__(self, app: ASGIApp, *, problem: Callable[[], Awaitable[Response]]) -> None:
        self._app = app
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. If the application raises an exception, then answer with `problem`."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            log.error("console: %s", error_line(error))
            if not started:
                await (await self._problem())(scope, receive, send)
