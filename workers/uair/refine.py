"""Make the members of the next round from the reader's selection (equation 4).

``y_new = f(y_previous, feedback)``: the selected mask is the reference. The network is prompted again: with
boxes around the reference, with the reference as mask prompt, and with points in certain and uncertain
places. Then some masks are reshaped, because the network alone does not draw all likely shapes. A reshaped
mask is larger or smaller, has a moved side, or contains a piece of an earlier candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.ensemble import LIMIT
from workers.uair.grids import Crop, Float32, Mask
from workers.uair.prompts import INSIDE, OUTSIDE, PADDING, Member, Prompts, boxes_of, filled, moved

CERTAIN = 2.0
"""The logit magnitude from which a cell counts as certain."""
ROUND_SPREAD = (0.07, 0.045, 0.035)
"""Jitter (random shift) of the boxes in round 2, round 3 and later rounds. Better selections need less."""
REJECTED_SPREAD = 0.14


class Kind(Enum):
    """The way in which a refined member is made."""

    BOX = auto()
    MASK = auto()
    POINTS = auto()
    LEVEL = auto()
    ONE_SIDED = auto()
    CROSSOVER = auto()


_PATTERN = (
    *(Kind.BOX, Kind.MASK, Kind.POINTS, Kind.LEVEL, Kind.ONE_SIDED, Kind.LEVEL, Kind.CROSSOVER, Kind.MASK),
    *(Kind.BOX, Kind.LEVEL, Kind.POINTS, Kind.ONE_SIDED, Kind.LEVEL, Kind.MASK, Kind.CROSSOVER, Kind.BOX),
)


def kinds_of(count: int) -> tuple[Kind, ...]:
    """Return the kinds of `count` members. `_PATTERN` gives each kind its share."""
    return tuple(_PATTERN[index % len(_PATTERN)] for index in range(count))


def spread_of(number: int, *, rejected: bool) -> float:
    """Return the box jitter of round `number` (2 and later)."""
    return REJECTED_SPREAD if rejected else ROUND_SPREAD[min(number - 2, len(ROUND_SPREAD) - 1)]


def refined_members(
    reference: Float32,
    uncertain: Mask,
    kinds: tuple[Kind, ...],
    rng: np.random.Generator,
    *,
    pixels: int,
    spread: float,
    tokens: tuple[int | None, ...],
) -> list[Member]:
    """Return the prompts for the network, one member for each kind.

    Parameters
    ----------
    reference
        ``(n, h, w)`` logits of the selected mask; not empty.
    uncertain
        ``(n, h, w)`` M_unc.
    pixels
        Side of the model's input.
    spread
        Standard deviation of the boxes' jitter, as a fraction of the box.
    """
    boxes = boxes_of(reference, 0.0, pixels)
    known = np.flatnonzero(~np.isnan(boxes[:, 0]))
    own = np.arange(known[0], known[-1] + 1)
    wider = np.arange(max(0, known[0] - 1), min(len(boxes), known[-1] + 2))
    smooth = ndimage.median_filter(filled(boxes), size=(3, 1), mode="nearest")
    members = []
    for index, kind in enumerate(kinds):
        slices = wider if index % 2 else own
        growth = spread * float(rng.choice([-1.5, -0.5, 0.5, 1.5]))
        asked = moved(smooth[slices], rng.normal(0.0, spread, 4), growth)
        points = labels = masks = None
        if kind is Kind.CROSSOVER:  # made without the network, see `reshape`
            slices, asked = slices[:0], asked[:0]
        if kind is not Kind.BOX:
            masks = np.clip(reference[slices], -LIMIT, LIMIT).astype(np.float32)
        if kind is Kind.POINTS:
            points, labels = _points(reference, uncertain, slices, rng, pixels)
        token = tokens[index % len(tokens)]
        members.append(Member(Prompts(slices, asked, points, labels, masks), token))
    return members


def _points(
    reference: Float32, uncertain: Mask, slices: NDArray[np.int64], rng: np.random.Generator, pixels: int
) -> tuple[Float32, NDArray[np.int64]]:
    """Return three points for each slice: certainly inside, certainly outside, uncertain.

    All uncertain points of a member have the same label, so that members differ as a whole.
    """
    vote = int(rng.choice([INSIDE, OUTSIDE]))
    near = ndimage.binary_dilation(reference > 0, np.ones((1, 5, 5)))
    places = (
        (reference > CERTAIN, INSIDE),
        (near & (reference < -CERTAIN), OUTSIDE),
        (uncertain & ((reference > 0) != bool(vote)), vote),
    )
    scale = pixels / reference.shape[-1]
    points = np.zeros((len(slices), len(places), 2), np.float32)
    labels = np.full((len(slices), len(places)), PADDING, np.int64)
    for row, z in enumerate(slices):
        for column, (region, label) in enumerate(places):
            cells = np.argwhere(region[z])
            if len(cells):
                y, x = cells[rng.integers(len(cells))]
                points[row, column] = ((x + 0.5) * scale, (y + 0.5) * scale)
                labels[row, column] = label
    return points, labels


@dataclass(frozen=True)
class Shaping:
    """Inputs of `reshape`, apart from the reference and the network's logits.

    Parameters
    ----------
    crop
        The crop. It gives the cells' size in mm.
    radii_mm
        Radii that the reader may want, ascending. Each LEVEL member takes the next radius.
    radius_mm
        Radius of a sphere with the reference's volume.
    history
        ``(H, n, h, w)`` logits of earlier candidates.
    history_weights
        ``(H,)`` posterior probability of each earlier candidate.
    """

    crop: Crop
    radii_mm: NDArray[np.float64]
    radius_mm: float
    history: Float32
    history_weights: NDArray[np.float64]


def signed_distance_mm(mask: Mask, crop: Crop) -> Float32:
    """Return the signed distance to a mask's surface in mm, positive inside.

    The mask is neither empty nor full.
    """
    sampling = (crop.step_mm, crop.cell_mm, crop.cell_mm)
    inside = ndimage.distance_transform_edt(mask, sampling)
    outside = ndimage.distance_transform_edt(~mask, sampling)
    # Half a cell on either side, so that the zero level runs between cells.
    return np.where(mask, inside - crop.cell_mm / 2, crop.cell_mm / 2 - outside).astype(np.float32)


def reshape(
    logits: Float32,
    reference: Float32,
    kinds: tuple[Kind, ...],
    shaping: Shaping,
    rng: np.random.Generator,
) -> Float32:
    """Return the members ``(N, n, h, w)``. Those of kind LEVEL, ONE_SIDED or CROSSOVER are reshaped."""
    distance = signed_distance_mm(reference > 0, shaping.crop) / shaping.crop.cell_mm
    sides = _relative_position(reference > 0, shaping.crop)
    pool = logits.copy()
    levels = 0
    for index, kind in enumerate(kinds):
        if kind in (Kind.BOX, Kind.MASK, Kind.POINTS):
            continue
        blend = 0.6 * np.clip(distance, -LIMIT, LIMIT) + 0.25 * np.clip(logits[index], -LIMIT, LIMIT)
        if kind is Kind.LEVEL:
            wanted = shaping.radii_mm[levels % len(shaping.radii_mm)]
            levels += 1
            pool[index] = blend + (wanted - shaping.radius_mm) / shaping.crop.cell_mm
        elif kind is Kind.ONE_SIDED:
            facing = np.tensordot(_direction(rng), sides, axes=1)
            reach = 0.2 * shaping.radius_mm / shaping.crop.cell_mm * float(rng.choice([-1.0, 1.0]))
            pool[index] = blend + reach * np.maximum(facing, 0.0)
        else:
            donor = shaping.history[rng.choice(len(shaping.history), p=shaping.history_weights)]
            facing = np.tensordot(_direction(rng), sides, axes=1) - rng.uniform(-0.3, 0.5)
            share = 1.0 / (1.0 + np.exp(-np.clip(5.0 * facing, -20.0, 20.0)))
            own = np.clip(reference, -LIMIT, LIMIT)
            pool[index] = own * (1.0 - share) + np.clip(donor, -LIMIT, LIMIT) * share
    return pool


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.normal(0.0, 1.0, 3)
    return np.asarray(vector / np.linalg.norm(vector))


def _relative_position(mask: Mask, crop: Crop) -> Float32:
    """Return positions ``(3, n, h, w)`` relative to the mask's centre, in half extents of the mask."""
    cells = np.argwhere(mask)
    centre = cells.mean(axis=0)
    half = cells.std(axis=0) * 1.7 + 0.7
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in mask.shape), indexing="ij")).astype(np.float32)
    relative = (grid - centre[:, None, None, None]) / half[:, None, None, None]
    length = np.sqrt((relative**2).sum(axis=0))
    return np.asarray(relative / np.maximum(1.0, length), np.float32)
