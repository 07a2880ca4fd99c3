"""Free TCP ports on the loopback interface, and waiting until a port answers, for servers of any kind."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable

# These ports are below the range of Linux for outgoing connections (32768 upwards). So a server that is
# stopped and started again finds its port still free.
_FIRST, _LAST = 20000, 32000
# Each process of a run has a range of its own, so that two processes never choose the same port.
_RANGES = 8
_drawn: set[int] = set()


def free_port() -> int:
    """Return a port that no process listens on now and that this process has not returned before."""
    chooser = random.SystemRandom()
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RANGES
    width = (_LAST - _FIRST) // _RANGES
    for _ in range(10_000):
        port = _FIRST + number * width + chooser.randrange(width)
        if port in _drawn:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _drawn.add(port)
            return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return False
    return True


# Shortest and longest pause between two polls, and the pause as a multiple of a poll's duration.
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
_PAUSES_A_POLL = 9


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll `condition` until it is true. An expensive condition is polled less often.

    Raises
    ------
    TimeoutError
        It was not true within `timeout_s`. The text contains `what`.
    """
    deadline = time.monotonic() + timeout_s
    started = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(min(_LONGEST_PAUSE_S, max(_PAUSE_S, _PAUSES_A_POLL * (now - started))))
        started = time.monotonic()
