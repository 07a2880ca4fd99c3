"""Read the graphics of a structured report, with the reader's words and codes.

This module reads the content items SCOORD and SCOORD3D (PS3.3 C.18.6, C.18.9) and the measurement groups that
hold them (PS3.16 TID 1410, 1411, 1501). It uses no cases or grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.graphics import Graphic, Shape, points_of, refused, require_few, shaped

_GROUP = "125007"  # DCM, Measurement Group
_FINDING, _FINDING_SITE = "121071", "363698007"  # DCM Finding, SCT Finding Site
_OLD_FINDING_SITE = "G-C0E3"  # SRT
_TRACKING_UID = "112040"  # DCM, Tracking Unique Identifier
_NO_MARKS = ("TextPosition", "ControlPoints")  # 99CS3D: the place of a label, and a spline's control points
_LENGTHS = ("mm", "cm", "m", "um")  # UCUM


@dataclass
class _Group:
    number: int
    words: list[str] = field(default_factory=list)
    findings: list[Dataset] = field(default_factory=list)
    sites: list[Dataset] = field(default_factory=list)
    tracking: str = ""


def read_graphics(dataset: Dataset) -> list[Graphic | InputError]:
    """Return the graphics of a report in document order. For a graphic that cannot be used, return the error.

    Returned errors: ``mark-empty``, ``mark-too-large``, ``mark-not-finite``, ``mark-open-contour``,
    ``mark-unreadable``.

    Raises
    ------
    InputError
        ``marks-too-many``.
    """
    items = list(_graphic_items(dataset))
    require_few(len(items))
    return [_graphic(item, group, unit) for item, group, unit in items]


def has_graphics(dataset: Dataset) -> bool:
    """Return whether a report contains graphics."""
    return next(_graphic_items(dataset), None) is not None


def _graphic_items(dataset: Dataset) -> Iterator[tuple[Dataset, _Group, str]]:
    """Yield the graphics of the content tree in document order, without recursion.

    A peer chooses the depth of the tree, which could exceed the limit of recursion.

    Each graphic comes with its measurement group. It also comes with the unit of the number (NUM) that was
    inferred from the graphic.
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
        # pydicom decodes on access: damaged bytes can raise nearly any exception, whose text may quote them.
        return refused("mark-unreadable", f"cannot be read ({type(error).__name__})", "Draw it again.")


def _read(item: Dataset, group: _Group, unit: str) -> Graphic:
    spatial = _value_type(item) == "SCOORD3D"
    points = points_of(item.get("GraphicData"), 3 if spatial else 2)
    shape, points = shaped(str(item.get("GraphicType") or "").strip(), points, spatial=spatial)
    if shape is Shape.LINE and unit and unit not in _LENGTHS:
        shape, points = Shape.POINT, points[:1]  # an arrow: its length has no meaning; its tip comes first
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


def _image(item: Dataset) -> Dataset:
    """Return the reference of the image that a SCOORD was drawn on (PS3.3 C.18.6, SELECTED FROM)."""
    for child in _children(item):
        for reference in child.get("ReferencedSOPSequence") or ():
            return Dataset(reference)
    raise refused("mark-unreadable", "names no image", "Draw the graphic again on the series of the case.")


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def _value_type(item: Dataset) -> str:
    return str(item.get("ValueType") or "").strip()


def _unit(item: Dataset) -> str:
    """Return the unit of a NUM item (PS3.3 C.18.1); empty if it has none, and for other items."""
    for measured in item.get("MeasuredValueSequence") or ():
        for code in measured.get("MeasurementUnitsCodeSequence") or ():
            return str(code.get("CodeValue") or "").strip()
    return ""


def _concept(item: Dataset) -> str:
    for code in item.get("ConceptNameCodeSequence") or ():
        return str(code.get("CodeValue") or "").strip()
    return ""
