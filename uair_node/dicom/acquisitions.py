"""Find several acquisitions under one series UID, by their headers and overlapping positions.

The functions use header records only. A single scan may number its slices or rotations one by one. So an
attribute that varies does not prove two acquisitions. Groups of slices that follow each other along the axis
are a single stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uair_node.dicom.headers import SliceHeader
from uair_node.dicom.stack import FloatArray, Stack, build_stack

_SAME_POSITION_MM = 0.01
_HALF = 0.5
"""The least fraction of the stack's extent that each acquisition must cover if an overlap is no proof.

Within one scan, times and numbers of single slices may be out of order.
"""


@dataclass(frozen=True)
class _Attribute:
    """An attribute that distinguishes acquisitions.

    Parameters
    ----------
    only_ct
        Whether the attribute is used for CT only. An MR stack may consist of packages that interleave.
    physics
        Whether slices with different values belong to different stacks, whatever their positions are.
    counts
        Whether one acquisition may have several values that follow each other, in time or in number.
    is_time
        Whether its values are times, which may be out of order within one scan.
    once
        Whether the attribute is ignored if two slices have the same value.
    is_number
        Whether the value is a number, which messages can show. Messages must not show texts of headers.
    """

    name: str
    value: Callable[[SliceHeader], Any]
    only_ct: bool = True
    physics: bool = False
    counts: bool = False
    is_time: bool = False
    once: bool = False
    is_number: bool = False


def _place_in_series(header: SliceHeader) -> int | None:
    """Return Instance Number of a single-frame image.

    For a frame of a multi-frame image, return None, because all frames have the same number.
    """
    return header.instance_number if header.frame is None else None


_TELLING = (
    _Attribute("Stack ID", lambda header: header.stack_id, only_ct=False),
    _Attribute("Temporal Position", lambda header: header.temporal_position, only_ct=False, is_number=True),
    _Attribute("Acquisition Number", lambda header: header.acquisition_number, counts=True, is_number=True),
    _Attribute("KVP", lambda header: header.kvp, physics=True, is_number=True),
    _Attribute("Convolution Kernel", lambda header: header.kernel, physics=True),
    _Attribute("Acquisition Time", lambda header: header.acquisition_time, counts=True, is_time=True),
    _Attribute("Content Time", lambda header: header.content_time, counts=True, is_time=True),
    _Attribute("Irradiation Event", lambda header: header.irradiation_event),
    _Attribute("Trigger Time", lambda header: header.trigger_time_ms, counts=True, is_time=True),
    _Attribute("Instance Number", _place_in_series, counts=True, is_time=True, once=True, is_number=True),
)
"""The attributes in the order in which they are tried.

The first attribute that divides the series decides. Some systems remove all these attributes except Instance
Number. If the instance numbers run through the body twice, then there are two stacks.
"""


@dataclass(frozen=True)
class _Part:
    """Slices with one value of an attribute, or with several values that follow each other.

    `places` has the indices of the slices into the stack, ascending.
    """

    values: tuple[Any, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class Division:
    """The division of a series into acquisitions by an attribute.

    Attributes
    ----------
    attribute
        The attribute's name.
    counts
        Number of slices of each acquisition, the largest first.
    parts
        Name and members (indices into the header records) of each acquisition. It is empty if a slice lacks
        the attribute, or if the acquisitions do not overlap. Then they may be halves of a single stack.
    """

    attribute: str
    counts: tuple[int, ...]
    parts: tuple[tuple[str, tuple[int, ...]], ...]


def find_acquisitions(headers: Sequence[SliceHeader], stack: Stack, *, ct: bool) -> Division | None:
    """Return the division of a series by the first attribute that divides it; None if no attribute does.

    Parameters
    ----------
    stack
        Built from `headers`.
    ct
        Whether the attributes that are only for CT are used, see `_Attribute`.
    """
    along = stack.positions_mm @ stack.axes[:, 0]
    for attribute in _TELLING:
        if attribute.only_ct and not ct:
            continue
        exact = _parts_of(attribute, headers, stack)
        if attribute.once and any(len(part.places) > 1 for part in exact):
            continue
        parts = _joined(exact, along) if attribute.counts else exact
        overlap = _overlap(parts, along)
        wide = overlap and all(_extent(part, along) >= _HALF * np.ptp(along) for part in parts)
        told = _overlap(exact, along) and not attribute.is_time
        if len(parts) < 2 or not (attribute.physics or told or wide):
            continue
        known = sum(len(part.places) for part in parts)
        separable = overlap and known == len(headers)
        names = [_name(attribute, part, n, len(parts)) for n, part in enumerate(parts, 1)]
        members = [tuple(stack.order[place] for place in part.places) for part in parts]
        return Division(
            attribute.name,
            tuple(sorted((len(part.places) for part in parts), reverse=True)),
            tuple(zip(names, members, strict=True)) if separable else (),
        )
    return None


def split_acquisitions(headers: Sequence[SliceHeader], *, ct: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Return name and members (indices into `headers`) of each acquisition of a series.

    Returns
    -------
    list
        One acquisition with an empty name if no attribute divides the series. The list is empty if the
        acquisitions cannot be separated (`Division.parts`).

    Raises
    ------
    ValueError
        A position, an orientation or a pixel spacing is missing or unusable.
    """
    division = find_acquisitions(headers, build_stack(headers), ct=ct)
    if division is None:
        return [("", tuple(range(len(headers))))]
    found = []
    for name, members in division.parts:
        within = split_acquisitions([headers[n] for n in members], ct=ct)
        if not within:
            return []
        found += [
            (f"{name}, {more}" if more else name, tuple(members[n] for n in inner)) for more, inner in within
        ]
    return found


