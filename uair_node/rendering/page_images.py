"""Draw the pictures of a round for viewers that cannot draw segmentations: overview and candidates' pages.

This module has the layout and the texts. The module `pages` makes DICOM objects of the pictures. A line
style, a pattern or a number repeats the meaning of each colour. So the pages are clear on grey-scale monitors
and to readers who distinguish fewer colours.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dicom_config import codes
from dicom_config.modalities import ct
from dicom_config.modalities.profile import LIVER, FixedWindow, Unit
from uair_node.findings.measurements import LesionMeasurements, measure
from uair_node.rendering.differences import (
    against_reference,
    against_siblings,
    as_sentence,
    cut_off_ends,
    headline,
    of_the_unsure,
)
from uair_node.rendering.drawing import (
    FAINT,
    INK,
    PAPER,
    as_hex,
    bounds,
    crop,
    draw_slice,
    hatch,
    mark_sides,
    number_lesions,
    outline,
    pixels,
)
from uair_node.rendering.page_slices import coronal_row, key_slices
from uair_node.rendering.sheet import SheetCandidate, sheet_figure

Labels = NDArray[np.uint8]
Picture = NDArray[np.uint8]

DPI = 100
_AXIAL, COLUMNS = 5, 3
_LISTED_LESIONS = 12
# Sizes in inches.
_PANEL, _GAP, _SIDE, _TEXT, _TITLE, _FOOTER = 3.05, 0.06, 0.15, 4.1, 0.75, 0.42
_LEAST_HEIGHT, _MOST_HEIGHT = 2.5, 3.6
_LINE, _HEADING_LINES, _GAP_LINES = 0.21, 1.15, 0.6
_CHARACTERS = 45
_REFERENCE_COLOUR, _UNCERTAIN_COLOUR, _UNCERTAIN_PATTERN = "white", "#e69f00", "//"


@dataclass(frozen=True, eq=False)
class Scene:
    """The inputs of all pages of a round, on the canonical grid (superior, posterior, left).

    Parameters
    ----------
    values
        ``(Z, Y, X)`` in `unit`.
    spacing_mm
        ``(z, y, x)`` in mm.
    planes
        Name of each plane along axis 0.
    round
        Number of the round, 1-based.
    candidates
        The round's candidates, with labels on the same grid.
    reference
        Labels of the selection that the round started from; None in round 1.
    uncertain
        ``(Z, Y, X)`` bool, the uncertain region; None if it is unknown.
    window
        The values that are shown as black and white.
    unit
        The unit of the values.
    organ
        The organ's name.
    warnings
        Possible faults of the series, in sentences.
    how_to_answer
        A sentence for the overview that explains how to answer.
    """

    values: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    planes: tuple[str, ...]
    round: int
    candidates: tuple[SheetCandidate, ...]
    reference: Labels | None = None
    uncertain: NDArray[np.bool_] | None = None
    window: FixedWindow = ct.WINDOW
    unit: Unit = ct.PROFILE.unit
    organ: str = LIVER.name
    warnings: tuple[str, ...] = ()
    how_to_answer: str = ""

    def warned(self, volumes: Sequence[Labels]) -> list[str]:
        """Return the series' warnings. If a label volume touches an end of the stack, say this first."""
        cut_off = cut_off_ends(volumes, self.organ)
        said = [cut_off] if cut_off and as_sentence(cut_off) not in self.warnings else []
        return [*said, *self.warnings]


def cropped(scene: Scene) -> Scene:
    """Return the scene without the rows and columns that are on no page. The slice indices are unchanged."""
    rows, columns = crop(_marked(scene), scene.spacing_mm)

    def part(array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array[:, rows, columns])

    return replace(
        scene,
        values=part(scene.values),
        candidates=tuple(replace(candidate, labels=part(candidate.labels)) for candidate in scene.candidates),
        reference=None if scene.reference is None else part(scene.reference),
        uncertain=None if scene.uncertain is None else part(scene.uncertain),
    )


def draw_overview(scene: Scene) -> Picture:
    """Draw the candidates side by side on the slices where they differ most.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns, 3)`` uint8, sRGB.
    """
    return pixels(overview_figure(scene), DPI)


def overview_figure(scene: Scene) -> Figure:
    """Return the matplotlib figure of which `draw_overview` returns the pixels."""
    count = len(scene.candidates)
    title = f"UAIR round {scene.round}: {count} candidates, where they differ most"
    if count == 1:
        title = f"UAIR round {scene.round}: no uncertain region is left; accept this candidate or reject it"
    return sheet_figure(
        scene.values,
        scene.spacing_mm,
        scene.planes,
        [replace(candidate, headline=_headline(scene, candidate)) for candidate in scene.candidates],
        title,
        window=scene.window,
        organ=scene.organ,
        numbered=True,
        footer=scene.how_to_answer,
        warnings=scene.warned([candidate.labels for candidate in scene.candidates]),
    )


