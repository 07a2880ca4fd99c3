"""Readers with a fixed preference: the shapes that they want, and the rounds until they get these shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from workers.truth.metrics import Mask
from workers.uair.grids import Spacing

MARGIN_MM = 2.0
REACHED_DICE = 0.9
"""A reader stops when the pick has at least this Dice with the wanted shape."""
LEAST_GAIN = 0.01
"""A reader stops if all later rounds gain less Dice than this."""
SMALLEST_PART = 0.2
"""A preference is not used if its wanted shape has less than this part of the lesion's volume."""


@dataclass(frozen=True)
class Wish:
    """A preference, and the lesion in the shape that a reader with this preference wants, ``(Z, Y, X)``."""

    preference: str
    mask: Mask


def wishes(lesion: Mask, spacing_mm: Spacing, rim_mm: float | None) -> Iterator[Wish]:
    """Yield the wanted shape of a lesion for each preference.

    ``truth`` is the shape of a reader without a preference. ``+2 mm`` is 2 mm larger at its surface, ``-2
    mm`` is 2 mm smaller. If the lesion has a known rim, then there are two more shapes. ``rim in`` is the
    truth, which includes the rim. ``rim out`` is the truth without the rim. A shape smaller than the part
    `SMALLEST_PART` of the lesion is left out.

    Parameters
    ----------
    lesion
        ``(Z, Y, X)``, not empty.
    rim_mm
        Thickness of the lesion's rim. None if the lesion has no rim, or if the thickness is unknown.
    """
    drawn = [("truth", 0.0), ("+2 mm", MARGIN_MM), ("-2 mm", -MARGIN_MM)]
    if rim_mm is not None:
        drawn += [("rim in", 0.0), ("rim out", -rim_mm)]
    for preference, margin in drawn:
        mask = resized(lesion, spacing_mm, margin)
        if mask.sum() >= SMALLEST_PART * lesion.sum():
            yield Wish(preference, mask)


def resized(mask: Mask, spacing_mm: Spacing, margin_mm: float) -> Mask:
    """Return the mask ``(Z, Y, X)`` grown by `margin_mm` at its surface. A negative margin shrinks it."""
    if margin_mm == 0 or not mask.any():
        return mask
    (region,) = ndi.find_objects(mask.astype(np.uint8))
    reach = [int(np.ceil(abs(margin_mm) / step)) + 1 for step in spacing_mm]
    window = tuple(
        slice(max(0, part.start - n), min(size, part.stop + n))
        for part, n, size in zip(region, reach, mask.shape, strict=True)
    )
    part = mask[window]
    result = np.zeros_like(mask)
    # Distances are measured between voxel centres. The surface of a mask lies half a voxel from these
    # centres.
    half = min(spacing_mm) / 2
    if margin_mm > 0:
        result[window] = ndi.distance_transform_edt(~part, spacing_mm) <= margin_mm + half
    else:
        framed = np.pad(part, 1)
        inner = ndi.distance_transform_edt(framed, spacing_mm)[1:-1, 1:-1, 1:-1]
        result[window] = inner > -margin_mm + half
    return result


def rounds_needed(dices: Sequence[float]) -> int:
    """Return the number of rounds until a reader stops.

    A reader stops after the first round whose pick reaches `REACHED_DICE`. A reader also stops if no later
    round gains `LEAST_GAIN` Dice.

    Parameters
    ----------
    dices
        Dice of each round's pick with the wanted shape. There is at least one round.
    """
    for number, reached in enumerate(dices, start=1):
        if reached >= REACHED_DICE or max(dices[number - 1 :]) - reached < LEAST_GAIN:
            return number
    return len(dices)
