"""Log an outage when it begins and when it ends. Compute the growing pauses between attempts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dicom_config.errors import TransientError
from uair_node.cases.work_items import growing_pause

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


class Outages:
    """The current outages, by error code, with their start times.

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
        """Seconds until the next attempt; 0 without an outage.

        The pause is 1 s after the first failure and doubles up to 30 s. A random part of up to a quarter is
        subtracted.
        """
        if not self._failures:
            return 0.0
        return growing_pause(FIRST_PAUSE_S, LONGEST_PAUSE_S, self._failures)

    def failed(self, errors: list[TransientError]) -> None:
        """Record the errors of a failed attempt. Log the new errors and the outages that ended."""
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
