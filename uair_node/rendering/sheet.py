"""Draw a contact sheet: the candidates of a round side by side on the slices where they differ most.

The sheet shows a round outside of a viewer. This module does not use DICOM and does not make candidates.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dicom_config import codes
from dicom_config.modalities import ct
from dicom_config.modalities.profile import LIVER, FixedWindow
from uair_node.findings.volumes import Volumes, describe
from uair_node.rendering.drawing import (
    FAINT,
    INK,
    PAPER,
    as_hex,
    crop,
    draw_slice,
    mark_sides,
    number_lesions,
)
from uair_node.rendering.telling_slices import telling_slices

_LISTED_LESIONS = 3
_HEADING_LENGTH, _HEADING_LINES, _HEADLINE_LENGTH, _HEADLINES = 31, 2, 40, 2

# Sizes in inches. At 120 dpi, a panel has about as many pixels as a cropped liver with pixels of 0.75 mm.
_PANEL_WIDTH, _GAP, _SIDE = 2.9, 0.05, 0.15
_TITLE, _HEADING, _CAPTION, _FOOTER = 0.5, 0.32, 0.55, 0.38
_LINE, _CHARACTER = 0.17, 0.078  # height of a line and width of a character in a warning
_DPI = 120
_WARNING = "#ffb347"
_WORDS_HIGH, _WORDS_WIDE = 0.25, 0.7  # fractions of a panel, for two lines of words and a number below them


@dataclass(frozen=True)
class SheetCandidate:
    """A candidate, and its texts, in a column of the sheet.

    Parameters
    ----------
    k
        Number of the candidate, 1..4.
    character
        The character of the candidate, in a few words.
    labels
        ``(Z, Y, X)`` uint8 on the grid of the sheet's volume: 0 background, 1 liver, 1 + n lesion n.
    note
        A further word in the heading, after the character, such as "picked".
    headline
        The main difference, in a few words below the heading.
    """

    k: int
    character: str
    labels: NDArray[np.uint8]
    note: str = ""
    headline: str = ""


def draw_sheet(
    values: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    planes: Sequence[str],
    candidates: Sequence[SheetCandidate],
    title: str,
    path: Path,
    window: FixedWindow = ct.WINDOW,
) -> None:
    """Write the contact sheet of a round as PNG.

    Columns are candidates. Rows are up to four axial slices, the uppermost first. Each slice shows another
    difference. The view is from the feet, as usual in radiology, so the patient's right is on the left of the
    picture. The whole liver and each lesion have an outline. Volumes are below each column.

    Parameters
    ----------
    values
        ``(Z, Y, X)`` on the canonical grid: axes grow to superior, posterior, patient left.
    spacing_mm
        ``(z, y, x)`` in mm.
    planes
        Name of each plane along axis 0.
    candidates
        The candidates, at least one. Their labels have the volume's shape.
    title
        A line at the top, without patient data.
    path
        The PNG file; its folder must exist.
    window
        The values that are shown as black and white, see `display_window`.
    """
    figure = sheet_figure(values, spacing_mm, planes, candidates, title, window=window)
    FigureCanvasAgg(figure)
    # The file does not contain the drawing library's version, so that the same round gives the same bytes.
    figure.savefig(path, dpi=_DPI, facecolor=PAPER, format="png", metadata={"Software": None})


def sheet_figure(
    values: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    planes: Sequence[str],
    candidates: Sequence[SheetCandidate],
    title: str,
    *,
    window: FixedWindow = ct.WINDOW,
    organ: str = LIVER.name,
    numbered: bool = False,
    warnings: Sequence[str] = (),
    footer: str = "",
) -> Figure:
    """Return the contact sheet as a figure. The parameters are those of `draw_sheet`.

    With `numbered`, each lesion's number is written beside it. Warnings are below the title, and `footer` is
    at the lower end.
    """
    volumes = [describe(candidate.labels, spacing_mm) for candidate in candidates]
    rows, columns = crop([candidate.labels for candidate in candidates], spacing_mm)
    cropped = [candidate.labels[:, rows, columns] for candidate in candidates]
    slices = telling_slices(cropped, spacing_mm[0], [candidate.k for candidate in candidates])
    height = (rows.stop - rows.start) * spacing_mm[1]
    width = (columns.stop - columns.start) * spacing_mm[2]
    said = [textwrap.wrap(candidate.headline, _HEADLINE_LENGTH)[:_HEADLINES] for candidate in candidates]
    headings = [textwrap.wrap(_heading(candidate), _HEADING_LENGTH) for candidate in candidates]
    first = max(map(len, headings))
    headlines = first - 1 + max(map(len, said))
    layout = _Layout(len(slices), len(candidates), _PANEL_WIDTH * height / width, warnings, footer, headlines)
    figure = layout.figure
    _text(layout, _SIDE, layout.height - 0.3, title, size=13, weight="bold")
    for number, line in enumerate(layout.warning_lines):
        _text(layout, _SIDE, layout.height - 0.49 - number * _LINE, line, size=9, color=_WARNING)
    for column, measured in enumerate(volumes):
        x = layout.left(column)
        y = layout.height - layout.title - 0.2
        for number, line in enumerate(headings[column]):
            _text(layout, x, y - number * _LINE, line, size=11, weight="bold")
        for number, line in enumerate(said[column], start=first):
            _text(layout, x, y - number * _LINE, line, size=10)
        for row, shown in enumerate(slices):
            axes, labels = layout.panel(row, column), cropped[column][shown.k]
            draw_slice(axes, values[shown.k, rows, columns], labels, spacing_mm[1:], window)
            if numbered:
                number_lesions(axes, labels)
            if column == 0:
                words = "\n".join(filter(None, [planes[shown.k], shown.words]))
                mark_sides(axes, words, low=_is_covered(labels))
        _text(layout, x, layout.bottom + _CAPTION - 0.2, _caption(measured, organ), size=9)
    _draw_footer(layout, volumes, organ)
    return figure


def _is_covered(labels: NDArray[np.uint8]) -> bool:
    """Return whether the words at the upper left would cover a lesion or its number."""
    rows, columns = labels.shape
    return bool((labels[: round(_WORDS_HIGH * rows), : round(_WORDS_WIDE * columns)] > 1).any())


class _Layout:
    """The positions of the sheet's parts, in inches from the lower left corner."""

    def __init__(
        self,
        rows: int,
        columns: int,
        panel_height: float,
        warnings: Sequence[str],
        footer: str,
        headlines: int,
    ) -> None:
        self._rows, self._panel_height = rows, panel_height
        self.width = 2 * _SIDE + columns * (_PANEL_WIDTH + _GAP) - _GAP
        characters = int((self.width - 2 * _SIDE) / _CHARACTER)
        said = [f"Warning: {warning.rstrip('.')}." for warning in warnings]
        self.warning_lines = [line for sentence in said for line in textwrap.wrap(sentence, characters)]
        self.title = _TITLE + _LINE * max(len(self.warning_lines) - 1, 0)
        self.footer_lines = textwrap.wrap(footer, characters)
        self.bottom = _FOOTER + _LINE * len(self.footer_lines)
        heading = _HEADING + _LINE * headlines
        self.height = self.title + heading + rows * (panel_height + _GAP) + _CAPTION + self.bottom
        self.figure = Figure(figsize=(self.width, self.height), facecolor=PAPER)

    def left(self, column: int) -> float:
        return _SIDE + column * (_PANEL_WIDTH + _GAP)

    def panel(self, row: int, column: int) -> Axes:
        bottom = self.bottom + _CAPTION + (self._rows - 1 - row) * (self._panel_height + _GAP)
        box = (
            self.left(column) / self.width,
            bottom / self.height,
            _PANEL_WIDTH / self.width,
            self._panel_height / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes


def _heading(candidate: SheetCandidate) -> str:
    note = f"  ({candidate.note})" if candidate.note else ""
    room = _HEADING_LINES * _HEADING_LENGTH - 9 - len(note)  # 9 less, because a wrapped line may be shorter
    character = (
        candidate.character if len(candidate.character) <= room else f"{candidate.character[: room - 1]}…"
    )
    return f"{candidate.k}  {character}{note}"


def _caption(volumes: Volumes, organ: str) -> str:
    """Return the two lines of volumes below a column: totals, then the largest lesions."""
    lesions = volumes.lesions_ml
    total = f"lesions {sum(ml for _, ml in lesions):.1f} ml" if lesions else "no lesion"
    largest = sorted(lesions, key=lambda lesion: -lesion[1])[:_LISTED_LESIONS]
    listed = ", ".join(f"{number}: {ml:.1f}" for number, ml in largest)
    more = f" and {len(lesions) - len(largest)} more" if len(lesions) > len(largest) else ""
    return f"{organ} {volumes.liver_ml:.0f} ml, {total}\n{listed}{more}"


def _draw_footer(layout: _Layout, volumes: Sequence[Volumes], organ: str) -> None:
    numbers = sorted({number for measured in volumes for number, _ in measured.lesions_ml})
    entries = [(organ, codes.LIVER_COLOUR)]
    # Colours repeat after the end of the palette. The legend has each colour only once.
    entries += [(f"lesion {n}", codes.lesion_colour(n)) for n in numbers[: len(codes.LESION_COLOURS)]]
    layout.figure.legend(
        handles=[Line2D([], [], color=as_hex(colour), linewidth=2, label=name) for name, colour in entries],
        loc="lower left",
        bbox_to_anchor=(_SIDE / layout.width, 0.02 / layout.height),
        borderaxespad=0.3,
        ncols=len(entries),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.2,
    )
    for number, line in enumerate(reversed(layout.footer_lines)):
        _text(layout, _SIDE, _FOOTER + number * _LINE, line, size=9)
    disclaimer = f"{codes.DISCLAIMER}."
    _text(layout, layout.width - _SIDE, 0.13, disclaimer, size=9, color=FAINT, ha="right")


def _text(layout: _Layout, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
    style = {"color": INK, "va": "baseline" if "\n" not in text else "center"} | style
    layout.figure.text(x / layout.width, y / layout.height, text, fontsize=size, **style)
