"""The HTTP server of ``/live``, ``/ready`` and ``/metrics``. Callers pass the functions for the answers."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

Parts = Callable[[], Mapping[str, bool]]
"""A function that returns the name of each checked part, and whether it is good."""

_IDLE_S = 10.0


class MonitoringServer:
    """An HTTP server for a monitoring system. It runs in its own threads.

    Parameters
    ----------
    host, port
        The address of the server. Port 0 means any free port.
    live, ready
        The checks of ``/live`` and ``/ready``. If all parts are good, then the status is 200, otherwise 503.
    registries
        The metrics of ``/metrics``, in this order.
    """

    def __init__(
        self, host: str, port: int, *, live: Parts, ready: Parts, registries: Sequence[CollectorRegistry]
    ) -> None:
        self._address = (host, port)
        self._parts = {"/live": live, "/ready": ready}
        self._registries = registries
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.server_address[1]) if self._server else self._address[1]

    def start(self) -> None:
        """Open the port. If that fails, log a warning: cases continue without monitoring."""
        try:
            self._server = ThreadingHTTPServer(self._address, self._handler())
        except OSError as error:
            log.warning("no monitoring at %s:%d (%s)", *self._address, error.strerror)
            return
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body of the answer to a path."""
        if path == "/metrics":
            body = b"".join(generate_latest(registry) for registry in self._registries)
            return 200, CONTENT_TYPE_LATEST, body
        if path not in self._parts:
            return 404, "application/json", b'{"paths": ["/live", "/ready", "/metrics"]}\n'
        parts = self._parts[path]()
        status = 200 if all(parts.values()) else 503
        return status, "application/json", json.dumps(dict(parts)).encode() + b"\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _IDLE_S
            server_version, sys_version = "UAIR", ""

            def do_GET(self) -> None:
                status, content_type, body = server.answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write no log, because a scrape comes every few seconds."""

        return Handler
