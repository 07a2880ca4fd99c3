"""Waiting for what is outside: a log line when it goes away, one when it is back, growing pauses between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dicom_config.errors import TransientError
from uair_node.cases.work_items import growing_pause

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


class Outages:
    """Remembers what is away, and since when.

    Parameters
    ----------
    clock
        Seconds; `time.monotonic`, but for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._failures = 0

    @property
    def pause_s(self) -> float:
        """Seconds until the next attempt: doubles from 1 s to 30 s, up to a quarter less by chance."""
        if not self._failures:
            return 0.0
        return growing_pause(FIRST_PAUSE_S, LONGEST_PAUSE_S, self._failures)

    def failed(self, errors: list[TransientError]) -> None:
        """Note what an attempt failed for: an error that is new is logged, one that goes on is not."""
        self._failures += 1
        now = self._clock()
        for error in errors:
            if error.code not in self._since:
                log.warning("%s", error.log_line)
        since = {error.code: self._since.get(error.code, now) for error in errors}
        self._tell_over(now, set(self._since) - set(since))
        self._since = since

    def succeeded(self) -> None:
        """Note that an attempt succeeded; what was away is logged as being back."""
        self._tell_over(self._clock(), set(self._since))
        self._since, self._failures = {}, 0

    def _tell_over(self, now: float, codes: set[str]) -> None:
        for code in sorted(codes):
            log.warning("%s is over after %.0f s", code, now - self._since[code])
