"""Add outlines of a learned 3-D model as members of a lesion's ensemble.

A promptable model sees a single slice at a time. An outliner sees all of a lesion's slices. Its prompt is a
3-D box, and optionally an earlier outline. The caller passes the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.uair.ensemble import ABSENT, LIMIT, Ensemble, probability
from workers.uair.grids import Box, Crop, Float32, Mask, tight_box
from workers.uair.lesion_maps import LESION_SHARES, led

LEAST_CELLS = 64
"""An outliner sees at least this many cells in each direction of a slice, or twice the box."""
SECOND_OPINION = 0.04
"""Growth of the box around a selected mask for the outliner's second question."""
GROWTH, SPREAD = 0.08, 0.06
"""The second box of the first round: mean and standard deviation of each face's shift outwards.

The unit is the box's size.
"""


class Question(NamedTuple):
    """A question to an outliner about one lesion."""

    box: Mask
    """``(n, h, w)``: the cells of the box around the lesion; not empty."""
    known: Float32 | None = None
    """``(n, h, w)`` probability of an earlier outline, or None."""


class Outliner(Protocol):
    """Segments one lesion in a crop."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the answer."""
        ...

    def outline(self, hu: Float32, questions: Sequence[Question], cell_mm: float, step_mm: float) -> Float32:
        """Return logits ``(Q, A, n, h, w)`` of alternative outlines for each question, the most likely first.

        Parameters
        ----------
        hu
            ``(n, h, w)`` mean HU of the crop's cells.
        questions
            All questions about this crop. Answering them together is faster.
        cell_mm, step_mm
            Size of a cell in plane, and distance of slices.
        """
        ...


@dataclass(frozen=True)
class OutlinePrompter:
    """An outliner bound to a lesion's crop.

    Parameters
    ----------
    outliner
        The model.
    crop
        The crop that it sees.
    hu
        ``(n, h, w)`` mean HU of the crop's cells.
    """

    outliner: Outliner
    crop: Crop
    hu: Float32

    def drawn(self, *questions: Question) -> Float32:
        """Return the logits ``(Q, A, n, h, w)`` of the answers to each question."""
        around = tight_box(np.logical_or.reduce([question.box for question in questions]))
        rows, columns = (
            _window(int(around.start[axis]), int(around.stop[axis]), self.hu.shape[axis]) for axis in (1, 2)
        )
        part = (slice(None), rows, columns)
        seen = [
            Question(question.box[part], None if question.known is None else question.known[part])
            for question in questions
        ]
        answers = self.outliner.outline(self.hu[part], seen, self.crop.cell_mm, self.crop.step_mm)
        logits = np.full((*answers.shape[:2], *self.hu.shape), ABSENT, np.float32)
        logits[..., rows, columns] = np.clip(answers, -LIMIT, LIMIT)
        return logits

    def first(self, box: Mask, known: Float32 | None, rng: np.random.Generator) -> Float32:
        """Return the first outlines ``(K, n, h, w)`` of the lesion in a box, the most likely one first.

        The outliner gets two boxes: `box`, and a box that is larger and shifted at random.
        """
        other = box_around(box, rng.normal(GROWTH, SPREAD, (2, 3)))
        return _alternatives(self.drawn(Question(box, known), Question(other, known)))

    def again(self, reference: Float32) -> Float32:
        """Return outlines ``(K, n, h, w)`` of a lesion after a mask (logits ``(n, h, w)``) was selected.

        The first question contains the mask and its box. The second question contains only a larger box.
        """
        mask = reference > 0
        from_mask = Question(box_around(mask), probability(reference))
        return _alternatives(self.drawn(from_mask, Question(box_around(mask, SECOND_OPINION))))


def _alternatives(answers: Float32) -> Float32:
    """Return the mean of the most likely answers, then the other answers to the first question."""
    return np.concatenate([answers[:, 0].mean(axis=0)[None], answers[0, 1:]])


def led_by_outlines(pool: Ensemble, outlines: Float32, seen: Float32 | None = None) -> Ensemble:
    """Return a first ensemble mixed with the most likely outline. The other outlines are members, too.

    Parameters
    ----------
    pool
        The promptable model's answers.
    outlines
        ``(K, n, h, w)`` of `OutlinePrompter.first`.
    seen
        ``(n, h, w)`` logits of a lesion finder's map. The map then counts as much as the outline. An outliner
        is better on lesions below 5 ml; a map is better on larger lesions, which it sees as a whole.
    """
    if seen is None:
        return joined_by_outlines(led(pool, outlines[0], LESION_SHARES), outlines[1:])
    return joined_by_outlines(led(pool, (outlines[0] + seen) / 2, LESION_SHARES), outlines)


def led_in_box(
    pool: Ensemble, outliner: Outliner, box: Box, crop: Crop, cells: Float32, rng: np.random.Generator
) -> Ensemble:
    """Return an ensemble mixed with the outliner's result in a 3-D box. `cells` are the crop's mean HU."""
    drawn = OutlinePrompter(outliner, crop, cells).first(cells_in(box, crop), None, rng)
    return led_by_outlines(pool, drawn)


def joined_by_outlines(pool: Ensemble, outlines: Float32) -> Ensemble:
    """Return the ensemble with all outlines ``(K, n, h, w)`` that are not empty as further members."""
    for outline in outlines:
        if (outline > 0).any():
            pool = pool.joined_by(outline)
    return pool


def _window(first: int, stop: int, count: int) -> slice:
    """Return the part of an axis that an outliner sees: twice the box's size, with the box in the middle."""
    wanted = min(count, max(LEAST_CELLS, 2 * (stop - first)))
    start = min(max(0, (first + stop - wanted) // 2), count - wanted)
    return slice(start, start + wanted)


def cells_in(box: Box, crop: Crop) -> Mask:
    """Return the crop's cells ``(n, h, w)`` whose centres lie in a box of the volume; never empty."""
    return _between(crop.cell_centres(), box)


def box_around(mask: Mask, growth: float | NDArray[np.float64] = 0.0) -> Mask:
    """Return the cells ``(n, h, w)`` of a box around a mask that is not empty.

    Parameters
    ----------
    growth
        How much farther out each face lies, as a part of the box. ``(2, 3)`` has separate values for the
        first and last face of each axis.
    """
    tight = tight_box(mask)
    moves = np.broadcast_to(growth, (2, 3)) * np.asarray(tight.size)
    low, high = np.asarray(tight.start) - moves[0], np.asarray(tight.stop) + moves[1]
    centres = [np.arange(n, dtype=np.float64) + 0.5 for n in mask.shape]
    return _between(centres, Box(tuple(low.tolist()), tuple(high.tolist())))


def _between(centres: Sequence[NDArray[np.float64]], box: Box) -> Mask:
    inside = []
    for at, low, high in zip(centres, box.start, box.stop, strict=True):
        hit = (at > low) & (at < high)
        hit[int(np.abs(at - (low + high) / 2).argmin())] = True
        inside.append(hit)
    z, y, x = inside
    return np.asarray(z[:, None, None] & y[:, None] & x)
