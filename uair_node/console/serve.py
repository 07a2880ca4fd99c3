"""The console's server, which runs until a signal stops it."""

from __future__ import annotations

import time

import uvicorn

from dicom_config.errors import ConfigError
from dicom_config.tls import TlsServerSection
from uair_node.console.app import make_app
from uair_node.console.check_schedule import CheckSchedule
from uair_node.console.console_app import ConsoleApp, make_console
from uair_node.context import Context
from uair_node.network.tls import server_context

_MOST_REQUESTS = 64
_LONGEST_PAUSE_S = 300.0


class Pulse:
    """Records that the server's event loop runs."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()

    async def beat(self) -> None:
        """Record that the loop runs. uvicorn calls it every half minute."""
        self._beat_at = time.monotonic()

    def alive(self) -> dict[str, bool]:
        """Return whether the last record is less than five minutes old."""
        return {"console": time.monotonic() - self._beat_at < _LONGEST_PAUSE_S}


def make_server(context: Context, pulse: Pulse) -> uvicorn.Server:
    """Return the server. Its method ``run`` serves until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError
        ``console-no-users``: there is no user who could log in. ``tls-files``, see
        `uair_node.network.tls.server_context`. ``proxy-secret``, see `ConsoleProxy.read_secret`.
    """
    console = make_console(context)
    _require_users(console)
    CheckSchedule(context.settings, console.kept).start()
    return uvicorn.Server(_server_options(console, pulse))


def _require_users(console: ConsoleApp) -> None:
    if not console.users.all() and console.context.settings.console.proxy is None:
        raise ConfigError(
            "console-no-users",
            "The console has no users, and there is no default password.",
            "Add the first user with `uair console user add NAME --role operator`, or configure "
            "console.proxy.",
        )


def _server_options(console: ConsoleApp, pulse: Pulse) -> uvicorn.Config:
    section = console.context.settings.console
    tls = section.tls
    context = None
    if tls is not None:
        files = TlsServerSection(certificate=tls.certificate, key=tls.key, require_client_certificate=False)
        context = server_context(files)
    return uvicorn.Config(
        make_app(console),
        host=section.host,
        port=section.port,
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
        # Addresses with accession numbers belong in the audit, not in a log.
        access_log=False,
        log_config=None,
        # `guard` decides by console.proxy whether a forwarding header counts.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_REQUESTS,
        timeout_graceful_shutdown=5,
        callback_notify=pulse.beat,
    )
