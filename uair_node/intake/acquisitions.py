"""Several acquisitions under one series UID: told apart by their headers, where their positions overlap.

Pure over header records. One scan may number its slices or rotations one by one, so an attribute that varies
proves nothing by itself: parts that follow each other along the axis are one stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from uair_node.intake.headers import SliceHeader
from uair_node.intake.stack import Stack

_TELLING: tuple[tuple[str, Callable[[SliceHeader], Hashable], bool], ...] = (
    ("Stack ID", lambda header: header.stack_id, False),
    ("Temporal Position", lambda header: header.temporal_position, False),
    ("Acquisition Number", lambda header: header.acquisition_number, True),
    ("KVP", lambda header: header.kvp, True),
    ("Convolution Kernel", lambda header: header.kernel, True),
    ("Acquisition Time", lambda header: header.acquisition_time, True),
    ("Content Time", lambda header: header.content_time, True),
)
"""Name, value, and whether it tells CT acquisitions only: packages of one MR stack interleave."""

_PHYSICS = frozenset({"KVP", "Convolution Kernel"})
"""Slices that differ in these are never one stack, wherever they lie."""


def find_acquisitions(headers: Sequence[SliceHeader], stack: Stack, *, ct: bool) -> tuple[str, list[int]]:
    """Return the attribute that tells acquisitions of a series apart, and how many slices each value has.

    Parameters
    ----------
    stack
        Built from `headers`.
    ct
        Whether the attributes tell CT acquisitions apart, see `_TELLING`.

    Returns
    -------
    tuple of str and list of int
        An empty name and no numbers if the slices are one acquisition.
    """
    for name, value, only_ct in _TELLING:
        parts: dict[Hashable, list[int]] = defaultdict(list)
        for place, index in enumerate(stack.order):
            parts[value(headers[index])].append(place)
        if len(parts) < 2 or (only_ct and not ct):
            continue
        known = [places for key, places in parts.items() if key not in (None, "")]
        if len(known) > 1 and (name in _PHYSICS or _overlap(known, stack)):
            return name, sorted(map(len, known), reverse=True)
    return "", []


def _overlap(parts: Sequence[Sequence[int]], stack: Stack) -> bool:
    """Tell whether two parts, each of two slices at least, share more than an end along the axis."""
    along = stack.positions_mm @ stack.axes[:, 0]
    ranges = sorted((along[places[0]], along[places[-1]]) for places in parts if len(places) > 1)
    end = float("-inf")
    for first, last in ranges:
        if first < end:
            return True
        end = max(end, last)
    return False


def count_values(headers: Sequence[SliceHeader], value: Callable[[SliceHeader], str]) -> list[int]:
    """Return how many slices each value has that is not empty, the most frequent first."""
    found: dict[str, int] = defaultdict(int)
    for header in headers:
        found[value(header)] += 1
    found.pop("", None)
    return sorted(found.values(), reverse=True)
