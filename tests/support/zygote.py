"""Run the product's programs as forks of one process that has imported their modules.

The imports of a node or worker take three to ten seconds of processor time, and the imports of a command two.
The suite starts hundreds of programs. A fork runs the same program with its own arguments, environment,
umask, session and output, but imports nothing again. `test_demo` and the commands' tests start programs in
the ordinary way.

This module has both ends. ``python -m tests.support.zygote`` is the process that forks. `start` sends it a
request for a program, which becomes a child of the test process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any
from unittest.mock import patch

_MODULES = (
    "uair_node.cli",
    "uair_node.commands.case",
    "uair_node.commands.list_cases",
    "uair_node.commands.start",
    "uair_node.cases.schema",
    "workers.process.worker",
    "workers.process.preloaded",
)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)
_LOOK_S = 0.02


class Program:
    """A running program, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, pid: int, command: Sequence[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._command = command

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when the program has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            It runs for longer than `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
            time.sleep(_LOOK_S)
        return status

    def terminate(self) -> None:
        """Send SIGTERM, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def start(
    command: Sequence[str], output: Path, environment: Mapping[str, str], errors: Path | None = None
) -> Program:
    """Start a program in a session of its own. The program ends with the test process.

    Parameters
    ----------
    command
        This environment's ``uair``, or Python with ``-m MODULE`` or ``-c SCRIPT``, and the arguments.
    output, errors
        Files to which standard output and standard error are appended. Without `errors`, `output` gets both.
    environment
        The whole environment of the program.
    """
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "command": list(command),
        "output": str(output),
        "errors": str(errors or output),
        "environment": dict(environment),
        "umask": umask,
        "folder": str(Path.cwd()),
    }
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return Program(int(server.stdout.readline()), command)


_servers: list[subprocess.Popen[str]] = []


def _server() -> subprocess.Popen[str]:
    """Return the process that forks. The first call starts it."""
    if not _servers:
        # The intermediate process ends at once. So the kernel makes this process the program's parent.
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # Consoles of commands take their width from COLUMNS when their modules are imported.
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )
        atexit.register(process.kill)
        _servers.append(process)
    return _servers[0]


def _serve() -> None:
    """Fork a program for each request on standard input, and answer its process id."""
    for name in _MODULES:
        import_module(name)
    gc.freeze()
    answers, requests = os.dup(1), os.fdopen(os.dup(0))
    os.dup2(2, 1)
    for line in requests:
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            while os.getppid() == between:
                time.sleep(0.001)
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            os.write(writing, str(os.getpid()).encode())
            _become(json.loads(line))
        os.waitpid(between, 0)
        os.write(answers, os.read(reading, 20) + b"\n")
        os.close(reading)
        os.close(writing)


def _become(request: Mapping[str, Any]) -> None:
    """Run the program of a request in this process, and end it."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    mode = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for number, path in ((1, request["output"]), (2, request["errors"])):
        os.dup2(os.open(path, mode, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _close_all_but((0, 1, 2))
    os.umask(request["umask"])
    if "up" in request["command"]:
        _fork_server()
    _run(request["command"])


def _run(command: Sequence[str]) -> None:
    """Run the program, then end this process as the interpreter does."""
    status: Any = 0
    try:
        if command[1] == "-m":
            sys.argv[:] = command[2:]
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        elif command[1] == "-c":
            sys.argv[:] = command[1:2] + list(command[3:])
            exec(command[2], {"__name__": "__main__"})
        else:
            sys.argv[:] = command
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.exit(status)


def _fork_server() -> None:
    """Fork multiprocessing's fork server, which ``uair up`` needs for its workers, from this process.

    It must begin before the program opens its database. Otherwise, SQLite in the forks believes that it holds
    the program's locks, and a worker can overwrite a commit of the node.
    """
    spawn: Any = util.spawnv_passfds  # type: ignore[attr-defined]

    def fork(path: bytes, arguments: Sequence[Any], passed: Sequence[int]) -> int:
        script = os.fsdecode(arguments[-1])
        if "forkserver" not in script:
            return int(spawn(path, arguments, passed))
        pid = os.fork()
        if not pid:
            _close_all_but((0, 1, 2, *passed))
            exec(script, {})
            os._exit(0)
        return pid

    with patch.object(util, "spawnv_passfds", fork):
        forkserver.set_forkserver_preload(["workers.process.preloaded"])
        forkserver.ensure_running()


def _close_all_but(kept: Sequence[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


if __name__ == "__main__":
    _serve()
