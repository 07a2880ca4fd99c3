"""Where a job's time goes, for one line in the log: passed, and spent by this process' processors."""

from __future__ import annotations

import time


class Stopwatch:
    """Laps of one job, from its construction on."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._spent = time.process_time()
        self._laps: list[tuple[str, float, float]] = []

    def lap(self, part: str) -> None:
        """End a part that began with the last one's end."""
        now, spent = time.monotonic(), time.process_time()
        self._laps.append((part, now - self._last, spent - self._spent))
        self._last, self._spent = now, spent

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self._last - self._started

    def __str__(self) -> str:
        return ", ".join(f"{part} {passed:.2f} s ({spent:.2f} s busy)" for part, passed, spent in self._laps)
