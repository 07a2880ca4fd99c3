"""Draw the prompt of a training sample of the lesion outliner: a loose box, or an earlier mask with its box.

Samples from phantoms and from real CTs share this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.models.windows import to_outline_channels
from workers.phantoms.fields import Floats, Mask, Triple, Window, smooth_field
from workers.uair.grids import tight_box

#: Slices and cells of a sample.
SHAPE = (24, 64, 64)
LEAST_CELLS = 10
"""A lesion with fewer cells gives no sample. An earlier mask with fewer cells is not used as a prompt."""
_KNOWN = 0.6
_NEVER = 12.0


@dataclass(frozen=True)
class OutlineSample:
    """A training sample of the lesion outliner.

    Attributes
    ----------
    channels
        ``(8, n, h, w)`` of `to_outline_channels`.
    truth
        ``(n, h, w)`` float32, 1 inside the lesion.
    counts
        ``(n, h, w)`` float32: 0 in slices of padding, else 1.
    """

    channels: Floats
    truth: NDArray[np.float32]
    counts: NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """Sizes of a sample's cells in mm: side of a cell in plane, and distance of slices."""

    cell_mm: float
    step_mm: float

    @property
    def spacing(self) -> Triple:
        """Sizes as (z, y, x) in mm."""
        return self.step_mm, self.cell_mm, self.cell_mm

    def field(self, rng: np.random.Generator, length: float) -> Floats:
        """Return a smooth random field over `SHAPE`; see `smooth_field`."""
        return smooth_field(rng, SHAPE, self.spacing, length, 1.0)


def asked(
    crop: Cells, hu: Floats, depth: Floats, lesion: Mask, radius: float, rng: np.random.Generator
) -> OutlineSample:
    """Return the sample: a random prompt, and the slices around its box, with padding after the last slice.

    Parameters
    ----------
    crop
        Sizes of the cells.
    hu
        Densities. All arrays have the shape `SHAPE`.
    depth
        Distance to the lesion's surface in mm, positive inside.
    lesion
        The lesion's mask; not empty.
    radius
        The lesion's approximate radius in mm.
    """
    known = _earlier(crop, depth, radius, rng) if rng.random() < _KNOWN else None
    if known is not None and (known > 0.5).sum() < LEAST_CELLS:
        known = None
    box = _box(lesion, rng, loose=True) if known is None else _box(known > 0.5, rng, loose=False)
    beyond = rng.integers(0, 3, 2) if known is not None or rng.random() < 0.3 else (0, 0)
    first, stop = max(0, box[0].start - int(beyond[0])), min(SHAPE[0], box[0].stop + int(beyond[1]))
    shown, missing = slice(first, stop), SHAPE[0] - (stop - first)
    inside = np.zeros(SHAPE, bool)
    inside[box] = True
    channels = to_outline_channels(
        hu[shown], inside[shown], None if known is None else known[shown], crop.cell_mm, crop.step_mm
    )
    return OutlineSample(
        np.pad(channels, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge"),
        np.pad(lesion[shown], ((0, missing), (0, 0), (0, 0))).astype(np.float32),
        np.pad(np.ones(lesion[shown].shape, np.float32), ((0, missing), (0, 0), (0, 0))),
    )


def _earlier(crop: Cells, depth: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Return the lesion's probability from an earlier mask with typical errors: shifted, uneven, partial."""
    error = crop.field(rng, max(4.0, rng.uniform(0.5, 1.5) * radius)) * rng.uniform(0.0, 0.35) * radius
    error += rng.normal(0.0, 0.15) * radius
    if rng.random() < 0.3:  # the earlier mask covers only a part of the lesion
        facing = rng.normal(size=3)
        facing /= np.linalg.norm(facing)
        at = np.meshgrid(
            *((np.arange(n) + 0.5 - n / 2) * s for n, s in zip(SHAPE, crop.spacing, strict=True)),
            indexing="ij",
        )
        beyond = sum(f * values for f, values in zip(facing, at, strict=True))
        error = np.minimum(error, rng.uniform(-0.3, 1.0) * radius - beyond - depth)
    distance = (depth + error) / np.float32(rng.uniform(0.4, 3.0))
    return (1.0 / (1.0 + np.exp(-np.clip(distance, -_NEVER, _NEVER)))).astype(np.float32)


def _box(mask: Mask, rng: np.random.Generator, *, loose: bool) -> Window:
    """Return a box around a mask. Its faces have random errors, like boxes from people and lesion finders."""
    tight = tight_box(mask)
    parts = []
    away, spread = (rng.uniform(0.0, 0.12), rng.uniform(0.02, 0.1)) if loose else (0.0, 0.02)
    for n, low, high in zip(SHAPE, tight.start, tight.stop, strict=True):
        moves = rng.normal(away, spread, 2) * (high - low)
        start = int(np.clip(np.round(low - moves[0]), 0, n - 1))
        parts.append(slice(start, int(np.clip(np.round(high + moves[1]), start + 1, n))))
    return parts[0], parts[1], parts[2]
