"""Readers of a fixed preference: what they would have drawn, and how many rounds it takes to get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from workers.truth.metrics import Mask
from workers.uair.grids import Spacing

MARGIN_MM = 2.0
REACHED_DICE = 0.9
"""From here on a reader has what is wanted."""
LEAST_GAIN = 0.01
"""Less than this in all later rounds is no further gain."""
SMALLEST_PART = 0.2
"""A preference that leaves less than this of a lesion is not asked for."""


@dataclass(frozen=True)
class Wish:
    """A preference and the lesion as a reader of that preference would have drawn it, ``(Z, Y, X)``."""

    preference: str
    mask: Mask


def wishes(lesion: Mask, spacing_mm: Spacing, rim_mm: float | None) -> Iterator[Wish]:
    """Yield what readers of each preference want of a lesion.

    ``truth`` is the one without a preference of its own. ``+2 mm`` and ``-2 mm`` draw all larger or smaller.
    ``rim in`` and ``rim out`` differ where the lesion is known to have a rim: the truth contains it, the
    other reader draws what it encloses. A wish for hardly anything (`SMALLEST_PART`) is left out.

    Parameters
    ----------
    lesion
        ``(Z, Y, X)``, not empty.
    rim_mm
        Thickness of its rim; None where it has none, or nobody knows.
    """
    drawn = [("truth", 0.0), ("+2 mm", MARGIN_MM), ("-2 mm", -MARGIN_MM)]
    if rim_mm is not None:
        drawn += [("rim in", 0.0), ("rim out", -rim_mm)]
    for preference, margin in drawn:
        mask = resized(lesion, spacing_mm, margin)
        if mask.sum() >= SMALLEST_PART * lesion.sum():
            yield Wish(preference, mask)


def resized(mask: Mask, spacing_mm: Spacing, margin_mm: float) -> Mask:
    """Return a mask grown by `margin_mm` at its whole surface, shrunk if negative."""
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
    # distances run from voxel centre to voxel centre, the surface lies half a voxel before
    half = min(spacing_mm) / 2
    if margin_mm > 0:
        result[window] = ndi.distance_transform_edt(~part, spacing_mm) <= margin_mm + half
    else:
        framed = np.pad(part, 1)
        inner = ndi.distance_transform_edt(framed, spacing_mm)[1:-1, 1:-1, 1:-1]
        result[window] = inner > -margin_mm + half
    return result


def rounds_needed(dices: Sequence[float]) -> int:
    """Return after how many rounds a reader stops.

    The first round whose pick reaches `REACHED_DICE`, or else the first one after which no later round gains
    `LEAST_GAIN`.

    Parameters
    ----------
    dices
        Dice of each round's pick with what the reader wants. At least one round.
    """
    for number, reached in enumerate(dices, start=1):
        if reached >= REACHED_DICE or max(dices[number - 1 :]) - reached < LEAST_GAIN:
            return number
    return len(dices)
