"""Embedded mode: the node and its two workers as one process tree, without a broker server."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.context import ForkServerProcess
from pathlib import Path

log = logging.getLogger(__name__)

_PRELOADED = "workers.process.preloaded"
"""The module that imports all modules of a worker. The node itself never imports it."""
_PR_SET_NAME = 15
"""The operation of Linux' prctl that sets the name of a process."""

_RESTART_DELAY_S = 2.0
_LONGEST_DELAY_S = 60.0
_SOUND_AFTER_S = 30.0
"""Seconds after which a worker counts as correctly started.

If a worker ends sooner, then the delay before its next start becomes longer.
"""


def uair_command(*arguments: str) -> list[str]:
    """Return the command line of a `uair` command of this installation."""
    return [sys.executable, "-m", "uair_node.cli", *arguments]


class Workers:
    """The worker processes of embedded mode. If a worker process ends, then a new process is started.

    Each worker is a fork of a server process that has imported the workers' modules. So the modules are
    imported once, the workers share the memory of the modules, and a new worker starts quickly.

    Parameters
    ----------
    config
        Configuration file for the workers; None for the packaged default.
    queues
        Queue names (``gpu``, ``io``). Each queue gets one worker process.
    """

    def __init__(self, config: Path | None, queues: Sequence[str]) -> None:
        self._options = ["--config", str(config)] if config else []
        self._forks = get_context("forkserver")
        self._forks.set_forkserver_preload([_PRELOADED])
        self._children: dict[str, ForkServerProcess] = {}
        self._started_at: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self._delay_s: dict[str, float] = {}
        self._queues = queues

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [child.pid for child in self._children.values() if child.pid is not None]

    def start(self) -> None:
        """Start all workers."""
        for queue in self._queues:
            self._start(queue)

    def tend(self) -> None:
        """Replace ended workers. The caller calls this method regularly."""
        for queue, child in self._children.items():
            if child.exitcode is None:
                continue
            if queue not in self._ended_at:
                self._note_end(queue, child.exitcode)
            if time.monotonic() - self._ended_at[queue] >= self._delay_s[queue]:
                self._start(queue)

    def stop(self, patience_s: float = 20.0) -> None:
        """Let the workers finish their tasks. Kill workers that need more than `patience_s` seconds."""
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + patience_s
        for queue, child in self._children.items():
            child.join(max(0.1, deadline - time.monotonic()))
            if child.exitcode is None:
                log.warning("the %s worker did not end in time; its work is repeated", queue)
                child.kill()
                child.join()

    def _note_end(self, queue: str, status: int) -> None:
        now = self._ended_at[queue] = time.monotonic()
        sound = now - self._started_at[queue] >= _SOUND_AFTER_S
        last = self._delay_s.get(queue, 0.0)
        delay = _RESTART_DELAY_S if sound else min(_LONGEST_DELAY_S, max(_RESTART_DELAY_S, 2 * last))
        self._delay_s[queue] = delay
        log.warning("the %s worker ended with %s; it is started again in %.0f s", queue, status, delay)

    def _start(self, queue: str) -> None:
        self._ended_at.pop(queue, None)
        self._started_at[queue] = time.monotonic()
        command = ("worker", "--queue", queue, *self._options)
        self._children[queue] = self._forks.Process(target=_run, args=(f"uair {queue} worker", *command))
        self._children[queue].start()


def _run(name: str, *arguments: str) -> None:
    """Run a `uair` command in this process. The process ends when its parent process ends.

    `top` and `ps -o comm` show `name`, at most 15 bytes of it.
    """
    with suppress(OSError, AttributeError):  # only Linux has prctl
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[:] = ["uair", *arguments]
    import_module("uair_node.cli").main()


def _end_with_parent() -> None:
    """Wait until the parent process has ended for any reason, then end this process."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
