"""Add outlines of a learned 3-D model as members of a lesion's ensemble.

A promptable model sees a single slice at a time. An *outliner* is a 3-D model that sees all slices of a
lesion. Its prompt is a 3-D box around the lesion, and optionally an earlier outline. The code calls such a
prompt a *question*. The caller passes the outliner.
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
"""The least number of rows and columns of cells that an outliner sees. For large boxes, it sees more."""
SECOND_OPINION = 0.04
"""After a selection, each face of the outliner's second box is moved outwards by this fraction of the box."""
GROWTH, SPREAD = 0.08, 0.06
"""Mean and standard deviation of the outward shift of each face of the second box in round 1.

The unit is the box's size.
"""


class Question(NamedTuple):
    """A prompt for an outliner about one lesion."""

    box: Mask
    """``(n, h, w)``: the cells of the box around the lesion; not empty."""
    known: Float32 | None = None
    """``(n, h, w)`` probability of an earlier outline, or None."""


class Outliner(Protocol):
    """A 3-D model that segments one lesion in a crop."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result."""
        ...

    def outline(self, hu: Float32, questions: Sequence[Question], cell_mm: float, step_mm: float) -> Float32:
        """Return logits ``(Q, A, n, h, w)``: ``A`` alternative outlines for each of ``Q`` prompts.

        The most likely outline comes first.

        Parameters
        ----------
        hu
            ``(n, h, w)`` mean HU of the crop's cells.
        questions
            All prompts for this crop. A common call is faster than a call for each prompt.
        cell_mm, step_mm
            Size of a cell in plane, and distance of slices, both in mm.
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
        """Return the outliner's logits ``(Q, A, n, h, w)`` for each prompt."""
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
        """Return the first outlines ``(K, n, h, w)`` of the lesion in a box. The most likely comes first.

        The outliner gets two boxes: `box`, and a larger box whose faces are shifted at random.
        """
        other = box_around(box, rng.normal(GROWTH, SPREAD, (2, 3)))
        return _alternatives(self.drawn(Question(box, known), Question(other, known)))

    def again(self, reference: Float32) -> Float32:
        """Return outlines ``(K, n, h, w)`` of a lesion after a mask (logits ``(n, h, w)``) was selected.

        The first prompt contains the mask and its box. The second prompt contains only a larger box.
        """
        mask = reference > 0
        from_mask = Question(box_around(mask), probability(reference))
        return _alternatives(self.drawn(from_mask, Question(box_around(mask, SECOND_OPINION))))


def _alternatives(answers: Float32) -> Float32:
    """Return the mean of all prompts' most likely outlines, then the first prompt's other outlines."""
    return np.concatenate([answers[:, 0].mean(axis=0)[None], answers[0, 1:]])


def led_by_outlines(pool: Ensemble, outlines: Float32, seen: Float32 | None = None) -> Ensemble:
    """Return the first ensemble, mixed with the most likely outline. The other outlines join as members.

    Parameters
    ----------
    pool
        The first ensemble, from the promptable model.
    outlines
        ``(K, n, h, w)`` of `OutlinePrompter.first`.
    seen
        ``(n, h, w)`` logits of a lesion finder's map, or None. The map and the outline have equal weight. An
        outliner is better on lesions below 5 ml. A finder is better on larger lesions, because it sees them
        as a whole.
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
    """Return the range of an axis that an outliner sees: twice the box's size, with the box in the middle."""
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
        The outward shift of each face, as a fraction of the box. ``(2, 3)`` has separate values for the first
        and last face of each axis.
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
