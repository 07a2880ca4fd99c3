"""Log an outage once when it begins and once when it ends, with growing pauses between attempts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dicom_config.errors import TransientError
from uair_node.cases.work_items import growing_pause

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


class Outages:
    """Remembers which services are away, and since when.

    Parameters
    ----------
    clock
        A function that returns seconds. Only tests replace `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._failures = 0

    @property
    def pause_s(self) -> float:
        """Seconds until the next attempt: 1 s, doubling to 30 s, shortened at random by up to a quarter."""
        if not self._failures:
            return 0.0
        return growing_pause(FIRST_PAUSE_S, LONGEST_PAUSE_S, self._failures)

    def failed(self, errors: list[TransientError]) -> None:
        """Record the errors of a failed attempt. Only new errors are logged."""
        self._failures += 1
        now = self._clock()
        for error in errors:
            if error.code not in self._since:
                log.warning("%s", error.log_line)
        since = {error.code: self._since.get(error.code, now) for error in errors}
        self._tell_over(now, set(self._since) - set(since))
        self._since = since

    def succeeded(self) -> None:
        """Record a successful attempt. Log that the services are back."""
        self._tell_over(self._clock(), set(self._since))
        self._since, self._failures = {}, 0

    def _tell_over(self, now: float, codes: set[str]) -> None:
        for code in sorted(codes):
            log.warning("%s is over after %.0f s", code, now - self._since[code])
