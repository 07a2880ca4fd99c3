"""The graphics that a presentation state (GSPS) draws on images, with the texts beside them.

This module reads graphic and text objects (PS3.3 C.10.5). It applies the displayed area, to which display
units refer (C.10.4), and the spatial transformation that turns the image (C.10.6). It uses no cases or grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.graphics import Graphic, Points, Shape, points_of, refused, require_few, shaped

_BESIDE_PIXELS = 2.0
"""A text labels a graphic if the text's anchor lies at most this many pixels from the graphic.

If no graphic is that near, then the anchor is a point of its own.
"""
_POLYLINES = ("POLYLINE", "INTERPOLATED")
_QUARTER, _TURN = 90, 360


@dataclass(frozen=True, eq=False)
class _Annotation:
    """An item of the Graphic Annotation Sequence, with the only image to which the item refers."""

    image: Dataset
    area: _Area | None
    graphics: Sequence[Dataset]
    texts: Sequence[Dataset]


@dataclass(frozen=True)
class _Area:
    """The displayed area of an image: its corner and its two edges, column and row in pixels."""

    corner: tuple[float, float]
    right: tuple[float, float]
    down: tuple[float, float]

    def pixels(self, points: Points) -> Points:
        """Convert points from display units to pixels, counted from the outer corner of the first pixel."""
        across, along = points[:, :1], points[:, 1:]
        found: Points = (
            np.asarray(self.corner) + across * np.asarray(self.right) + along * np.asarray(self.down)
        )
        return found


def has_annotations(dataset: Dataset) -> bool:
    """Return whether a presentation state holds a graphic or a text."""
    return any(
        item.get("GraphicObjectSequence") or item.get("TextObjectSequence")
        for item in dataset.get("GraphicAnnotationSequence") or ()
    )


def images_of(dataset: Dataset) -> list[Dataset]:
    """Return the references of the images that a presentation state applies to."""
    listed = [
        image
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedImageSequence") or ()
    ]
    annotated = [
        image
        for item in dataset.get("GraphicAnnotationSequence") or ()
        for image in item.get("ReferencedImageSequence") or ()
    ]
    return [*listed, *annotated]


def read_annotations(dataset: Dataset) -> list[Graphic | InputError]:
    """Return the graphics of a presentation state in its order.

    A graphic that cannot be used is replaced by its error.

    A text labels the graphic that is nearest to it, or that is in the same group. A text whose anchor is
    shown and lies on no graphic is an arrow: its anchor is a point.

    Returned errors: ``mark-empty``, ``mark-too-large``, ``mark-not-finite``, ``mark-open-contour``,
    ``mark-several-images``, ``mark-unreadable``.

    Raises
    ------
    InputError
        ``marks-too-many``.
    """
    items = list(dataset.get("GraphicAnnotationSequence") or ())
    objects = ("GraphicObjectSequence", "TextObjectSequence")
    require_few(sum(len(item.get(keyword) or ()) for item in items for keyword in objects))
    found: list[Graphic | InputError] = []
    for item in items:
        try:
            found += _graphics(_annotation(item, dataset), 1 + len(found))
        except InputError as refusal:
            found.append(refusal)
        except Exception as error:
            # pydicom decodes on access: damaged bytes can raise nearly any exception, which may quote them.
            found.append(_unreadable(error))
    return found


def _unreadable(error: Exception) -> InputError:
    return refused("mark-unreadable", f"cannot be read ({type(error).__name__})", "Draw it again.")


def _annotation(item: Dataset, dataset: Dataset) -> _Annotation:
    graphics = list(item.get("GraphicObjectSequence") or ())
    texts = list(item.get("TextObjectSequence") or ())
    references = item.get("ReferencedImageSequence") or images_of(dataset)
    images = {
        (str(image.get("ReferencedSOPInstanceUID") or "").strip(" \0"), frame): image
        for image in references
        for frame in _frames(image)
    }
    if len(images) != 1 and (graphics or texts):
        raise refused(
            "mark-several-images",
            "of the presentation state belongs to several images" if images else "names no image",
            "Draw the graphic on one image, and save the presentation state of that image.",
        )
    image = next(iter(images.values()), Dataset())
    return _Annotation(image, _displayed_area(dataset, image), graphics, texts)


def _frames(image: Dataset) -> list[int | None]:
    value = image.get("ReferencedFrameNumber")
    if value in (None, ""):
        return [None]
    return [int(number) for number in (value if isinstance(value, Sequence) else [value])]


def _displayed_area(dataset: Dataset, image: Dataset) -> _Area | None:
    """Return the displayed area of an image; None if the presentation state has none that can be used."""
    uid = image.get("ReferencedSOPInstanceUID")
    for item in dataset.get("DisplayedAreaSelectionSequence") or ():
        named = [other.get("ReferencedSOPInstanceUID") for other in item.get("ReferencedImageSequence") or ()]
        if not named or uid in named:
            return _area(item, dataset)
    return None


def _area(item: Dataset, dataset: Dataset) -> _Area | None:
    """Return a displayed area. Its corners are pixels, counted from 1, of the image before the turn."""
    try:
        corners = np.array(
            [item.DisplayedAreaTopLeftHandCorner, item.DisplayedAreaBottomRightHandCorner], np.float64
        )
        turn = int(dataset.get("ImageRotation") or 0) % _TURN
    except (AttributeError, TypeError, ValueError):
        return None
    if corners.shape != (2, 2) or turn % _QUARTER:
        return None
    # Some writers give the corners before the turn, other writers after the turn. The box is the same.
    low, high = corners.min(axis=0) - 1.0, corners.max(axis=0)
    size = high - low
    # Image directions of the display's right and down, for a clockwise turn of 0, 90, 180, 270 degrees.
    right = ((1, 0), (0, -1), (-1, 0), (0, 1))[turn // _QUARTER]
    down = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn // _QUARTER]
    if str(dataset.get("ImageHorizontalFlip") or "N").strip() == "Y":
        right = (-right[0], -right[1])
    directions = np.array(right) + np.array(down)
    corner = np.where(directions > 0, low, high)
    edges = (np.array(right) * size, np.array(down) * size)
    return _Area(_pair(corner), _pair(edges[0]), _pair(edges[1]))


def _pair(values: Points) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _graphics(annotation: _Annotation, first: int) -> Iterator[Graphic | InputError]:
    drawn: list[tuple[str, Shape, Points, Dataset] | InputError] = []
    for item in annotation.graphics:
        try:
            drawn.append((_group(item), *_shape(annotation, item), item))
        except InputError as refusal:
            drawn.append(refusal)
        except Exception as error:
            drawn.append(_unreadable(error))
    words, arrows = _labels(annotation, drawn)
    numbers: dict[str, int] = {}
    for place, entry in enumerate(drawn):
        if isinstance(entry, InputError):
            yield entry
            continue
        group, shape, points, item = entry
        number = numbers.setdefault(group, first + place) if group else first + place
        tracking = str(item.get("TrackingUID") or "").strip(" \0")
        yield _made(annotation, shape, points, number, tracking, " ".join(words.get(place, ())))
    for place, (points, text) in enumerate(arrows, len(drawn)):
        yield _made(annotation, Shape.POINT, points, first + place, "", text)


def _shape(annotation: _Annotation, item: Dataset) -> tuple[Shape, Points]:
    kind = str(item.get("GraphicType") or "").strip()
    points = _pixels(annotation, points_of(item.get("GraphicData"), 2), item.get("GraphicAnnotationUnits"))
    filled = str(item.get("GraphicFilled") or "N").strip() == "Y"
    return shaped("POLYLINE" if kind in _POLYLINES else kind, points, closed=filled)


def _pixels(annotation: _Annotation, points: Points, units: object) -> Points:
    """Convert points to pixels, counted from the outer corner of the image's first pixel."""
    named = str(units or "PIXEL").strip()
    if named == "PIXEL":
        return points
    if named == "DISPLAY" and annotation.area is not None:
        return annotation.area.pixels(points)
    raise refused(
        "mark-unreadable", "has units that do not refer to the image", "Draw the graphic on the image itself."
    )


