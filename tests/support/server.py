"""The base of the tests' private servers: find the program, start it under the guard, stop it, restart it.

This module runs the processes and handles peers that are not installed. Each server has a module of its own
with its options.
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
# The system's own programs come first, since Python packages may bring programs of the same name.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin"


def absent(what: str) -> NoReturn:
    """Skip the test because `what` is absent; if the variable CI is set, then fail it."""
    reason = f"{what} (scripts/install-peers.sh installs the peers of the tests)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def peers_folder() -> Path:
    """Return the folder of peers without a system package. ``scripts/install-peers.sh`` installs them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uair-peers"


def find_program(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the full path of program `name`, from `folders`, the system's folders or PATH, in this order."""
    places = [*(str(folder) for folder in folders), _SYSTEM_PATH, os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(place for place in places if place))
    return Path(found) if found else None


def need(*names: str, folders: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the full paths of programs, or end the test by `absent` if a program is not installed."""
    found = {name: find_program(name, folders) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        absent(f"not installed: {', '.join(missing)}")
    return tuple(path for path in found.values() if path is not None)


class Server(ABC):
    """One server process with a log file. A test can start and stop it several times.

    Parameters
    ----------
    name
        The server's name in messages.
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
        """Return the server's environment variables."""
        return os.environ

    @property
    def running(self) -> bool:
        """Whether the process is alive (it may not answer yet)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server if it does not run yet, and return when it answers.

        Raises
        ------
        RuntimeError
            The server ended instead. The text has the end of its log.
        """
        if self.running:
            return
        self._process = guarded(self.command(), self.log, self.stop_signal, self.environment())
        self.wait_up()

    def wait_up(self) -> None:
        """Return when the server answers. Raise the error of `start` if the server has ended."""

        def up_or_dead() -> bool:
            return not self.running or self.is_up()

        wait_until(up_or_dead, f"{self.name} to answer; its log is {self.log}", self.start_timeout_s)
        if not self.running:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} did not start:\n{tail}")

    def stop(self) -> None:
        """Stop the server in its orderly way, and return when its process has ended. It need not run."""
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
        """Stop the server in its orderly way, and start it again with the same ports and data."""
        self.stop()
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the server stopped inside a ``with`` block. Start it afterwards, even after an error."""
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
            self._process.stdin.close()  # the guard then ends the process group
        self._process.wait(30.0)
        self._process = None


def guarded(
    command: Sequence[str], log: Path, stop_signal: signal.Signals, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start `command` under ``guard.py`` with its output appended to `log`. It ends with this process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), stop_signal.name, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
