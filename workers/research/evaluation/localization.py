"""Measure how well a localizer finds the liver on cases with known truth: box, coarse mask, seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.truth.metrics import Mask, dice
from workers.uair.grids import Box, Spacing, bounding_box
from workers.uair.localize import Localizer, Location
from workers.uair.templates import FACES


@dataclass(frozen=True)
class LocalizationScore:
    """The result of one localizer on one case.

    Attributes
    ----------
    localizer, case
        Names.
    found
        Whether the localizer found a liver. If not, then all other numbers except `seconds` are 0.
    iou
        Intersection over union of two boxes: the localizer's box and the true liver's box. The localizer's
        box is extended, as the engine uses it.
    inside
        Part of the true liver that lies inside the localizer's box.
    faces_mm
        Distance in mm between each face of the coarse mask's box and the same face of the liver's box, in the
        order of `FACES`. A distance is negative if the coarse mask's face lies inside the liver's box.
    dice
        Dice of the coarse mask with the true liver.
    seconds
        Computing time.
    """

    localizer: str
    case: str
    found: bool
    iou: float
    inside: float
    faces_mm: tuple[float, ...]
    dice: float
    seconds: float


def score_localizer(
    name: str, localizer: Localizer, case: str, hu: NDArray[np.int16], spacing: Spacing, liver: Mask
) -> LocalizationScore:
    """Locate the liver of a case, and compare the result with the truth.

    `hu` and `liver` are ``(Z, Y, X)`` on the canonical grid.
    """
    started = time.perf_counter()
    location = localizer.locate(hu, spacing)
    seconds = time.perf_counter() - started
    truth = bounding_box(liver)
    if location is None or truth is None:
        return LocalizationScore(name, case, False, 0.0, 0.0, (0.0,) * len(FACES), 0.0, seconds)
    mask = _coarse_mask(location, liver.shape)
    return LocalizationScore(
        localizer=name,
        case=case,
        found=True,
        iou=_iou(location.box, truth),
        inside=float(liver[location.box.outer(liver.shape)].sum() / liver.sum()),
        faces_mm=_faces_mm(bounding_box(mask), truth, spacing),
        dice=dice(mask, liver),
        seconds=seconds,
    )


def table_of(scores: Sequence[LocalizationScore]) -> str:
    """Return a table as text: a line for each score, and a line of means for each localizer.

    The means of the faces are means of absolute errors.
    """
    head = f"{'case':<24}{'localizer':<11}{'IoU':>6}{'inside':>8}{'Dice':>7}"
    lines = [head + "".join(f"{face[:5]:>7}" for face in FACES) + f"{'s':>7}"]
    lines += [_line(score.case, [score], np.asarray(score.faces_mm)) for score in scores]
    for name in dict.fromkeys(score.localizer for score in scores):
        own = [score for score in scores if score.localizer == name and score.found]
        missed = sum(score.localizer == name and not score.found for score in scores)
        label = f"mean of {len(own)}" + (f", {missed} missed" if missed else "")
        if own:
            lines.append(_line(label, own, np.abs([score.faces_mm for score in own]).mean(axis=0)))
    return "\n".join(lines)


def _line(case: str, scores: Sequence[LocalizationScore], faces_mm: NDArray[np.float64]) -> str:
    if not scores[0].found:
        return f"{case:<24}{scores[0].localizer:<11}  no liver found"
    means = np.mean([(score.iou, score.inside, score.dice, score.seconds) for score in scores], axis=0)
    faces = "".join(f"{face:>7.0f}" for face in faces_mm)
    front = f"{case:<24}{scores[0].localizer:<11}{means[0]:>6.2f}{means[1]:>8.3f}{means[2]:>7.3f}"
    return f"{front}{faces}{means[3]:>7.1f}"


def _coarse_mask(location: Location, shape: tuple[int, ...]) -> Mask:
    z, y, x = (np.arange(n, dtype=np.float64) + 0.5 for n in shape)
    return np.asarray(location.coarse.at(z, y, x) > 0.5)


def _iou(a: Box, b: Box) -> float:
    sides = [
        max(0.0, min(p, q) - max(m, n)) for m, n, p, q in zip(a.start, b.start, a.stop, b.stop, strict=True)
    ]
    shared = float(np.prod(sides))
    return shared / (float(np.prod(a.size)) + float(np.prod(b.size)) - shared)


def _faces_mm(found: Box | None, truth: Box, spacing: Spacing) -> tuple[float, ...]:
    if found is None:
        return (0.0,) * len(FACES)
    start = (np.array(truth.start) - found.start) * spacing
    stop = (np.array(found.stop) - truth.stop) * spacing
    return tuple(float(mm) for mm in (*start, *stop))
