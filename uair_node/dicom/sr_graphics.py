"""What a structured report draws: its graphics, with the words and codes that the reader gave them.

Owns the content items SCOORD and SCOORD3D (PS3.3 C.18.6, C.18.9) and the measurement groups that hold them
(PS3.16 TID 1410, 1411, 1501). It must not know cases, grids or what a graphic is used for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_config.errors import InputError

MOST_GRAPHICS = 256
"""A report of more graphics is no reader's: measurements of one study are some dozens."""
MOST_POINTS = 5_000
"""A freehand contour has some hundreds of points."""
_CLOSED_SHARE = 0.02
"""A contour's ends may lie this part of its length apart; writers round coordinates."""
_GROUP = "125007"  # DCM, Measurement Group
_FINDING, _FINDING_SITE = "121071", "363698007"  # DCM Finding, SCT Finding Site
_OLD_FINDING_SITE = "G-C0E3"  # SRT
_TRACKING_UID = "112040"  # DCM, Tracking Unique Identifier
_NO_MARKS = ("TextPosition", "ControlPoints")  # 99CS3D: where a label stands, and a spline's own points
_LENGTHS = ("mm", "cm", "m", "um")  # UCUM
_ELLIPSE_POINTS = 48

Points = npt.NDArray[np.float64]


class Shape(StrEnum):
    """What a graphic is, whatever its type is called."""

    POINT = "point"
    LINE = "line"
    CONTOUR = "contour"


@dataclass(frozen=True, eq=False)
class Graphic:
    """One graphic of a report.

    Attributes
    ----------
    shape
        A point, a line of two ends, or a closed contour.
    points
        ``(n, 2)`` column and row on the image, in pixels from the outer corner of the first pixel; or
        ``(n, 3)`` x, y, z in mm in the frame of reference. A contour's last point is not its first again.
    image_uid, frame
        SOP Instance UID of the image of two-dimensional points, and its frame number, None without one.
    frame_of_reference_uid
        The Frame of Reference UID of three-dimensional points; else empty.
    group
        Graphics of one number belong to one measurement group.
    tracking
        Tracking UID of the group; empty without one.
    words
        What the group says in words: labels, codes' meanings.
    findings, sites
        Items of coded findings and of their sites (PS3.3 8.8).
    """

    shape: Shape
    points: Points
    image_uid: str
    frame: int | None
    frame_of_reference_uid: str
    group: int
    tracking: str
    words: str
    findings: tuple[Dataset, ...]
    sites: tuple[Dataset, ...]


@dataclass
class _Group:
    number: int
    words: list[str] = field(default_factory=list)
    findings: list[Dataset] = field(default_factory=list)
    sites: list[Dataset] = field(default_factory=list)
    tracking: str = ""


def read_graphics(dataset: Dataset) -> list[Graphic | InputError]:
    """Return the graphics of a report in document order; a graphic that cannot be used is its refusal.

    Refusals: ``mark-empty``, ``mark-too-large``, ``mark-not-finite``, ``mark-open-contour``,
    ``mark-unreadable``.

    Raises
    ------
    InputError
        ``marks-too-many``.
    """
    items = list(_graphic_items(dataset))
    if len(items) > MOST_GRAPHICS:
        raise InputError(
            "marks-too-many",
            f"The report holds {len(items)} graphics; {MOST_GRAPHICS} are the most.",
            "Send a report of the measurements of one study.",
        )
    return [_graphic(item, group, unit) for item, group, unit in items]


def has_graphics(dataset: Dataset) -> bool:
    """Tell whether a report draws anything."""
    return next(_graphic_items(dataset), None) is not None


def _graphic_items(dataset: Dataset) -> Iterator[tuple[Dataset, _Group, str]]:
    """Walk the content tree in document order, with a stack of its own: a peer chooses the depth.

    Each graphic comes with its group, and with the unit of the number that was inferred from it.
    """
    count = 0
    pending: list[tuple[Dataset, _Group | None, str]] = [
        (item, None, "") for item in reversed(_children(dataset))
    ]
    while pending:
        item, group, unit = pending.pop()
        unit = _unit(item) or unit
        children = _children(item)
        if _value_type(item) in ("SCOORD", "SCOORD3D") and _concept(item) not in _NO_MARKS:
            if group is None:
                count += 1
                group = _group_of(count, [item, *children])
            yield item, group, unit
        elif _concept(item) == _GROUP:
            count += 1
            group = _group_of(count, children)
        elif group is None and _value_type(item) == "NUM" and children:
            count += 1
            group = _group_of(count, [item, *children])
        pending.extend((child, group, unit) for child in reversed(children))


def _group_of(number: int, items: Sequence[Dataset]) -> _Group:
    group = _Group(number)
    for item in items:
        kind = _value_type(item)
        if kind == "TEXT":
            group.words.append(str(item.get("TextValue") or ""))
        elif kind == "UIDREF" and _concept(item) == _TRACKING_UID:
            group.tracking = str(item.get("UID") or "").strip(" \0")
        elif kind == "CODE":
            codes = list(item.get("ConceptCodeSequence") or ())
            if _concept(item) in (_FINDING_SITE, _OLD_FINDING_SITE):
                group.sites += codes
                continue
            group.words += [str(code.get("CodeMeaning") or "") for code in codes]
            if _concept(item) == _FINDING:
                group.findings += codes
    return group


def _graphic(item: Dataset, group: _Group, unit: str) -> Graphic | InputError:
    try:
        return _read(item, group, unit)
    except InputError as refusal:
        return refusal
    except Exception as error:
        # pydicom decodes on access: a peer's bytes fail with nearly any exception, whose text may quote them.
        return _refused("mark-unreadable", f"cannot be read ({type(error).__name__})", "Draw it again.")


