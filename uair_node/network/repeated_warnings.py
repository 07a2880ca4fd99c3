"""Limit the log lines that a peer can cause: each sentence at most once a minute, with a count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_EVERY_S = 60.0


class RepeatedWarnings:
    """Logs a sentence at once, and the number of its repetitions once a minute.

    Parameters
    ----------
    log
        The logger.
    clock
        A function that returns seconds. Only tests replace `time.monotonic`.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._told: dict[str, tuple[float, int]] = {}  # sentence -> time of its log line, later repetitions
        self._lock = threading.Lock()

    def tell(self, sentence: str) -> None:
        """Log a sentence, or count it if it was logged within the last minute."""
        with self._lock:
            at, more = self._told.get(sentence, (self._clock(), -1))
            self._told[sentence] = at, more + 1
        if more < 0:
            self._log.warning("%s", sentence)

    def tell_repetitions(self) -> None:
        """Log the number of repetitions older than a minute. The caller calls this regularly."""
        now = self._clock()
        with self._lock:
            due = {each: more for each, (at, more) in self._told.items() if now - at >= _EVERY_S}
            for sentence, more in due.items():
                del self._told[sentence]
                if more:
                    self._told[sentence] = now, 0
        for sentence, more in due.items():
            if more:
                self._log.warning("%s (repeated %d times since the last such line)", sentence, more)
