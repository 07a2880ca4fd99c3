"""Outlines of a learned 3-D model as members of a lesion's ensemble.

A promptable model sees one slice at a time; an outliner sees all of a lesion's slices and is asked by a 3-D
box, and by an earlier outline if there is one. Which model answers is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.uair.ensemble import ABSENT, LIMIT, Ensemble, probability
from workers.uair.grids import Box, Crop, Float32, Mask, bounding_box
from workers.uair.lesion_maps import LESION_SHARES, led

LEAST_CELLS = 64
"""An outliner sees at least so many cells in each direction of a slice, or twice the box."""
SECOND_OPINION = 0.04
"""Growth of the box around a selected mask that an outliner is asked with a second time."""
MOVES = ((0.0, 0.0), (0.06, 0.08), (0.06, -0.04))
"""How the boxes of outlines differ: random shift of each face (standard deviation) and growth, both as parts
of the box."""


class Outliner(Protocol):
    """Draws one lesion in a crop."""

    @property
    def digest(self) -> str:
        """SHA-256 of whatever decides the answer."""
        ...

    def outline(
        self, hu: Float32, box: Mask, known: Float32 | None, cell_mm: float, step_mm: float
    ) -> Float32:
        """Return logits ``(A, n, h, w)`` of alternative outlines, the first the most likely one.

        Parameters
        ----------
        hu
            ``(n, h, w)`` mean HU of the crop's cells.
        box
            ``(n, h, w)``: the cells of the box that holds the lesion; not empty.
        known
            ``(n, h, w)`` probability of an earlier outline, or None.
        cell_mm, step_mm
            Size of a cell in plane, and distance of slices.
        """
        ...


@dataclass(frozen=True)
class Sketch:
    """An outliner bound to a lesion's crop.

    Parameters
    ----------
    outliner
        The model.
    crop
        Where it looks.
    hu
        ``(n, h, w)`` mean HU of the crop's cells.
    """

    outliner: Outliner
    crop: Crop
    hu: Float32

    def drawn(self, box: Mask, known: Float32 | None = None) -> Float32:
        """Return logits ``(A, n, h, w)`` for a box and maybe an earlier outline's probability."""
        around = _bounds(box)
        rows, columns = (
            _window(int(around.start[axis]), int(around.stop[axis]), box.shape[axis]) for axis in (1, 2)
        )
        part = (slice(None), rows, columns)
        answers = self.outliner.outline(
            self.hu[part],
            box[part],
            None if known is None else known[part],
            self.crop.cell_mm,
            self.crop.step_mm,
        )
        logits = np.full((len(answers), *self.hu.shape), ABSENT, np.float32)
        logits[:, :, rows, columns] = np.clip(answers, -LIMIT, LIMIT)
        return logits

    def first(self, box: Mask, known: Float32 | None, rng: np.random.Generator) -> Float32:
        """Return the first outlines ``(K, n, h, w)`` of what a box holds, the most likely one first."""
        around = [box_around(box, rng, *move) for move in MOVES]
        return _alternatives([self.drawn(one, known) for one in around])

    def again(self, reference: Float32, rng: np.random.Generator) -> Float32:
        """Return outlines ``(K, n, h, w)`` of a lesion of which a mask was selected, logits ``(n, h, w)``.

        Two start from the mask, one from its box alone: a second opinion.
        """
        mask, known = reference > 0, probability(reference)
        answers = [self.drawn(box_around(mask, rng, *move), known) for move in MOVES[:2]]
        answers.append(self.drawn(box_around(mask, rng, growth=SECOND_OPINION)))
        return _alternatives(answers)


def _alternatives(answers: list[Float32]) -> Float32:
    """Return the mean of the most likely answers, then the other answers to the first question."""
    mean = np.mean([answer[0] for answer in answers], axis=0)
    return np.concatenate([mean[None], answers[0][1:]]).astype(np.float32)


def led_by_outlines(pool: Ensemble, outlines: Float32, seen: Float32 | None = None) -> Ensemble:
    """Return a first pool whose members follow the most likely outline in part, and that holds them all.

    Parameters
    ----------
    pool
        The promptable model's answers.
    outlines
        ``(K, n, h, w)`` of `Sketch.first`.
    seen
        ``(n, h, w)`` logits of a lesion finder's map, which then leads as much as the outline does: an
        outliner is better on lesions below 5 ml, a map on larger ones, which it sees as a whole.
    """
    if seen is None:
        return joined_by_outlines(led(pool, outlines[0], LESION_SHARES), outlines[1:])
    return joined_by_outlines(led(pool, (outlines[0] + seen) / 2, LESION_SHARES), outlines)


def joined_by_outlines(pool: Ensemble, outlines: Float32) -> Ensemble:
    """Return the pool with those outlines ``(K, n, h, w)`` as members that show anything."""
    for one in outlines:
        if (one > 0).any():
            pool = pool.joined_by(one)
    return pool


def _window(first: int, stop: int, count: int) -> slice:
    """Return the part of an axis that an outliner sees: the box in the middle of twice its size."""
    wanted = min(count, max(LEAST_CELLS, 2 * (stop - first)))
    start = min(max(0, (first + stop - wanted) // 2), count - wanted)
    return slice(start, start + wanted)


def cells_in(box: Box, crop: Crop) -> Mask:
    """Return ``(n, h, w)``: the crop's cells whose centres lie in a box of the volume; never empty."""
    return _between(crop.cell_centres(), box)


def box_around(mask: Mask, rng: np.random.Generator, spread: float = 0.0, growth: float = 0.0) -> Mask:
    """Return the cells ``(n, h, w)`` of a box around a mask that is not empty.

    Parameters
    ----------
    spread
        Standard deviation of each face's random shift, as a part of the box.
    growth
        How much farther out each face lies, as a part of the box.
    """
    tight = _bounds(mask)
    size = np.asarray(tight.size)
    moves = (rng.normal(growth, spread, (2, 3)) if spread else np.full((2, 3), growth)) * size
    low, high = np.asarray(tight.start) - moves[0], np.asarray(tight.stop) + moves[1]
    centres = [np.arange(n, dtype=np.float64) + 0.5 for n in mask.shape]
    return _between(centres, Box(tuple(low.tolist()), tuple(high.tolist())))


def _bounds(mask: Mask) -> Box:
    tight = bounding_box(mask)
    if tight is None:
        raise ValueError("an empty mask has no box")
    return tight


def _between(centres: Sequence[NDArray[np.float64]], box: Box) -> Mask:
    inside = []
    for at, low, high in zip(centres, box.start, box.stop, strict=True):
        hit = (at > low) & (at < high)
        hit[int(np.abs(at - (low + high) / 2).argmin())] = True
        inside.append(hit)
    z, y, x = inside
    return np.asarray(z[:, None, None] & y[:, None] & x)