def _parts_of(attribute: _Attribute, headers: Sequence[SliceHeader], stack: Stack) -> list[_Part]:
    """Return the slices of each value that is not empty, in ascending order of the values."""
    places: dict[Any, list[int]] = defaultdict(list)
    for place, index in enumerate(stack.order):
        places[attribute.value(headers[index])].append(place)
    known = [_Part((value,), tuple(found)) for value, found in places.items() if value not in (None, "")]
    return sorted(known, key=lambda part: part.values)


def _joined(parts: Sequence[_Part], along: FloatArray) -> list[_Part]:
    """Join values whose slices follow each other in one direction and do not overlap."""
    found: list[_Part] = []
    direction, last_mm = 0.0, 0.0
    for part in parts:
        middle_mm = float(np.mean(along[list(part.places)]))
        step = np.sign(middle_mm - last_mm)
        if found and not _touch(found[-1], part, along) and direction in (0.0, step):
            direction, before = step, found.pop()
            found.append(_Part(before.values + part.values, tuple(sorted(before.places + part.places))))
        else:
            direction = 0.0
            found.append(part)
        last_mm = middle_mm
    return found


def _touch(part: _Part, other: _Part, along: FloatArray) -> bool:
    first = max(along[part.places[0]], along[other.places[0]])
    last = min(along[part.places[-1]], along[other.places[-1]])
    return bool(first <= last + _SAME_POSITION_MM)


def _extent(part: _Part, along: FloatArray) -> float:
    return float(along[part.places[-1]] - along[part.places[0]])


def _overlap(parts: Sequence[_Part], along: FloatArray) -> bool:
    """Return whether two parts overlap along the axis by more than an end position.

    Parts of a single slice are ignored.
    """
    ranges = sorted((along[part.places[0]], along[part.places[-1]]) for part in parts if len(part.places) > 1)
    end = float("-inf")
    for first, last in ranges:
        if first < end:
            return True
        end = max(end, last)
    return False


def _name(attribute: _Attribute, part: _Part, number: int, parts: int) -> str:
    """Return a name for an acquisition. The name contains no text from a header."""
    if not attribute.is_number:
        return f"{attribute.name} {number} of {parts}"
    first, last = (f"{value:.9g}" for value in (part.values[0], part.values[-1]))
    return f"{attribute.name} {first}" + (f" to {last}" if last != first else "")


def count_values(headers: Sequence[SliceHeader], value: Callable[[SliceHeader], str]) -> list[int]:
    """Return the number of slices of each value that is not empty, the most frequent value first."""
    found: dict[str, int] = defaultdict(int)
    for header in headers:
        found[value(header)] += 1
    found.pop("", None)
    return sorted(found.values(), reverse=True)
