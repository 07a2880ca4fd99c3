"""A private server of the tests: found, started under the guard, stopped, started again.

This module runs the processes and handles peers that are not installed. Each server's own module has its
needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.ports import wait_until

_GUARD = Path(__file__).with_name("guard.py")
# The system's own programs first: Python packages in a virtual environment may bring others of the same name.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin"


def absent(what: str) -> NoReturn:
    """Skip the test because of `what` on a developer's machine; fail it where the variable CI is set."""
    reason = f"{what} (scripts/install-peers.sh installs the peers of the tests)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def peers_folder() -> Path:
    """Return the folder into which ``scripts/install-peers.sh`` puts what no system packages."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uair-peers"


def find_program(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the full path of program `name`: in `folders`, then in the system's, then on PATH."""
    places = [*(str(folder) for folder in folders), _SYSTEM_PATH, os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(place for place in places if place))
    return Path(found) if found else None


def need(*names: str, folders: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the full paths of programs, or end the test by `absent` when one of them is not installed."""
    found = {name: find_program(name, folders) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        absent(f"not installed: {', '.join(missing)}")
    return tuple(path for path in found.values() if path is not None)


class Server(ABC):
    """One server process with a log file, started and stopped as often as a test wants.

    Parameters
    ----------
    name
        What messages call it.
    folder
        Its own folder; ``server.log`` is written there.
    """

    stop_signal = signal.SIGTERM
    start_timeout_s = 60.0

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command line that runs the server in the foreground."""

    @abstractmethod
    def is_up(self) -> bool:
        """Return whether the server answers its protocol."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables the server runs with."""
        return os.environ

    @property
    def running(self) -> bool:
        """Whether the process is alive (it may not answer yet)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server unless it runs, and return when it answers.

        Raises
        ------
        RuntimeError
            It ended instead; the text holds the end of its log.
        """
        if self.running:
            return
        self._process = guarded(self.command(), self.log, self.stop_signal, self.environment())
        self.wait_up()

    def wait_up(self) -> None:
        """Return when the server answers; raise as `start` does when it has ended."""

        def up_or_dead() -> bool:
            return not self.running or self.is_up()

        wait_until(up_or_dead, f"{self.name} to answer; its log is {self.log}", self.start_timeout_s)
        if not self.running:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} did not start:\n{tail}")

    def stop(self) -> None:
        """Stop the server in its orderly way and return when its process is gone; nothing when it is."""
        if self._process is None:
            return
        self._process.terminate()
        self._finish()

    def kill(self) -> None:
        """End the server at once, as a crash would (SIGKILL to its process group)."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGUSR1)  # the guard passes it on as SIGKILL
        self._finish()

    def restart(self) -> None:
        """Stop in order, start again with the same ports and data."""
        self.stop()
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the server stopped inside a ``with`` block and up after it, however the block ends."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _finish(self) -> None:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30.0)
        if self._process.stdin is not None:
            self._process.stdin.close()  # the guard kills what is left
        self._process.wait(30.0)
        self._process = None


def guarded(
    command: Sequence[str], log: Path, stop_signal: signal.Signals, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start `command` under ``guard.py``, its output appended to `log`; it ends when this process does."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), stop_signal.name, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
