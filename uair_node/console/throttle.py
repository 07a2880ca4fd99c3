"""Limit the number of wrong passwords: per name and address, per address, and per name."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

_WINDOW_S = 15 * 60.0
_MOST_KEYS = 10_000
# The limit for a name alone is high. Otherwise an attacker could lock an operator out.
_LIMITS = {"name and address": 5, "address": 30, "name": 100}


class Throttle:
    """Counts the wrong passwords of the last quarter of an hour.

    Parameters
    ----------
    clock
        A function that returns seconds. Only tests replace `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, ...], deque[float]] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def wait_s(self, name: str, address: str) -> float:
        """Return the seconds for which this name must not try from this address; 0 if it may try now."""
        now = self._clock()
        with self._lock:
            return max(self._wait(key, limit, now) for key, limit in _keys(name, address))

    def is_news(self, name: str, address: str) -> bool:
        """Return True once in a quarter of an hour if this name is blocked from this address.

        So repeated attempts write no further audit rows.
        """
        now, key = self._clock(), (name, address)
        with self._lock:
            self._told = {told: at for told, at in self._told.items() if now - at < _WINDOW_S}
            news = key not in self._told and len(self._told) < _MOST_KEYS
            if news:
                self._told[key] = now
            return news

    def failed(self, name: str, address: str) -> None:
        """Count an attempt before its password is verified, so that simultaneous attempts count, too."""
        now = self._clock()
        with self._lock:
            if len(self._failures) > _MOST_KEYS:
                self._forget_old(now)
            for key, limit in _keys(name, address):
                self._failures.setdefault(key, deque(maxlen=limit)).append(now)

    def succeeded(self, name: str, address: str) -> None:
        """Clear the count of this name from this address. The other counts lose only this attempt."""
        with self._lock:
            for key, _ in _keys(name, address):
                times = self._failures.get(key)
                if times:
                    times.pop()
            self._failures.pop(("name and address", name, address), None)

    def _wait(self, key: tuple[str, ...], limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None or len(times) < limit:
            return 0.0
        return max(0.0, times[0] + _WINDOW_S - now)

    def _forget_old(self, now: float) -> None:
        self._failures = {
            key: times for key, times in self._failures.items() if times and now - times[-1] < _WINDOW_S
        }


def _keys(name: str, address: str) -> Iterator[tuple[tuple[str, ...], int]]:
    parts = {"name and address": (name, address), "address": (address,), "name": (name,)}
    for kind, limit in _LIMITS.items():
        yield (kind, *parts[kind]), limit
