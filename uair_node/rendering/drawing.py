"""Functions that draw a slice with its segmentation: window, outlines, hatches, numbers, crop.

The contact sheet and all pages use these functions. The functions do not use layouts, DICOM or candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from dicom_config import codes
from dicom_config.modalities import ct
from dicom_config.modalities.profile import FixedWindow

PAPER, INK, FAINT = "black", "white", "#b0b0b0"
_MARGIN_MM = 12.0
_LIVER_WIDTH, _LESION_WIDTH = 1.3, 1.4
_EDGE_WIDTH = 1.6
_HATCH_WIDTH, _HATCH_EDGE = 0.7, 0.8
_NUMBER_ROOM = 0.09  # fraction of a panel's height


def crop(labels: Sequence[NDArray[np.uint8]], spacing_mm: tuple[float, float, float]) -> tuple[slice, slice]:
    """Return the half-open ranges of rows and columns that contain all label volumes, with a margin.

    If the volumes are empty, then return all rows and columns.
    """
    seen = np.logical_or.reduce([volume.any(axis=0) for volume in labels])
    if not seen.any():
        return slice(0, seen.shape[0]), slice(0, seen.shape[1])
    return bounds(seen, 0, spacing_mm[1]), bounds(seen, 1, spacing_mm[2])


def bounds(seen: NDArray[np.bool_], axis: int, spacing_mm: float) -> slice:
    """Return the half-open range of a non-empty mask along `axis`, with a margin."""
    others = tuple(n for n in range(seen.ndim) if n != axis)
    used = np.flatnonzero(seen.any(axis=others))
    margin = round(_MARGIN_MM / spacing_mm)
    start, stop = int(used[0]) - margin, int(used[-1]) + 1 + margin
    return slice(max(start, 0), min(stop, seen.shape[axis]))


def draw_slice(
    axes: Axes,
    values: NDArray[Any],
    labels: NDArray[np.uint8],
    pixel_mm: tuple[float, float],
    window: FixedWindow = ct.WINDOW,
) -> None:
    """Draw a slice (rows, columns) with the outlines of the whole liver and of each lesion.

    The window's low value is black, and its high value is white.
    """
    aspect = pixel_mm[0] / pixel_mm[1]
    axes.imshow(
        values, cmap="gray", vmin=window.low, vmax=window.high, aspect=aspect, interpolation="bilinear"
    )
    outline(axes, labels > 0, as_hex(codes.LIVER_COLOUR), _LIVER_WIDTH)
    for value in np.unique(labels[labels > 1]).tolist():
        outline(axes, labels == value, as_hex(codes.lesion_colour(value - 1)), _LESION_WIDTH)


def see_part(axes: Axes, rows: slice, columns: slice) -> None:
    """Limit the view to a part of a slice that was drawn whole.

    So an outline that crosses the edge of the part is not closed at this edge.
    """
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.stop - 0.5, rows.start - 0.5)


def outline(axes: Axes, mask: NDArray[np.bool_], colour: str, width: float, style: str = "solid") -> None:
    """Draw the outline of a mask in a slice. An empty mask has no outline.

    The outline has a dark edge. So a reader sees the outline on a grey-scale monitor, even if it is as bright
    as the tissue.
    """
    if mask.any():
        x, y, framed = _framed(mask)
        lines = axes.contour(x, y, framed, levels=[0.5], colors=[colour], linewidths=width, linestyles=style)
        lines.set_path_effects([withStroke(linewidth=width + _EDGE_WIDTH, foreground=PAPER)])


def hatch(axes: Axes, mask: NDArray[np.bool_], colour: str, pattern: str) -> None:
    """Tint and hatch a mask. A tint alone is not visible on a grey-scale monitor.

    Each line of the hatch has a dark edge, because the line could be as bright as the tissue.
    """
    if mask.any():
        x, y, framed = _framed(mask)
        axes.contourf(x, y, framed, levels=[0.5, 1.5], colors=[colour], alpha=0.12)
        for ink, width in ((PAPER, _HATCH_WIDTH + _HATCH_EDGE), (colour, _HATCH_WIDTH)):
            lines = axes.contourf(x, y, framed, levels=[0.5, 1.5], colors="none", hatches=[pattern])
            lines.set_edgecolor(ink)
            lines.set_linewidth(0.0)
            lines.set_hatch_linewidth(width)


def number_lesions(axes: Axes, labels: NDArray[np.uint8]) -> None:
    """Write each lesion's number above the lesion, or below it if there is no space.

    So a reader can distinguish lesions without colour.
    """
    for value in np.unique(labels[labels > 1]).tolist():
        rows, columns = np.nonzero(labels == value)
        above = rows.min() > _NUMBER_ROOM * len(labels)
        edge = rows.min() if above else rows.max()
        at = (float(columns[rows == edge].mean()), float(edge) + (-1.0 if above else 1.0))
        style: dict[str, Any] = {"transform": axes.transData, "va": "bottom" if above else "top"}
        note(axes, str(value - 1), at, size=11, weight="bold", ha="center", **style)


def mark_sides(axes: Axes, text: str, left: str = "R", right: str = "L", *, low: bool = False) -> None:
    """Write the name of the slice, above or (`low`) below, and the sides of the patient."""
    note(axes, text, (0.02, 0.03 if low else 0.97), va="bottom" if low else "top")
    note(axes, left, (0.02, 0.5), va="center")
    note(axes, right, (0.98, 0.5), va="center", ha="right")


def note(axes: Axes, text: str, at: tuple[float, float], *, size: float = 9, **style: Any) -> None:
    """Write a text on a slice. `at` is a fraction of the panel's width and height, from the lower left."""
    # Bone is as white as the letters, so the letters have a dark edge.
    edge = [withStroke(linewidth=2, foreground=PAPER)]
    usual: dict[str, Any] = {"transform": axes.transAxes, "color": INK, "path_effects": edge, "clip_on": True}
    axes.text(*at, text, fontsize=size, **(usual | style))


def as_hex(colour: codes.Colour) -> str:
    """Return a colour in matplotlib's hexadecimal form."""
    return "#{:02x}{:02x}{:02x}".format(*colour.rgb)


def pixels(figure: Figure, dpi: int) -> NDArray[np.uint8]:
    """Return the pixels of a figure.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns, 3)`` uint8, sRGB.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _framed(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
    # The frame of zeros closes outlines that would be open at the edge of the crop.
    y, x = (np.arange(-1, size + 1) for size in mask.shape)
    return x, y, np.pad(mask, 1).astype(np.float32)
