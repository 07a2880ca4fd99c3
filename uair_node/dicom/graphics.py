"""The graphics that a reader drew, in the same form for all object types: shape, points, words and codes.

This module maps the graphic types of reports and presentation states to shapes. It is independent of cases,
grids and the use of a graphic.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_config.errors import InputError

MOST_GRAPHICS = 256
"""The largest number of graphics of an object. A study has a few dozen measurements."""
MOST_POINTS = 5_000
"""The largest number of points of a graphic. A freehand contour has a few hundred points."""
_CLOSED_SHARE = 0.02
"""A contour counts as closed if the distance of its ends is at most this fraction of its length."""
_ELLIPSE_POINTS = 48

Points = npt.NDArray[np.float64]


class Shape(StrEnum):
    """The kind of a graphic, independent of the name of its graphic type."""

    POINT = "point"
    LINE = "line"
    CONTOUR = "contour"


@dataclass(frozen=True, eq=False)
class Graphic:
    """One graphic.

    Attributes
    ----------
    shape
        A point, a line of two ends, or a closed contour.
    points
        ``(n, 2)``: column and row on the image, in pixels from the outer corner of the first pixel.
        ``(n, 3)``: x, y, z in mm in the frame of reference. A contour does not repeat its first point at its
        end.
    image_uid, frame
        SOP Instance UID of the image that two-dimensional points lie on, and its frame number or None.
    frame_of_reference_uid
        The Frame of Reference UID of three-dimensional points; else empty.
    group
        Graphics with the same number belong to one measurement group.
    tracking
        Tracking UID of the group; empty if the group has none.
    words
        The words of the group: labels and meanings of codes.
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


def require_few(count: int) -> None:
    """Raise an InputError ``marks-too-many`` if an object has too many graphics."""
    if count > MOST_GRAPHICS:
        raise InputError(
            "marks-too-many",
            f"The object has {count} graphics; at most {MOST_GRAPHICS} are accepted.",
            "Send the measurements of one study.",
        )


def points_of(data: Any, axes: int) -> Points:
    """Return the points ``(n, axes)`` of Graphic Data.

    Raises
    ------
    InputError
        ``mark-empty``, ``mark-too-large``, ``mark-unreadable``, ``mark-not-finite``.
    """
    values = np.atleast_1d(np.asarray([] if data is None else data, np.float64))
    if not values.size:
        raise refused("mark-empty", "has no points", "Draw it again.")
    if values.size > axes * MOST_POINTS:
        why = f"has more than {MOST_POINTS} points"
        raise refused("mark-too-large", why, "Draw the graphic with fewer points.")
    if values.size % axes:
        raise refused("mark-unreadable", "has an incomplete point", "Draw it again.")
    if not np.isfinite(values).all():
        raise refused("mark-not-finite", "has a coordinate that is not a number", "Draw it again.")
    return values.reshape(-1, axes)


def shaped(kind: str, points: Points, *, spatial: bool = False, closed: bool = False) -> tuple[Shape, Points]:
    """Return the shape of a graphic type (PS3.3 C.10.5.1.2, C.18.6.1.2, C.18.9.1.2) with these points.

    Parameters
    ----------
    spatial
        Whether the points are three-dimensional (SCOORD3D).
    closed
        Whether a polyline's last point is joined to its first even if they differ.

    Raises
    ------
    InputError
        ``mark-open-contour``, ``mark-empty``, ``mark-unreadable``.
    """
    count = len(points)
    if kind == "POINT" or (kind == "MULTIPOINT" and count == 1):
        return Shape.POINT, points[:1]  # some viewers store an arrow's tail after its tip
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
        return Shape.CONTOUR, _closed(points, by_type=closed or kind == "POLYGON")
    raise refused(
        "mark-unreadable", "has a type that cannot mark a lesion", "Measure a length or draw a contour."
    )


def _closed(points: Points, *, by_type: bool) -> Points:
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    gap = float(np.linalg.norm(points[-1] - points[0]))
    if gap > _CLOSED_SHARE * length and not by_type:
        remedy = "Close the contour, or measure a length instead."
        raise refused("mark-open-contour", "is an open contour", remedy)
    ring = points[:-1] if gap <= _CLOSED_SHARE * length else points
    if len(ring) < 3 or length == 0.0:
        raise refused("mark-empty", "encloses nothing", "Draw it again.")
    return ring


def _ellipse(centre: Points, major: Points, minor: Points) -> Points:
    if not np.linalg.norm(major) or not np.linalg.norm(minor):
        raise refused("mark-empty", "encloses nothing", "Draw it again.")
    angles = np.linspace(0.0, 2.0 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(angles) * major + np.sin(angles) * minor)


def refused(code: str, why: str, remedy: str) -> InputError:
    """Return the error for a graphic that cannot be used."""
    return InputError(code, f"A graphic {why}.", remedy)
