"""Draw the page of an accepted candidate: slices, the organ as a solid, and the report's numbers."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from uair_node.findings.record import Findings
from uair_node.rendering.drawing import mark_sides, note, pixels
from uair_node.rendering.page_images import COLUMNS, DPI, CandidatePage, Picture, Scene
from uair_node.rendering.result_numbers import result_lines
from uair_node.rendering.sheet import SheetCandidate
from uair_node.rendering.surface import solid_view


def draw_result(scene: Scene, k: int, findings: Findings) -> Picture:
    """Draw the page of the accepted candidate `k`: slices, and the organ as a solid from front and right.

    The numbers on the page come from `findings`, as in the report.

    Raises
    ------
    ValueError
        The scene has no candidate `k`.
    """
    return pixels(result_figure(scene, k, findings), DPI)


def result_figure(scene: Scene, k: int, findings: Findings) -> Figure:
    """Return the matplotlib figure of which `draw_result` returns the pixels."""
    (candidate,) = (shown for shown in scene.candidates if shown.k == k)
    return _ResultPage(replace(scene, candidates=(candidate,)), candidate, findings).drawn()


class _ResultPage(CandidatePage):
    """The page of an accepted candidate during its drawing."""

    def __init__(self, scene: Scene, candidate: SheetCandidate, findings: Findings) -> None:
        self._findings = findings
        super().__init__(scene, candidate)

    def draw_panels(self) -> None:
        """Draw three axial slices, a coronal slice, and two views of the solid."""
        self._draw_axial(COLUMNS)
        self._draw_coronal(COLUMNS)
        self._draw_solid(COLUMNS + 1, 0.0, "from the front", ("R", "L"))
        self._draw_solid(COLUMNS + 2, 90.0, "from the right", ("P", "A"))

    def _title(self) -> str:
        return f"UAIR result of round {self._scene.round}"

    def _subtitle(self) -> str:
        return f"Accepted: candidate {self._candidate.k} ({self._candidate.character})."

    def _paragraphs(self) -> list[tuple[str, list[str]]]:
        numbers = result_lines(self._findings, self._scene.organ)
        return [("Volumes and axes", numbers), *self._warnings()]

    def _draw_solid(self, place: int, azimuth_deg: float, text: str, sides: tuple[str, str]) -> None:
        axes = self._panel(place)
        solid = solid_view(self._candidate.labels, self._scene.spacing_mm, azimuth_deg)
        axes.imshow(solid.picture, interpolation="bilinear")
        for number, (row, column) in solid.lesions:
            place_in = {"transform": axes.transData, "ha": "center", "va": "center", "weight": "bold"}
            note(axes, str(number), (column, row), size=11, **place_in)
        mark_sides(axes, text, *sides)
