"""Draw pictures of the best and the worst cases, from the slices that an evaluation keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

from uair_node.rendering.drawing import INK, PAPER, bounds, draw_slice, note, pixels
from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.results import CaseResult, Measure, Target, View
from workers.research.evaluation.table import TITLES
from workers.research.evaluation.whole import Drawn
from workers.research.evaluation.workbench import RULES
from workers.truth.metrics import lesions_mask, liver_mask

_DPI = 100
_PANEL_INCHES = 3.0
_COLUMNS = 4
HIDDEN = ("uair2", "ensemble_offered", "finder")
"""Methods that the pictures omit, because their result looks like the result of another method."""


def slices_of(case: EvaluationCase, drawn: Sequence[Drawn]) -> Iterator[View]:
    """Yield the slice with the most liver voxels and, if any, the slice with the most lesion voxels."""
    shown = [
        picture
        for picture in drawn
        if picture.method.rule in (None, RULES[0]) and picture.method.name not in HIDDEN
    ]
    shown.sort(key=lambda picture: list(TITLES).index(picture.method.name))
    wanted: tuple[tuple[Target, np.ndarray], ...] = (
        ("liver", liver_mask(case.truth)),
        ("tumour", lesions_mask(case.truth)),
    )
    for what, mask in wanted:
        if not mask.any():
            continue
        z = int(mask.sum(axis=(1, 2)).argmax())
        yield View(
            what=what,
            z=z,
            pixel_mm=case.spacing_mm[1:],
            hu=case.hu[z].copy(),
            truth=case.truth[z].copy(),
            drawn={picture.method.name: picture.labels[z].copy() for picture in shown},
        )


def write_pictures(folder: Path, results: Sequence[CaseResult]) -> list[Path]:
    """Write overlays of the cases with the best and the worst last round, for liver and tumour.

    Return the paths of the pictures. Each picture has a panel for the truth and for every method. The Dice of
    the whole case is written beside the method's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for target in ("liver", "tumour"):
        scored = sorted(_scored(results, target), key=lambda pair: pair[0])
        for name, (_, result) in zip(("worst", "best"), (scored[:1] + scored[-1:]), strict=False):
            path = folder / f"{target}-{name}.png"
            view = next(view for view in result.views if view.what == target)
            imsave(path, _picture(result, view))
            written.append(path)
    return written


def _scored(results: Sequence[CaseResult], target: str) -> Iterator[tuple[float, CaseResult]]:
    for result in results:
        last = [
            measure
            for measure in result.measures
            if _shown(measure, target) and measure.method.name.startswith("uair")
        ]
        if last and any(view.what == target for view in result.views):
            yield last[-1].overlap.dice, result


def _shown(measure: Measure, target: str) -> bool:
    method = measure.method
    return measure.target == target and method.reader == "best" and method.rule in (None, RULES[0])


def _picture(result: CaseResult, view: View) -> np.ndarray:
    dices = {
        measure.method.name: measure.overlap.dice for measure in result.measures if _shown(measure, view.what)
    }
    seen = np.logical_or.reduce([view.truth > 0, *(labels > 0 for labels in view.drawn.values())])
    rows, columns = bounds(seen, 0, view.pixel_mm[0]), bounds(seen, 1, view.pixel_mm[1])
    panels = [(f"truth: {result.case}, slice {view.z + 1}", view.truth)]
    panels += [(f"{TITLES[name]} {dices[name]:.2f}", labels) for name, labels in view.drawn.items()]
    lines = -(-len(panels) // _COLUMNS)
    height = view.pixel_mm[0] * (rows.stop - rows.start) / (view.pixel_mm[1] * (columns.stop - columns.start))
    size = (_COLUMNS * _PANEL_INCHES, lines * _PANEL_INCHES * height)
    figure = Figure(figsize=size, facecolor=PAPER)
    grid = figure.subplots(lines, _COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (title, labels) in zip(grid.ravel(), panels, strict=False):
        draw_slice(axes, view.hu[rows, columns], labels[rows, columns], view.pixel_mm)
        note(axes, title, (0.02, 0.97), va="top", color=INK)
    return pixels(figure, _DPI)
