"""Run `uair` as on a machine with a clock of its own, which a file sets.

Run as ``python -m tests.chaos.own_clock FILE ARGUMENT...``. The file has the present error of the clock in
seconds. Waits use the right clock, as on a machine whose clock an administrator sets.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import time_machine

from uair_node.cli import main

_LOOK_S = 0.3


class OwnClock:
    """The wall clock of this process and of the processes that it forks."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0
        self._clock = time_machine.travel(time.time(), tick=True).start()
        os.register_at_fork(after_in_child=self.follow)
        self.follow()

    def follow(self) -> None:
        """Start a thread that sets the clock whenever the file changes."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            offset = int(self._file.read_text() or self._offset)
            self._clock.shift(offset - self._offset)
            self._offset = offset
            time.sleep(_LOOK_S)


if __name__ == "__main__":
    OwnClock(Path(sys.argv[1]))
    sys.argv[:] = ["uair", *sys.argv[2:]]
    main()
