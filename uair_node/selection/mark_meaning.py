"""Interpret marks: confirmed lesions, new lesions, dropped lesions, and unusable marks with a reason.

A mark is a shape that a reader draws on an image, such as a measurement. Each measurement group of a report
is interpreted separately. Candidates are label volumes on the canonical grid. This module does not use cases,
rounds or files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from dicom_config.modalities.profile import Organ
from uair_node.cases.marks import Mark, MarkedLesion, Marks, Point
from uair_node.cases.reader_choice import LIVER
from uair_node.dicom.graphics import Graphic, Points, Shape
from uair_node.dicom.segment_kind import kind_of
from uair_node.dicom.segment_words import SegmentKind

Labels = npt.NDArray[np.uint8]

NEAR_ORGAN_MM = 5.0
"""The largest distance in mm between a lesion's centre and the organ.

The model may miss a lesion at the organ's surface.
"""
MOST_MM = 250.0
MOST_OF_ORGAN = 0.7
"""The largest volume of a lesion's mark, as a fraction of the organ's volume. A larger mark is refused."""
_ON_LESION = 0.3
"""A mark concerns an offered lesion if at least this fraction of the mark's samples lies on the lesion."""
_POINT_REACH_MM = 5.0
_SAMPLES = np.linspace(0.0, 1.0, 6)[1:]
_KEPT_POINTS = 64


class Places(Protocol):
    """Interface of objects that place graphics on a canonical grid: `uair_node.dicom.mark_places.Grid`."""

    def place(self, graphic: Graphic) -> Points:
        """Return the points of a graphic, ``(n, 3)`` z, y, x. Voxel i covers coordinates [i, i + 1).

        Raises
        ------
        InputError
            The graphic has no place on the grid.
        """
        ...


