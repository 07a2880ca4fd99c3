"""The watch over a process: systemd hears of it, and a process that stands still ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from uair_node.operations.monitoring.service_watch import ServiceWatch


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        name = str(Path(folder) / "notify") if request.param == "file" else f"@uair-test-{os.getpid()}"
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_systemd_hears_of_the_start_and_of_each_look(systemd: socket.socket) -> None:
    watch = ServiceWatch(lambda: {"sweeper": True}, look_s=0.01)
    watch.start()
    heard = [systemd.recv(100) for _ in range(3)]
    watch.stop()
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


_STANDS_STILL = """
import time
from uair_node.operations.monitoring.service_watch import ServiceWatch
ServiceWatch(lambda: {"database": True, "sweeper": False}, look_s=0.01).start()
def hangs_here():
    time.sleep(60)
hangs_here()
"""


def test_a_process_that_stands_still_ends_and_says_where() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _STANDS_STILL], capture_output=True, text=True, timeout=55, check=False
    )
    assert ended.returncode == 1
    assert "not-live: the sweeper has stopped" in ended.stderr
    assert "hangs_here" in ended.stderr