def _labels(
    annotation: _Annotation, drawn: Sequence[tuple[str, Shape, Points, Dataset] | InputError]
) -> tuple[dict[int, list[str]], list[tuple[Points, str]]]:
    """Return the texts of each graphic by its index, and the texts of arrows with their tips."""
    places = {
        place: (entry[0], entry[2]) for place, entry in enumerate(drawn) if not isinstance(entry, InputError)
    }
    words: dict[int, list[str]] = {}
    arrows: list[tuple[Points, str]] = []
    for item in annotation.texts:
        text = str(item.get("UnformattedTextValue") or "")
        group = _group(item)
        box, is_arrow = _text_box(annotation, item)
        if group and group in {known for known, _ in places.values()}:
            labelled = [place for place, (known, _) in places.items() if known == group]
        elif box is None:
            labelled = list(places) if len(places) == 1 else []
        else:
            away = {place: _apart(box, points) for place, (_, points) in places.items()}
            nearest = min(away, key=lambda place: away[place], default=None)
            if is_arrow and (nearest is None or away[nearest] > _BESIDE_PIXELS):
                arrows.append((box[:1], text))
                continue
            labelled = [] if nearest is None else [nearest]
        for place in labelled:
            words.setdefault(place, []).append(text)
    return words, arrows


def _text_box(annotation: _Annotation, item: Dataset) -> tuple[Points | None, bool]:
    """Return a text's anchor or its box's corners, ``(n, 2)`` or None; and whether the anchor is shown."""
    box_units = item.get("BoundingBoxAnnotationUnits")
    try:
        if item.get("AnchorPoint") is not None:
            units = item.get("AnchorPointAnnotationUnits") or box_units
            shown = str(item.get("AnchorPointVisibility") or "").strip() == "Y"
            return _pixels(annotation, points_of(item.AnchorPoint, 2), units), shown
        corners = [*item.BoundingBoxTopLeftHandCorner, *item.BoundingBoxBottomRightHandCorner]
        return _pixels(annotation, points_of(corners, 2), box_units), False
    except (InputError, AttributeError, TypeError, ValueError):
        return None, False


def _apart(box: Points, points: Points) -> float:
    """Return the distance between the boxes around two sets of points, in pixels; 0 if the boxes touch."""
    gap = np.maximum(box.min(axis=0) - points.max(axis=0), points.min(axis=0) - box.max(axis=0))
    return float(np.linalg.norm(np.maximum(gap, 0.0)))


def _group(item: Dataset) -> str:
    """Return the id that objects of one drawing share: Graphic Group ID or Compound Graphic Instance ID."""
    for keyword in ("CompoundGraphicInstanceID", "GraphicGroupID"):
        if item.get(keyword) is not None:
            return f"{keyword} {item.get(keyword)}"
    return ""


def _made(
    annotation: _Annotation, shape: Shape, points: Points, group: int, tracking: str, words: str
) -> Graphic:
    (frame,) = _frames(annotation.image)
    return Graphic(
        shape=shape,
        points=points,
        image_uid=str(annotation.image.get("ReferencedSOPInstanceUID") or "").strip(" \0"),
        frame=frame,
        frame_of_reference_uid="",
        group=group,
        tracking=tracking,
        words=words,
        findings=(),
        sites=(),
    )