def draw_candidate(scene: Scene, k: int) -> Picture:
    """Draw the page of candidate `k`: five axial slices, a coronal slice, numbers and texts.

    Raises
    ------
    ValueError
        The scene has no candidate `k`.
    """
    return pixels(candidate_figure(scene, k), DPI)


def candidate_figure(scene: Scene, k: int) -> Figure:
    """Return the matplotlib figure of which `draw_candidate` returns the pixels."""
    (candidate,) = (shown for shown in scene.candidates if shown.k == k)
    return CandidatePage(scene, candidate).drawn()


def _headline(scene: Scene, candidate: SheetCandidate) -> str:
    siblings = [sibling.labels for sibling in scene.candidates if sibling.k != candidate.k]
    return headline(candidate.labels, siblings, scene.spacing_mm, scene.organ)


def _marked(scene: Scene) -> list[Labels]:
    """Return all label volumes that a page may outline."""
    reference = [] if scene.reference is None else [scene.reference]
    return [*(candidate.labels for candidate in scene.candidates), *reference]


class CandidatePage:
    """The page of a candidate during its drawing."""

    def __init__(self, scene: Scene, candidate: SheetCandidate) -> None:
        self._scene, self._candidate = scene, candidate
        self._siblings = [sibling.labels for sibling in scene.candidates if sibling.k != candidate.k]
        shown = _marked(scene)
        self._rows, self._columns = crop(shown, scene.spacing_mm)
        marked = np.logical_or.reduce([volume > 0 for volume in shown])
        whole = slice(0, len(scene.values))
        self._slices = bounds(marked, 0, scene.spacing_mm[0]) if marked.any() else whole
        self._words = self._paragraphs()
        self._panel_height = self._fitting_height()
        self.width = 2 * _SIDE + COLUMNS * (_PANEL + _GAP) + _TEXT
        self.height = _TITLE + 2 * (self._panel_height + _GAP) + _FOOTER
        self.figure = Figure(figsize=(self.width, self.height), facecolor=PAPER)

    def drawn(self) -> Figure:
        """Draw the panels and the texts. Return the figure."""
        self.draw_panels()
        self.write()
        return self.figure

    def draw_panels(self) -> None:
        """Draw the axial slices and then the coronal slice."""
        self._draw_axial(_AXIAL)
        self._draw_coronal(2 * COLUMNS - 1)

    def _draw_axial(self, count: int) -> None:
        scene = self._scene
        compared = self._siblings if scene.reference is None else [*self._siblings, scene.reference]
        chosen = key_slices(self._candidate.labels, compared, scene.spacing_mm[0], count)
        for place, k in enumerate(chosen):
            box = (k, self._rows, self._columns)
            self._draw(self._panel(place), box, scene.spacing_mm[1:], scene.planes[k])

    def _draw_coronal(self, place: int) -> None:
        scene, labels = self._scene, self._candidate.labels
        # Superior is up, so the picture's rows have the reverse order of axis 0.
        upside = slice(self._slices.stop - 1, self._slices.start - 1 if self._slices.start else None, -1)
        pixel_mm = (scene.spacing_mm[0], scene.spacing_mm[2])
        self._draw(self._panel(place), (upside, coronal_row(labels), self._columns), pixel_mm, "coronal")

    def write(self) -> None:
        """Write title, numbers, texts, legend and disclaimer."""
        self._text(_SIDE, self.height - 0.36, _shorten(self._title(), 100), size=17, weight="bold")
        self._text(_SIDE, self.height - 0.63, self._subtitle(), size=14)
        right = self.width - _SIDE
        self._text(right, 0.12, f"{codes.DISCLAIMER}.", size=11, color=FAINT, ha="right")
        x = self.width - _TEXT - _SIDE + 0.1
        y = self.height - _TITLE - 0.12
        for heading, lines in self._words:
            self._text(x, y, heading, size=13, weight="bold")
            y -= _HEADING_LINES * _LINE
            # A monospaced font aligns the numbers in columns.
            family = "DejaVu Sans Mono" if heading.startswith("Volumes") else None
            for line in lines:
                self._text(x, y, line, size=11.5, family=family)
                y -= _LINE
            y -= _GAP_LINES * _LINE
        self._legend()

    def _title(self) -> str:
        return f"UAIR round {self._scene.round}, candidate {self._candidate.k}: {self._candidate.character}"

    def _subtitle(self) -> str:
        return _shorten(_headline(self._scene, self._candidate), 90)

    def _paragraphs(self) -> list[tuple[str, list[str]]]:
        scene, labels = self._scene, self._candidate.labels
        different = against_siblings(labels, self._siblings, scene.spacing_mm, scene.organ)
        if scene.uncertain is not None:
            different += of_the_unsure(labels, self._siblings, scene.uncertain, scene.spacing_mm)
        paragraphs = [
            ("Volumes", self._numbers()),
            ("What makes it different", _bullets(different)),
        ]
        if scene.reference is not None:
            said = against_reference(labels, scene.reference, scene.spacing_mm, scene.organ)
            paragraphs.append(("Compared with the selection before", _bullets(said[: _LISTED_LESIONS + 1])))
        return [*paragraphs, *self._warnings()]

    def _warnings(self) -> list[tuple[str, list[str]]]:
        warned = self._scene.warned([self._candidate.labels])
        return [("Warning", _bullets(warned))] if warned else []

    def _numbers(self) -> list[str]:
        measured = measure(self._scene.values, self._candidate.labels, self._scene.spacing_mm)
        lines = [f"{self._scene.organ} {measured.liver_ml:8.0f} ml with its lesions"]
        if not measured.lesions:
            return [*lines, "no lesion"]
        total = sum(lesion.volume_ml for lesion in measured.lesions)
        lines.append(f"lesions {total:6.1f} ml, {measured.burden_percent:.1f} % of the {self._scene.organ}")
        lines.append("lesion   volume   long × short     mean")
        largest = sorted(measured.lesions, key=lambda found: -found.volume_ml)[:_LISTED_LESIONS]
        lines += [
            _lesion_line(lesion, self._scene.unit)
            for lesion in sorted(largest, key=lambda lesion: lesion.number)
        ]
        left = len(measured.lesions) - len(largest)
        return [*lines, f"and {left} smaller"] if left else lines

    def _fitting_height(self) -> float:
        """Return the height of the panels in inches, limited by the texts and by the height of a monitor."""
        z, y, x = self._scene.spacing_mm
        width = (self._columns.stop - self._columns.start) * x
        axial = (self._rows.stop - self._rows.start) * y
        coronal = (self._slices.stop - self._slices.start) * z
        panel = float(np.clip(_PANEL * max(axial, coronal) / width, _LEAST_HEIGHT, _MOST_HEIGHT))
        lines = sum(_HEADING_LINES + len(lines) + _GAP_LINES for _, lines in self._words)
        return max(panel, lines * _LINE / 2)

    def _panel(self, place: int) -> Axes:
        row, column = divmod(place, COLUMNS)
        left = _SIDE + column * (_PANEL + _GAP)
        bottom = _FOOTER + (1 - row) * (self._panel_height + _GAP)
        axes = self.figure.add_axes(
            (
                left / self.width,
                bottom / self.height,
                _PANEL / self.width,
                self._panel_height / self.height,
            )
        )
        axes.set_axis_off()
        return axes

    def _draw(self, axes: Axes, box: tuple[Any, ...], pixel_mm: tuple[float, float], text: str) -> None:
        scene, labels = self._scene, self._candidate.labels[box]
        draw_slice(axes, scene.values[box], labels, pixel_mm, scene.window)
        if scene.uncertain is not None:
            hatch(axes, scene.uncertain[box], _UNCERTAIN_COLOUR, _UNCERTAIN_PATTERN)
        if scene.reference is not None:
            before = scene.reference[box]
            for value in np.unique(before[before > 0]).tolist():
                mask = before > 0 if value == 1 else before == value
                outline(axes, mask, _REFERENCE_COLOUR, 1.0, "dotted")
        number_lesions(axes, labels)
        mark_sides(axes, text)

    def _legend(self) -> None:
        def line(name: str, colour: str, style: str = "solid") -> Line2D:
            return Line2D([], [], color=colour, linestyle=style, linewidth=2, label=name)

        entries: list[Any] = [line(self._scene.organ, as_hex(codes.LIVER_COLOUR))]
        entries.append(line("lesion, with its number", as_hex(codes.lesion_colour(1))))
        if self._scene.reference is not None:
            entries.append(line("selection before", _REFERENCE_COLOUR, "dotted"))
        if self._scene.uncertain is not None:
            entries.append(
                Patch(
                    facecolor="none",
                    edgecolor=_UNCERTAIN_COLOUR,
                    hatch=_UNCERTAIN_PATTERN,
                    linewidth=0,
                    label="the model is unsure",
                )
            )
        self.figure.legend(
            handles=entries,
            loc="lower left",
            bbox_to_anchor=(_SIDE / self.width, 0.03 / self.height),
            ncols=len(entries),
            frameon=False,
            labelcolor=INK,
            fontsize=11.5,
        )

    def _text(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        style = {"color": INK} | style
        self.figure.text(x / self.width, y / self.height, text, fontsize=size, **style)


def _lesion_line(lesion: LesionMeasurements, unit: Unit) -> str:
    diameters = lesion.diameters
    size = f"{diameters.long_mm:.0f} × {diameters.short_mm:.0f} mm"
    mean = f"{lesion.density.mean:4.0f} {unit.name}"
    return f"  {lesion.number:2d}  {lesion.volume_ml:7.1f} ml  {size:>11}  {mean}"


def _bullets(statements: Sequence[str]) -> list[str]:
    lines = []
    for statement in statements:
        first, *rest = textwrap.wrap(statement, _CHARACTERS)
        lines += [f"• {first}", *(f"   {line}" for line in rest)]
    return lines


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
