"""Where a job's time goes, for one line in the log."""

from __future__ import annotations

import time


class Stopwatch:
    """Laps of one job, from its construction on."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._laps: list[tuple[str, float]] = []

    def lap(self, part: str) -> None:
        """End a part that began with the last one's end."""
        now = time.monotonic()
        self._laps.append((part, now - self._last))
        self._last = now

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self._last - self._started

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.2f} s" for part, seconds in self._laps)
