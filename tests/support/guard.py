"""Run one command and end it when the process that started this guard has ended.

A server that a test started must not outlive the test, even if SIGKILL ends pytest and no fixture can clean
up. The guard has the reading end of a pipe as its standard input. The test process has the writing end, so
the kernel closes it in every case. The guard is independent of the servers. Run as a script:

    python guard.py SIGNAL COMMAND [ARGUMENT ...]

When the pipe closes, the guard sends `SIGNAL` (``SIGTERM``, ``SIGINT``, …) to the command's process group. If
the command does not end within five seconds, then SIGKILL follows. If the guard receives SIGTERM, then it
sends `SIGNAL` to the group; for SIGUSR1, it sends SIGKILL. The exit status is the command's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

PATIENCE_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run ``arguments[1:]`` until it ends, or until standard input closes."""
    stop_signal = signal.Signals[arguments[0]]
    command = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL, start_new_session=True)

    def to_group(number: signal.Signals) -> None:
        try:
            os.killpg(command.pid, number)
        except ProcessLookupError:
            return

    def watch_pipe() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock would block the interpreter's end
            pass
        to_group(stop_signal)
        try:
            command.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            to_group(signal.SIGKILL)

    signal.signal(signal.SIGTERM, lambda *_: to_group(stop_signal))
    signal.signal(signal.SIGUSR1, lambda *_: to_group(signal.SIGKILL))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, whose fixtures end the guard
    threading.Thread(target=watch_pipe, daemon=True).start()
    status = command.wait()
    to_group(signal.SIGKILL)  # ends processes that the command left in its group
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
