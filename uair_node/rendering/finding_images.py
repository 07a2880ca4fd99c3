"""Draw a lesion page: the image without outlines, and beside it the lesion in each candidate.

This module has the layout and the texts. It does not use DICOM.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_config import codes
from uair_node.findings.volumes import Volumes
from uair_node.rendering.drawing import (
    FAINT,
    INK,
    PAPER,
    draw_slice,
    mark_sides,
    number_lesions,
    pixels,
    see_part,
)
from uair_node.rendering.page_images import DPI, Picture, Scene

MOST_FINDINGS = 12
"""The most lesions of a round that get a page."""
_AROUND_MM = 30.0
# Sizes in inches.
_PANEL, _GAP, _SIDE, _TITLE, _CAPTION, _FOOTER, _LINE = 2.5, 0.06, 0.15, 0.8, 0.3, 0.3, 0.22
_CHARACTER = 0.098
_LEAST_PANELS = 3


def pictured_findings(volumes: Sequence[Volumes]) -> list[int]:
    """Return the lesion numbers that get a page, ascending, at most `MOST_FINDINGS`.

    Lesions that few candidates have are preferred, then small lesions.

    Parameters
    ----------
    volumes
        The volumes of each candidate.
    """
    found: dict[int, list[float]] = defaultdict(list)
    for measured in volumes:
        for number, ml in measured.lesions_ml:
            found[number].append(ml)
    doubtful = sorted(found, key=lambda number: (len(found[number]), max(found[number]), number))
    return sorted(doubtful[:MOST_FINDINGS])


def draw_finding(scene: Scene, number: int, how_to_drop: str) -> Picture:
    """Draw the page of lesion `number`: its largest slice, without and with each candidate's outline.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns, 3)`` uint8, sRGB.

    Raises
    ------
    ValueError
        No candidate has the lesion.
    """
    return pixels(finding_figure(scene, number, how_to_drop), DPI)


def finding_figure(scene: Scene, number: int, how_to_drop: str) -> Figure:
    """Return the matplotlib figure of which `draw_finding` returns the pixels."""
    value, every = number + 1, [candidate.labels for candidate in scene.candidates]
    counts = np.stack([np.count_nonzero(labels == value, axis=(1, 2)) for labels in every])
    if not counts.any():
        raise ValueError(f"no candidate has lesion {number}")
    plane = int(counts.sum(axis=0).argmax())
    seen = np.logical_or.reduce([labels[plane] == value for labels in every])
    rows, columns = _around(seen, scene.spacing_mm)
    page = _Page(1 + len(every), how_to_drop)
    volumes = (counts.sum(axis=1) * (float(np.prod(scene.spacing_mm)) / 1000.0)).tolist()
    title = f"UAIR round {scene.round}, lesion {number}: drop it?"
    page.write_head(title, _summary(volumes, scene.planes[plane]))
    bare = np.zeros(seen.shape, np.uint8)
    captions = [_caption(shown.k, ml) for shown, ml in zip(scene.candidates, volumes, strict=True)]
    panels = zip((bare, *(labels[plane] for labels in every)), ("without outlines", *captions), strict=True)
    for place, (labels, caption) in enumerate(panels):
        axes = page.panel(place, caption)
        draw_slice(axes, scene.values[plane], labels, scene.spacing_mm[1:], scene.window)
        number_lesions(axes, labels)
        see_part(axes, rows, columns)
        if not place:
            mark_sides(axes, scene.planes[plane])
    return page.figure


def _summary(volumes: Sequence[float], plane: str) -> str:
    held = sorted(volume for volume in volumes if volume)
    size = f"{held[0]:.1f} to {held[-1]:.1f} ml" if held[0] < held[-1] else f"{held[0]:.1f} ml"
    return f"In {len(held)} of {len(volumes)} candidates, {size}. Shown where it is largest: {plane}."


def _caption(k: int, volume: float) -> str:
    return f"candidate {k}: {volume:.1f} ml" if volume else f"candidate {k}: without it"


def _around(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> tuple[slice, slice]:
    """Return rows and columns of a square around a mask, within the image."""
    spans = []
    for axis, mm in ((1, spacing_mm[1]), (0, spacing_mm[2])):
        used = np.flatnonzero(mask.any(axis=axis))
        spans.append((float(used[0]) * mm, float(used[-1] + 1) * mm))
    half = max(stop - start for start, stop in spans) / 2 + _AROUND_MM
    found = []
    for (start, stop), mm, size in zip(spans, spacing_mm[1:], mask.shape, strict=True):
        middle = (start + stop) / 2
        found.append(slice(max(0, int((middle - half) / mm)), min(size, int((middle + half) / mm) + 1)))
    return found[0], found[1]


class _Page:
    """The positions of the page's parts, in inches from the lower left corner."""

    def __init__(self, panels: int, footer: str) -> None:
        self.width = 2 * _SIDE + max(panels, _LEAST_PANELS) * (_PANEL + _GAP) - _GAP
        lines = textwrap.wrap(footer, int((self.width - 2 * _SIDE) / _CHARACTER))
        self._bottom = _FOOTER + _LINE * len(lines)
        self.height = _TITLE + _PANEL + _CAPTION + self._bottom
        self.figure = Figure(figsize=(self.width, self.height), facecolor=PAPER)
        for number, line in enumerate(reversed(lines)):
            self._text(_SIDE, _FOOTER + number * _LINE + 0.06, line, size=12, weight="bold")
        self._text(self.width - _SIDE, 0.1, f"{codes.DISCLAIMER}.", size=10, color=FAINT, ha="right")

    def write_head(self, title: str, summary: str) -> None:
        """Write the title of the page, and how many candidates have the lesion."""
        self._text(_SIDE, self.height - 0.36, title, size=17, weight="bold")
        self._text(_SIDE, self.height - 0.63, summary, size=12.5)

    def panel(self, place: int, caption: str) -> Axes:
        """Return the axes of a panel with a caption below. `place` counts from the left."""
        left, bottom = _SIDE + place * (_PANEL + _GAP), self._bottom + _CAPTION
        self._text(left, self._bottom + 0.1, caption, size=12)
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, _PANEL / self.width, _PANEL / self.height)
        )
        axes.set_axis_off()
        return axes

    def _text(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        style = {"color": INK} | style
        self.figure.text(x / self.width, y / self.height, text, fontsize=size, **style)