@dataclass(frozen=True)
class Offer:
    """The lesions that a round offers, for comparison with marks.

    Attributes
    ----------
    candidates
        ``(Z, Y, X)`` label volumes on the canonical grid.
    used
        Numbers of the lesions that the case had in any round.
    spacing_mm
        Voxel spacing of the grid (z, y, x).
    organ
        The segmented organ.
    earlier
        Earlier marks of this round. They stay valid.
    """

    candidates: Sequence[Labels]
    used: Collection[int]
    spacing_mm: tuple[float, float, float]
    organ: Organ
    earlier: Marks = field(default_factory=Marks)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A measurement group on the canonical grid.

    The points of `shapes` are in voxels: voxel i covers coordinates [i, i + 1). `spacing` is the voxel
    spacing in mm.
    """

    shapes: tuple[tuple[Shape, Points], ...]
    spacing: npt.NDArray[np.float64]
    document: str
    tracking: str

    @property
    def points(self) -> Points:
        return np.concatenate([points for _, points in self.shapes])

    @property
    def middle(self) -> Points:
        points = self.points
        middle: Points = (points.min(axis=0) + points.max(axis=0)) / 2.0
        return middle

    @property
    def size_mm(self) -> float:
        if not self.shapes:
            return 0.0  # the reader named the lesion by its number
        points = self.points * self.spacing
        first = points[:: max(1, len(points) // 200)]
        return float(np.linalg.norm(first[:, None] - first[None], axis=2).max())

    @property
    def samples(self) -> Points:
        """Sample points on and inside the shapes."""
        found = []
        for shape, points in self.shapes:
            middle = points.mean(axis=0)
            if shape is Shape.POINT:
                found.append(points)
            else:
                found += [middle + share * (points - middle) for share in _SAMPLES]
        return np.concatenate([self.middle[None], *found])

    def lies_on(self, other: _Drawn) -> bool:
        """Return whether two groups mark the same place.

        The distance of their centres is at most 5 mm, or at most half the size of the larger group.
        """
        distance = float(np.linalg.norm((self.middle - other.middle) * self.spacing))
        return distance <= max(_POINT_REACH_MM, self.size_mm / 2.0, other.size_mm / 2.0)


_Placed = tuple[int | None, _Drawn]
"""The label value of the offered lesion under a measurement group (None without a lesion), and the group."""


@dataclass(frozen=True)
class Document:
    """The object that contains the marks.

    `uid` is the object's SOP Instance UID. `replaces` contains the UIDs of the object itself and of its
    earlier versions.
    """

    uid: str
    replaces: frozenset[str]


def understand(
    graphics: Sequence[Graphic | InputError],
    grid: Places,
    offer: Offer,
    drop_words: Sequence[str],
    document: Document,
    dropped: Collection[int] = (),
) -> tuple[Marks, list[InputError]]:
    """Return the marks of a report, joined with earlier marks, and the errors of unusable graphics.

    Earlier marks stay, with two exceptions. Marks from an earlier version of this document are removed. Marks
    with the Tracking UID of a measurement group in this document are removed, too.

    Parameters
    ----------
    graphics
        The result of `uair_node.dicom.sr_graphics.read_graphics`.
    grid
        Places the graphics on the canonical grid.
    drop_words
        Words that drop a lesion if a group's labels contain them.
    document
        The object that contains the graphics.
    dropped
        Label values of offered lesions that the object drops by number, without a graphic.

    Raises
    ------
    InputError
        ``marks-contradict``: a place is marked as a lesion and also as no lesion.
    """
    refused: list[InputError] = []
    said = {graphic.tracking for graphic in graphics if isinstance(graphic, Graphic) and graphic.tracking}
    lesions, drops = (
        _still_said(earlier, offer, document, said)
        for earlier in (offer.earlier.lesions, offer.earlier.drops)
    )
    for group in _groups(graphics, grid, refused):
        drawn = _Drawn(group.shapes, np.asarray(offer.spacing_mm), document.uid, group.graphic.tracking)
        try:
            if says(group.graphic.words, drop_words):
                drops.append((_lesion_under(drawn, offer), drawn))
            else:
                _require_lesion(group.graphic, drawn, offer)
                lesions.append((_lesion_under(drawn, offer), drawn))
        except InputError as refusal:
            refused.append(refusal)
    drops += [(value, _Drawn((), np.asarray(offer.spacing_mm), document.uid, "")) for value in dropped]
    _require_agreement(lesions, drops)
    refused += [_on_nothing() for value, _ in drops if value is None]
    none = _numbered([drop for drop in drops if drop[0] is not None], offer)
    return Marks(_numbered(lesions, offer), none, tuple(refusal.code for refusal in refused)), refused


def _still_said(
    earlier: Sequence[MarkedLesion], offer: Offer, document: Document, tracked: Collection[str]
) -> list[_Placed]:
    """Return the earlier marks that stay valid after a new document arrived.

    `tracked` has the Tracking UIDs of the new document's measurement groups.
    """
    spacing = np.asarray(offer.spacing_mm)
    stay: list[_Placed] = []
    for lesion in earlier:
        if not lesion.marks:
            stay.append((lesion.value, _Drawn((), spacing, "", "")))
        for mark in lesion.marks:
            if mark.document not in document.replaces and mark.tracking not in tracked:
                shapes = ((Shape(mark.shape), np.array(mark.points)),)
                drawn = _Drawn(shapes, spacing, mark.document, mark.tracking)
                stay.append((None if lesion.new else lesion.value, drawn))
    return stay


@dataclass(frozen=True, eq=False)
class _Group:
    graphic: Graphic  # the first graphic of the group; it has the words of all
    shapes: tuple[tuple[Shape, Points], ...]


def _groups(
    graphics: Sequence[Graphic | InputError], grid: Places, refused: list[InputError]
) -> Iterable[_Group]:
    placed: dict[int, list[tuple[Graphic, Points]]] = defaultdict(list)
    for graphic in graphics:
        if isinstance(graphic, InputError):
            refused.append(graphic)
            continue
        try:
            points = grid.place(graphic)
        except InputError as refusal:
            refused.append(refusal)
            continue
        placed[graphic.group].append((graphic, points))
    for members in placed.values():
        yield _Group(members[0][0], tuple((graphic.shape, points) for graphic, points in members))


def says(text: str, words: Collection[str]) -> bool:
    """Return whether a text contains any of the words as a whole word."""
    return any(
        re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text, re.IGNORECASE) for word in words if word
    )


def _require_lesion(graphic: Graphic, drawn: _Drawn, offer: Offer) -> None:
    """Raise an InputError if a mark names another structure, lies outside the organ, or is too large."""
    if _kind(graphic, offer.organ) in (SegmentKind.OTHER, SegmentKind.ORGAN):
        raise InputError(
            "mark-other-structure",
            "A mark names another structure than a lesion.",
            "Measure lesions without such a label, or label them as lesions.",
        )
    if not _near_organ(drawn, offer):
        raise InputError(
            "mark-outside-organ",
            f"A mark lies outside the {offer.organ.name}.",
            f"Only lesions of the {offer.organ.name} can be marked. Did you measure on the right slice?",
        )
    organ_ml = np.count_nonzero(offer.candidates[0]) * float(np.prod(offer.spacing_mm)) / 1000.0
    size_ml = np.pi / 6.0 * drawn.size_mm**3 / 1000.0
    if drawn.size_mm > MOST_MM or size_ml > MOST_OF_ORGAN * organ_ml:
        raise InputError(
            "mark-too-large",
            f"A mark is as large as the {offer.organ.name}.",
            "Measure one lesion at a time.",
        )


def _kind(graphic: Graphic, organ: Organ) -> SegmentKind:
    """Return the kind of structure that a measurement group names. The rules are those for segments."""
    segment = Dataset()
    segment.SegmentLabel = graphic.words[:1000]
    segment.SegmentedPropertyTypeCodeSequence = list(graphic.findings)
    segment.AnatomicRegionSequence = list(graphic.sites)
    return kind_of(segment, organ)


def _near_organ(drawn: _Drawn, offer: Offer) -> bool:
    shape = offer.candidates[0].shape
    reach = NEAR_ORGAN_MM / drawn.spacing
    low = np.maximum(0, np.floor(drawn.middle - reach)).astype(int)
    high = np.minimum(shape, np.ceil(drawn.middle + reach)).astype(int)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return False
    centres = np.stack(
        np.meshgrid(*(np.arange(a, b) + 0.5 for a, b in zip(low, high, strict=True)), indexing="ij")
    )
    offsets = (centres - drawn.middle[:, None, None, None]) * drawn.spacing[:, None, None, None]
    within = (offsets**2).sum(axis=0) <= NEAR_ORGAN_MM**2
    return any(bool((labels[part][within] > 0).any()) for labels in offer.candidates)


def _lesion_under(drawn: _Drawn, offer: Offer) -> int | None:
    """Return the label value of the offered lesion under a mark; None if no lesion lies there."""
    best: dict[int, float] = {}
    for labels in offer.candidates:
        values = _values_at(drawn.samples, labels)
        for value in np.unique(values[values > LIVER]).tolist():
            share = float(np.mean(values == value))
            share = max(share, _ON_LESION) if values[0] == value else share
            best[value] = max(best.get(value, 0.0), share)
    found = [(share, -value) for value, share in best.items() if share >= _ON_LESION]
    return -max(found)[1] if found else None


def _values_at(points: Points, labels: Labels) -> Labels:
    """Return labels ``(n,)`` at points ``(n, 3)``; voxel i covers [i, i + 1). Outside, the label is 0."""
    index = np.floor(points).astype(int)
    inside = ((index >= 0) & (index < labels.shape)).all(axis=1)
    values = np.zeros(len(points), np.uint8)
    z, y, x = index[inside].T
    values[inside] = labels[z, y, x]
    return values


def _on_nothing() -> InputError:
    return InputError(
        "mark-on-nothing",
        "A mark says that a finding is no lesion, but the round offers no lesion at this place.",
        "Put the mark on the lesion that you want to drop.",
    )


def _require_agreement(lesions: Sequence[_Placed], drops: Sequence[_Placed]) -> None:
    for value, drawn in lesions:
        for dropped, mark in drops:
            if value == dropped and (value is not None or drawn.lies_on(mark)):
                raise contradiction(in_one_report=drawn.document == mark.document)


def contradiction(*, in_one_report: bool) -> InputError:
    """Return the error for marks that both confirm and drop a lesion, by place or by number."""
    if in_one_report:
        sentence = "One place is marked as a lesion and as no lesion."
        remedy = "Delete one of the two marks and send the report again."
    else:
        sentence = (
            "A mark contradicts an earlier report for this round. One of the two says that the place has a "
            "lesion; the other says that it has none."
        )
        remedy = (
            "Send the mark again for the next round, or pick a candidate: a pick replaces all marks of this "
            "round."
        )
    return InputError("marks-contradict", sentence, remedy)


def _numbered(lesions: Sequence[_Placed], offer: Offer) -> tuple[MarkedLesion, ...]:
    """Join the marks of each lesion, and give new lesions the next numbers."""
    known: dict[int, list[_Drawn]] = defaultdict(list)
    new: list[list[_Drawn]] = []
    for value, drawn in lesions:
        if value is not None:
            known[value].append(drawn)
            continue
        same = next((group for group in new if any(drawn.lies_on(other) for other in group)), None)
        if same is None:
            new.append([drawn])
        else:
            same.append(drawn)
    first = LIVER + 1 + max(offer.used, default=0)
    found = [_marked(value, group, new=False) for value, group in sorted(known.items())]
    return (*found, *(_marked(value, group, new=True) for value, group in enumerate(new, first)))


def _marked(value: int, group: Sequence[_Drawn], *, new: bool) -> MarkedLesion:
    marks: dict[tuple[str, tuple[Point, ...]], Mark] = {}
    for drawn in group:
        for shape, points in drawn.shapes:
            kept = tuple((float(z), float(y), float(x)) for z, y, x in _thinned(points))
            marks.setdefault((shape, kept), Mark(shape.value, kept, drawn.document, drawn.tracking))
    size_mm = round(max(drawn.size_mm for drawn in group), 1)
    return MarkedLesion(value, new, size_mm, tuple(marks.values()))


def _thinned(points: Points) -> Points:
    rounded: Points = np.round(points[:: max(1, -(-len(points) // _KEPT_POINTS))], 3)
    return rounded
