"""The meaning of a reader's marks: which lesions exist, and which offered lesions do not.

A selection keeps this record, and the next round is computed from it.
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
        ``point``, ``line`` of two ends, or closed ``contour``.
    points
        z, y, x on the case's canonical grid; coordinates count voxel edges, voxel i covers [i, i + 1).
    document
        SOP Instance UID of the object that contains it; empty if there is none.
    tracking
        Tracking UID of its measurement group; empty if it has none.
    """

    shape: str
    points: tuple[Point, ...]
    document: str = ""
    tracking: str = ""


@dataclass(frozen=True)
class MarkedLesion:
    """A lesion that marks lie on.

    Attributes
    ----------
    value
        Its label value, 1 + n for lesion n.
    new
        Whether no candidate of the round contained the lesion.
    size_mm
        Largest extent of its marks; 0 for points.
    marks
        The shapes that were drawn on it.
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
        Whether the answer also names candidates. If not, then everything without a mark stays as it was
        offered.
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

        Who drew them and which graphics were left out does not change it.
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
    """Return the marks of a record that `Marks.record` made; None for None."""
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
