"""A simulated reader who draws a line over each lesion that round 1 missed, and then picks.

The node's own rules (`uair_node.selection.mark_meaning`) turn the lines into marks. The engine's own steps
compute the next four candidates.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

from dicom_config.modalities.profile import LIVER as LIVER_ORGAN
from uair_node.cases.marks import Marks
from uair_node.dicom.graphics import Graphic, Points, Shape
from uair_node.selection.mark_meaning import Document, Offer, understand
from workers.compute.round_task import marked_target
from workers.engine import Feedback, Round
from workers.research.evaluation.detection import LARGE_MM, diameters_mm, matched
from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.reader import combined, each_best
from workers.research.evaluation.results import Measure, Method, Strokes, compared
from workers.research.evaluation.whole import Drawn, Opened, measures_of
from workers.research.evaluation.workbench import Workbench
from workers.truth.metrics import LIVER, Labels, Mask
from workers.uair.grids import Spacing

READER = "measuring"
OFF_MM = (1.0, 3.0)
"""Smallest and largest distance in mm of a line's end from its true place."""
PICKS = 2
_CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


class _CanonicalGraphics:
    """Graphics whose points already lie on the canonical grid."""

    def place(self, graphic: Graphic) -> Points:
        """Return the graphic's points."""
        return graphic.points


def measured_line(lesion: Mask, spacing: Spacing, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a line over a lesion, ``(2, 3)``: (z, y, x) of both ends in edge coordinates.

    The line joins the two points that are farthest apart in the lesion's largest slice. Each end is then
    moved within the slice in a random direction. `OFF_MM` limits the length of this shift. `lesion` is ``(Z,
    Y, X)``.
    """
    k = int(lesion.sum(axis=(1, 2)).argmax())
    pixel = np.asarray(spacing[1:])
    edge = np.argwhere(lesion[k] & ~ndimage.binary_erosion(lesion[k]))
    corners = np.unique((edge[:, None] + _CORNERS).reshape(-1, 2), axis=0) * pixel
    apart = squareform(pdist(corners))
    ends = corners[list(np.unravel_index(int(apart.argmax()), apart.shape))]
    angles, off = rng.uniform(0.0, 2.0 * np.pi, 2), rng.uniform(*OFF_MM, 2)
    ends = ends + off[:, None] * np.column_stack([np.sin(angles), np.cos(angles)])
    return np.column_stack([np.full(2, k + 0.5), ends / pixel])


def measure_missed(
    case: EvaluationCase, bench: Workbench, start: Opened, seed: int
) -> tuple[list[Measure], Strokes | None]:
    """Let a reader measure each lesion that round 1 missed, then pick twice.

    Return the measures, and the counts of lines. For a case without lesions, the counts are None.

    Parameters
    ----------
    start
        Round 1. Its candidate 1 contains all found lesions.
    seed
        Seed of the random errors of the lines' ends.
    """
    offered = np.zeros_like(case.truth) if start.first is None else start.first.candidates[0].labels
    missed = [value for value in case.lesions if value not in matched(case, offered)]
    lines = {
        value: measured_line(case.lesion(value), case.spacing_mm, _rng(case, seed, value)) for value in missed
    }
    values: Mapping[int, int] = {}
    drawn = _nothing(case, start)
    if start.first is not None:
        marks = _understood(case, start.first, lines)
        values = _values(marks)
        drawn = _played(case, bench, start, marks, len(lines))
    sizes = diameters_mm(case)
    found = [measure for result in drawn for measure in measures_of(case, result)]
    for picks, result in enumerate(drawn):
        found += [
            compared(
                case.name,
                result.method,
                "missed",
                result.labels == values.get(value, -1),
                case.lesion(value),
                case.spacing_mm,
                seconds=result.seconds,
                picks=1 + picks,
                lesion=value,
            )
            for value in missed
            if sizes[value] >= LARGE_MM
        ]
    boxes = sum(int(case.lesion(value).any(axis=(1, 2)).sum()) for value in case.lesions)
    refused = sum(value not in values for value in missed)
    strokes = Strokes(len(case.lesions), len(missed), len(lines), refused, boxes) if case.lesions else None
    return found, strokes


def _understood(case: EvaluationCase, first: Round, lines: Mapping[int, Points]) -> Marks:
    """Return the node's marks for the lines. `Mark.tracking` is the label value of the true lesion."""
    graphics = [
        Graphic(Shape.LINE, points, "", None, "", group, str(value), "", (), ())
        for group, (value, points) in enumerate(lines.items())
    ]
    candidates = [candidate.labels for candidate in first.candidates]
    used = [value - LIVER for value in first.targets if value > LIVER]
    offer = Offer(candidates, used, case.spacing_mm, LIVER_ORGAN)
    marks, _ = understand(graphics, _CanonicalGraphics(), offer, (), Document("", frozenset()))
    return marks


def _values(marks: Marks) -> dict[int, int]:
    """Return label value of a true lesion -> label value of the new lesion that its line created."""
    return {int(mark.tracking): lesion.value for lesion in marks.lesions for mark in lesion.marks}


def _played(case: EvaluationCase, bench: Workbench, start: Opened, marks: Marks, lines: int) -> list[Drawn]:
    """Return the reader's labels after the lines, and after each pick."""
    assert start.first is not None, "a liver was found"
    engine, watch = bench.engines[start.rule], bench.stopwatch()
    made = start.first
    if marks.lesions:
        marked = [marked_target(lesion) for lesion in marks.lesions]
        state = engine.with_marked_lesions(
            case.hu, case.spacing_mm, made.state, marked, content=start.content
        )
        unsaid = Feedback(unsaid=frozenset(target.value for target in state.targets))
        made = engine.next_round(case.hu, case.spacing_mm, state, unsaid, content=start.content)
    seconds = start.seconds + watch.seconds
    found = [Drawn(_method(start, 0), made.candidates[0].labels, seconds, 0, lines)]
    answers = lines
    for number in range(1, PICKS + 1):
        candidates: Sequence[Labels] = [candidate.labels for candidate in made.candidates]
        picks = each_best(candidates, case.truth, made.targets)
        answers += len(picks) - 1
        found.append(Drawn(_method(start, number), combined(candidates, picks), seconds, number, answers))
        if number < PICKS:
            watch = bench.stopwatch()
            said = Feedback(picks[LIVER], picks)
            made = engine.next_round(case.hu, case.spacing_mm, made.state, said, content=start.content)
            seconds += watch.seconds
    return found


def _nothing(case: EvaluationCase, start: Opened) -> list[Drawn]:
    """Return the reader's empty result for a case in which no liver was found."""
    empty = np.zeros_like(case.truth)
    return [Drawn(_method(start, number), empty, start.seconds) for number in range(PICKS + 1)]


def _method(start: Opened, picks: int) -> Method:
    return Method(f"marked{picks}", start.rule, READER)


def _rng(case: EvaluationCase, seed: int, value: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(case.name.encode()), value])
