"""Draw a segmentation on request: slices with outlines, pictures of the solid, surfaces."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response

from dicom_config.errors import InputError
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.views import RoundView
from uair_node.rendering.drawing import PAPER, bounds, draw_slice, mark_sides, number_lesions, pixels
from uair_node.rendering.export_formats import as_glb
from uair_node.rendering.solids import solids_of
from uair_node.rendering.surface import solid_view
from uair_node.storage.artifacts import Labels, TargetParts

_WIDTH, _THUMBNAIL_WIDTH, _PART_WIDTH = 6.4, 3.2, 1.8  # inches
_DPI = 100
_DARKER = 0.3
"""In the picture of a part, the target's other parts are darker by this fraction of the window's width."""
_QUALITY = 88  # colours are not subsampled, because outlines are thin
_DRAWING = threading.Lock()
"""The lock that is held while matplotlib draws, because matplotlib's text layout is not thread-safe."""


def show_slice(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with an axial slice and a segmentation's outlines, as JPEG. Slice 1 is the lowest."""
    view = _looked_at(console, request)
    k, number = request.path["k"], request.path["slice"]
    if not 1 <= number <= view.canonical.shape[0]:
        raise InputError("no-such-page", "The series lacks this slice.", "Start from the case's page.")
    return Response(draw(view, k, number - 1, _WIDTH), media_type="image/jpeg")


def show_thumbnail(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a small picture of a segmentation on the round's key slice (`RoundView.key_slice`)."""
    view, k = _looked_at(console, request), request.path["k"]
    data = view.once("thumbnail", k, lambda: draw(view, k, view.key_slice, _THUMBNAIL_WIDTH))
    return Response(data, media_type="image/jpeg")


def show_part(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a small picture of a target on the slice where the candidates differ most.

    Part 0 is the whole target. The other parts of the target are dark.
    """
    view, k = _looked_at(console, request), request.path["k"]
    value, part = request.path["value"], request.path["part"]
    own = view.parts.get(value)
    if own is None or part > len(own.names):
        raise InputError(
            "no-such-page", "This round has no such part.", "Open the picture from the case's page."
        )
    name = own.names[part - 1] if part else None
    data = view.once(f"part {value} {part}", k, lambda: _draw_part(view, k, value, own, name))
    return Response(data, media_type="image/jpeg")


def show_solid(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a still picture of a segmentation as a solid, from the front."""
    view, k = _looked_at(console, request), request.path["k"]
    data = view.once("solid", k, lambda: _still(view, k))
    return Response(data, media_type="image/jpeg")


def show_surfaces(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the surfaces of a segmentation as binary glTF, for the 3-D view."""
    view, k = _looked_at(console, request), request.path["k"]
    data = view.once("surfaces", k, lambda: as_glb(solids_of(view.of(k), view.affine)))
    return Response(data, media_type="model/gltf-binary")


def draw(view: RoundView, k: int, n: int, width: float) -> bytes:
    """Draw slice `n` of the canonical grid as JPEG, cropped to the round's targets, `width` inches wide."""
    labels = view.plane(k, n)
    shown = _shown(view, width)

    def annotate(axes: Axes) -> None:
        number_lesions(axes, labels[shown[:2]])
        mark_sides(axes, view.planes[n])

    return _drawn(view, view.values(n), labels, shown, width, annotate)


def _draw_part(view: RoundView, k: int, value: int, parts: TargetParts, name: str | None) -> bytes:
    """Draw the slice in which the candidates differ most within a part of a target, as JPEG.

    Without a `name`, the part is the whole target. The other parts are darkened.
    """
    held = np.stack([labels == value if value > 1 else labels > 0 for labels in view.labels.values()])
    union: NDArray[np.bool_] = np.asarray(held.any(axis=0))
    here = union if name is None else parts.within(union, name, view.box)
    at = int((here & ~held.all(axis=0)).sum(axis=(1, 2)).argmax())
    n = view.box[0].start + at
    dark = _in_plane(view, (union & ~here)[at]) * _DARKER * (view.window.high - view.window.low)
    shown = _around(view, _in_plane(view, np.asarray(union.any(axis=0))), _PART_WIDTH)
    return _drawn(view, view.values(n) - dark, view.plane(k, n), shown, _PART_WIDTH)


def _drawn(
    view: RoundView,
    values: NDArray[Any],
    labels: Labels,
    shown: tuple[slice, slice, float],
    width: float,
    annotate: Callable[[Axes], None] | None = None,
) -> bytes:
    """Draw a slice with outlines as JPEG. `shown` has rows, columns and the picture's height in inches."""
    rows, columns, height = shown
    with _DRAWING:
        figure = Figure(figsize=(width, height), facecolor=PAPER)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        spacing = view.canonical.spacing_mm
        draw_slice(axes, values[rows, columns], labels[rows, columns], spacing[1:], view.window)
        if annotate is not None:
            annotate(axes)
        return _jpeg(pixels(figure, _DPI))


def place_on(view: RoundView, n: int, x: float, y: float) -> tuple[float, float, float]:
    """Return the place of a pixel of `show_slice`'s picture of slice `n`, in LPS mm.

    Parameters
    ----------
    x, y
        Pixels from the picture's upper left corner.
    """
    rows, columns, height = _shown(view, _WIDTH)
    row = rows.start + y / (height * _DPI) * (rows.stop - rows.start) - 0.5
    column = columns.start + x / (_WIDTH * _DPI) * (columns.stop - columns.start) - 0.5
    place = view.canonical.affine @ (n, row, column, 1.0)
    return float(place[0]), float(place[1]), float(place[2])


def _shown(view: RoundView, width: float) -> tuple[slice, slice, float]:
    """Return the rows and columns that pictures of slices show, and the pictures' height in inches."""
    rows, columns = ((span.stop - span.start) for span in view.box[1:])
    return _around(view, _in_plane(view, np.ones((rows, columns), bool)), width)


def _around(view: RoundView, marked: NDArray[np.bool_], width: float) -> tuple[slice, slice, float]:
    """Return rows and columns around the marked pixels, and the height of their picture in inches."""
    spacing = view.canonical.spacing_mm
    rows, columns = (bounds(marked, axis, spacing[axis + 1]) for axis in (0, 1))
    height = width * (rows.stop - rows.start) * spacing[1] / ((columns.stop - columns.start) * spacing[2])
    return rows, columns, height


def _in_plane(view: RoundView, part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask in the rows and columns of the view's box as a mask of the whole plane."""
    whole = np.zeros(view.canonical.shape[1:], bool)
    whole[view.box[1:]] = part
    return whole


def _still(view: RoundView, k: int) -> bytes:
    solid = solid_view(view.of(k), view.canonical.spacing_mm)
    return _jpeg((solid.picture * 255).round().astype(np.uint8))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _looked_at(console: ConsoleApp, request: ConsoleRequest) -> RoundView:
    case_id = request.path["case_id"]
    view = console.views.view(case_id, request.path["round"])
    view.of(request.path["k"])
    console.note(request, "view segmentation", f"case {case_id}")
    return view
