"""What a reader's marks were understood as: lesions that are there, lesions that are not.

The record that a selection keeps, and that the next round is computed from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Mark:
    """One drawn shape.

    Attributes
    ----------
    shape
        ``point``, ``line`` of two ends, or closed ``contour``.
    points
        z, y, x on the case's canonical grid; coordinates count voxel edges, voxel i covers [i, i + 1).
    """

    shape: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class MarkedLesion:
    """A lesion that marks lie on.

    Attributes
    ----------
    value
        Its label value, 1 + n for lesion n.
    new
        Whether no candidate of the round had it.
    size_mm
        Largest extent of its marks; 0 for points.
    marks
        What was drawn.
    """

    value: int
    new: bool
    size_mm: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Marks:
    """What the marks of one answer say.

    Attributes
    ----------
    lesions
        Lesions that are there.
    dropped
        Label values of lesions that are none, ascending.
    left_out
        Codes of graphics that were not used, in the order of the report.
    picked
        Whether the answer also names candidates; else what is not marked stays as it was offered.
    """

    lesions: tuple[MarkedLesion, ...] = ()
    dropped: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    picked: bool = False

    @property
    def says_something(self) -> bool:
        """Whether any mark was used."""
        return bool(self.lesions or self.dropped)

    @property
    def digest(self) -> str:
        """SHA-256 of what is said."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """The marks as JSON knows them."""
        return asdict(self)


def marks_of(record: Mapping[str, Any] | None) -> Marks | None:
    """Return the marks of a record that `Marks.record` made; None without one."""
    if not record:
        return None
    lesions = tuple(
        MarkedLesion(
            value=int(lesion["value"]),
            new=bool(lesion["new"]),
            size_mm=float(lesion["size_mm"]),
            marks=tuple(Mark(str(mark["shape"]), _points(mark["points"])) for mark in lesion["marks"]),
        )
        for lesion in record["lesions"]
    )
    dropped = tuple(int(value) for value in record["dropped"])
    left_out = tuple(str(code) for code in record["left_out"])
    return Marks(lesions, dropped, left_out, bool(record["picked"]))


def _points(record: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    return tuple((float(z), float(y), float(x)) for z, y, x in record)