def _read(item: Dataset, group: _Group, unit: str) -> Graphic:
    spatial = _value_type(item) == "SCOORD3D"
    points = _points(item, 3 if spatial else 2)
    shape, points = _shaped(str(item.get("GraphicType") or "").strip(), points, spatial=spatial)
    if shape is Shape.LINE and unit and unit not in _LENGTHS:
        shape, points = Shape.POINT, points[:1]  # an arrow: it measures nothing, and its tip comes first
    reference = None if spatial else _image(item)
    number: Any = None if reference is None else reference.get("ReferencedFrameNumber")
    several = isinstance(number, Sequence) and not isinstance(number, str)
    number = (number[0] if number else None) if several else number
    return Graphic(
        shape=shape,
        points=points,
        image_uid="" if reference is None else str(reference.ReferencedSOPInstanceUID).strip(" \0"),
        frame=None if number in (None, "") else int(number),
        frame_of_reference_uid=str(item.get("ReferencedFrameOfReferenceUID") or "").strip(" \0"),
        group=group.number,
        tracking=group.tracking,
        words=" ".join(word for word in group.words if word),
        findings=tuple(group.findings),
        sites=tuple(group.sites),
    )


def _points(item: Dataset, axes: int) -> Points:
    data = item.get("GraphicData")
    values = np.atleast_1d(np.asarray([] if data is None else data, np.float64))
    if not values.size:
        raise _refused("mark-empty", "has no points", "Draw it again.")
    if values.size > axes * MOST_POINTS:
        raise _refused("mark-too-large", f"has more than {MOST_POINTS} points", "Draw it with fewer points.")
    if values.size % axes:
        raise _refused("mark-unreadable", "has half a point", "Draw it again.")
    if not np.isfinite(values).all():
        raise _refused("mark-not-finite", "has a coordinate that is no number", "Draw it again.")
    return values.reshape(-1, axes)


def _shaped(kind: str, points: Points, *, spatial: bool) -> tuple[Shape, Points]:
    """Return what a graphic type (PS3.3 C.18.6.1.2, C.18.9.1.2) of so many points is."""
    count = len(points)
    if kind == "POINT" or (kind == "MULTIPOINT" and count == 1):
        return Shape.POINT, points[:1]  # some viewers keep an arrow's tail behind its tip
    if kind in ("POLYLINE", "MULTIPOINT") and count == 2:
        return Shape.LINE, points
    if kind == "CIRCLE" and count == 2 and not spatial:  # centre and a point on the perimeter
        radius = float(np.linalg.norm(points[1] - points[0]))
        return Shape.CONTOUR, _ellipse(points[0], np.array([radius, 0.0]), np.array([0.0, radius]))
    if kind == "ELLIPSE" and count == 4:  # ends of the major axis, then of the minor axis
        centre = points.mean(axis=0)
        return Shape.CONTOUR, _ellipse(centre, (points[1] - points[0]) / 2, (points[3] - points[2]) / 2)
    if kind == "ELLIPSOID" and count == 6 and spatial:
        centre = points.mean(axis=0)
        axes = (points[1::2] - points[::2]) / 2
        rings = [_ellipse(centre, axes[a], axes[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        return Shape.CONTOUR, np.concatenate(rings)
    if kind == "POLYGON" or (kind == "POLYLINE" and count > 2):
        return Shape.CONTOUR, _closed(points, closed_by_type=kind == "POLYGON")
    raise _refused(
        "mark-unreadable", "is of no type that marks a lesion", "Measure a length or draw a contour."
    )


def _closed(points: Points, *, closed_by_type: bool) -> Points:
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    gap = float(np.linalg.norm(points[-1] - points[0]))
    if gap > _CLOSED_SHARE * length and not closed_by_type:
        raise _refused("mark-open-contour", "is an open contour", "Close it, or measure a length instead.")
    ring = points[:-1] if gap <= _CLOSED_SHARE * length else points
    if len(ring) < 3 or length == 0.0:
        raise _refused("mark-empty", "encloses nothing", "Draw it again.")
    return ring


def _ellipse(centre: Points, major: Points, minor: Points) -> Points:
    if not np.linalg.norm(major) or not np.linalg.norm(minor):
        raise _refused("mark-empty", "encloses nothing", "Draw it again.")
    angles = np.linspace(0.0, 2.0 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(angles) * major + np.sin(angles) * minor)


def _image(item: Dataset) -> Dataset:
    """Return the reference of the image that a SCOORD was drawn on (PS3.3 C.18.6, SELECTED FROM)."""
    for child in _children(item):
        for reference in child.get("ReferencedSOPSequence") or ():
            return Dataset(reference)
    raise _refused("mark-unreadable", "names no image", "Draw it again on the series of the case.")


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def _value_type(item: Dataset) -> str:
    return str(item.get("ValueType") or "").strip()


def _unit(item: Dataset) -> str:
    """Return the unit of a NUM item (PS3.3 C.18.1); empty for other items and without one."""
    for measured in item.get("MeasuredValueSequence") or ():
        for code in measured.get("MeasurementUnitsCodeSequence") or ():
            return str(code.get("CodeValue") or "").strip()
    return ""


def _concept(item: Dataset) -> str:
    for code in item.get("ConceptNameCodeSequence") or ():
        return str(code.get("CodeValue") or "").strip()
    return ""


def _refused(code: str, why: str, remedy: str) -> InputError:
    return InputError(code, f"A graphic of the report {why}.", remedy)
