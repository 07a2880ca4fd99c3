"""Measure elapsed time and processor time of the parts of a job, for a line in the log."""

from __future__ import annotations

import time


class Stopwatch:
    """The times of the parts of a job. The first part begins when this object is made."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._spent = time.process_time()
        self._laps: list[tuple[str, float, float]] = []

    def lap(self, part: str) -> None:
        """End a part with this name. The part began when the previous part ended."""
        now, spent = time.monotonic(), time.process_time()
        self._laps.append((part, now - self._last, spent - self._spent))
        self._last, self._spent = now, spent

    @property
    def seconds(self) -> float:
        """Elapsed seconds of all parts together."""
        return self._last - self._started

    def __str__(self) -> str:
        return ", ".join(f"{part} {passed:.2f} s ({spent:.2f} s busy)" for part, passed, spent in self._laps)
