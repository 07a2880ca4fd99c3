"""The meaning of a reader's marks: lesions that exist, and offered lesions that the reader removed.

A selection's row stores this meaning as a record, and the next round is computed from the record.
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
    """A shape that the reader drew.

    Attributes
    ----------
    shape
        ``point``, ``line`` (two ends) or ``contour`` (closed).
    points
        z, y, x on the case's canonical grid. Coordinates count voxel edges: voxel i covers [i, i + 1).
    document
        SOP Instance UID of the object that contains the mark; empty if there is no object.
    tracking
        Tracking UID of the mark's measurement group; empty if the group has none.
    """

    shape: str
    points: tuple[Point, ...]
    document: str = ""
    tracking: str = ""


@dataclass(frozen=True)
class MarkedLesion:
    """A lesion that a reader marked.

    Attributes
    ----------
    value
        Label value of the lesion, 1 + n for lesion n.
    new
        Whether the lesion is new. No candidate of the round contained it.
    size_mm
        Largest extent of the lesion's marks; 0 for points.
    marks
        The shapes that the reader drew on the lesion; empty if the reader named the lesion by number.
    """

    value: int
    new: bool
    size_mm: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Marks:
    """The meaning of the marks in one answer.

    Attributes
    ----------
    lesions
        Lesions that the reader confirmed or added.
    drops
        Offered lesions that the reader removed.
    left_out
        Codes of graphics that were not used, in the order of the report.
    picked
        Whether the answer also names candidates. If it names none, then all targets without a mark stay as
        they were offered.
    """

    lesions: tuple[MarkedLesion, ...] = ()
    drops: tuple[MarkedLesion, ...] = ()
    left_out: tuple[str, ...] = ()
    picked: bool = False

    @property
    def says_something(self) -> bool:
        """Whether at least one mark was used."""
        return bool(self.lesions or self.drops)

    @property
    def dropped(self) -> tuple[int, ...]:
        """Label values of the removed lesions, ascending."""
        return tuple(lesion.value for lesion in self.drops)

    @property
    def digest(self) -> str:
        """SHA-256 of the marks' meaning.

        The digest does not depend on the documents that contain the marks, or on the unused graphics.
        """
        said = (
            [[lesion.value, lesion.new, *_shapes(lesion)] for lesion in self.lesions],
            [[lesion.value, *_shapes(lesion)] for lesion in self.drops],
            self.picked,
        )
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """The marks as a JSON object."""
        return asdict(self)


def marks_of(record: Mapping[str, Any] | None) -> Marks | None:
    """Return the marks of a record that `Marks.record` made; None without a record."""
    if not record:
        return None
    left_out = tuple(str(code) for code in record["left_out"])
    lesions, drops = (tuple(_lesion(lesion) for lesion in record[said]) for said in ("lesions", "drops"))
    return Marks(lesions, drops, left_out, bool(record["picked"]))


def _lesion(record: Mapping[str, Any]) -> MarkedLesion:
    marks = tuple(
        Mark(str(mark["shape"]), _points(mark["points"]), str(mark["document"]), str(mark["tracking"]))
        for mark in record["marks"]
    )
    return MarkedLesion(int(record["value"]), bool(record["new"]), float(record["size_mm"]), marks)


def _points(record: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    return tuple((float(z), float(y), float(x)) for z, y, x in record)


def _shapes(lesion: MarkedLesion) -> list[Any]:
    return [[mark.shape, mark.points] for mark in lesion.marks]
