"""Watch this process: report to systemd that the process works, and end it if a part hangs."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import threading

from uair_node.operations.monitoring.server import Parts

log = logging.getLogger(__name__)

_LOOK_S = 20.0
"""Seconds between two checks, far below `WatchdogSec` of the units."""


class ServiceWatch:
    """A thread that watches its own process.

    If a check fails, then the process ends with code 1, and systemd or Docker starts it again. If the
    interpreter is blocked, then the reports stop, and systemd restarts the process.

    Parameters
    ----------
    live
        The checks. ``/live`` uses the same checks.
    look_s
        Seconds between two checks.
    """

    def __init__(self, live: Parts, *, look_s: float = _LOOK_S) -> None:
        self._live = live
        self._look_s = look_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service watch", daemon=True)

    def start(self) -> None:
        """Report to systemd that the service runs, and start the watch."""
        _tell_systemd("READY=1")
        self._thread.start()

    def stop(self) -> None:
        """Stop the watch before the process ends, because this end may take a long time."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._look_s):
            ill = [part for part, well in self._live().items() if not well]
            if ill:
                _end_process(" and the ".join(ill))
            _tell_systemd("WATCHDOG=1")


def _end_process(ill: str) -> None:
    """End the process at once, because an orderly end would wait for the part that hangs."""
    log.critical("not-live: the %s has stopped; this process ends, systemd or Docker starts it again", ill)
    faulthandler.dump_traceback()  # the position of each thread, without values of variables
    os._exit(1)


def _tell_systemd(state: str) -> None:
    """Send a state to systemd by the protocol of sd_notify(3). Without systemd, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address.replace("@", "\0", 1))
