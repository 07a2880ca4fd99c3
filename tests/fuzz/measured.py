"""The cost of an input: computing time of the process and its children, and peak of resident memory."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_Outcome = TypeVar("_Outcome")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass
class Costs:
    """The highest costs of an input so far.

    Attributes
    ----------
    peak_bytes
        Increase since the start, of this process and its largest child together.
    slowest_s
        Seconds of computing, without waits for a processor.
    """

    peak_bytes: int = 0
    peak_of: str = ""
    slowest_s: float = 0.0
    slowest_of: str = ""


class Meter:
    """Measures the inputs of a separate process, from its creation on.

    The system keeps the high-water mark of resident memory, so even a short peak is measured.
    """

    def __init__(self) -> None:
        with suppress(OSError):  # without it, the peak at the start counts as an input's
            _CLEAR.write_text("5")
        self._start = _peak_bytes()
        self._children = _children_bytes()
        self.costs = Costs()

    def measure(self, name: str, act: Callable[[], _Outcome]) -> _Outcome:
        """Run an act, measure it and return its result."""
        began = _computed_s()
        try:
            return act()
        finally:
            seconds = _computed_s() - began
            peak = _peak_bytes() - self._start + max(0, _children_bytes() - self._children)
            if peak > self.costs.peak_bytes:
                self.costs.peak_bytes, self.costs.peak_of = peak, name
            if seconds > self.costs.slowest_s:
                self.costs.slowest_s, self.costs.slowest_of = seconds, name


def _computed_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_bytes() -> int:
    found = _PEAK.search(_STATUS.read_text())
    assert found is not None, "the system tells the peak of resident memory"
    return int(found[1]) << 10


def _children_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
