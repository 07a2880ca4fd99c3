"""A TCP proxy with the faults of networks: it cuts, delays and truncates connections, or goes silent."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a TCP reset, like a firewall's."""


class Mode(StrEnum):
    """The proxy's treatment of connections and bytes."""

    PASS = "pass"
    CUT = "cut"  # all connections are reset, also new connections
    SLOW = "slow"  # every chunk waits
    TRUNCATE = "truncate"  # a connection is reset after some kilobytes
    SILENT = "silent"  # connections stay open, but no bytes arrive


class Proxy:
    """Passes connections of a loopback port on to another one.

    Parameters
    ----------
    upstream
        A function that returns the port behind the proxy, for each new connection.
    """

    def __init__(self, upstream: Callable[[], int]) -> None:
        self._upstream = upstream
        self._mode = Mode.PASS
        self._allowance = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: Mode, allowance: int = 0) -> None:
        """Change the behaviour; `allowance` is the number of bytes before a truncated connection ends."""
        self._mode, self._allowance = mode, allowance
        if mode == Mode.CUT:
            self.reset()

    def reset(self) -> None:
        """Reset every connection that is open."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            self._drop(connection)

    def close(self) -> None:
        """Stop listening and reset the open connections."""
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._keep(client)
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self._mode == Mode.CUT:
            self._drop(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream()), timeout=5.0)
        except OSError:
            self._drop(client)
            return
        server.settimeout(None)
        self._keep(server)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        try:
            while data := source.recv(_CHUNK):
                self._hold_up()
                passed += len(data)
                if self._mode == Mode.TRUNCATE and passed > self._allowance:
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
            else:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        self._drop(source)
        self._drop(sink)

    def _hold_up(self) -> None:
        if self._mode == Mode.SLOW:
            time.sleep(0.05)
        while self._mode == Mode.SILENT:
            time.sleep(0.02)

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # wakes the other thread up
        with suppress(OSError):
            connection.close()
