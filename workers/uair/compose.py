"""Combine the logits of single targets into one label volume: 0 background, 1 liver, 1 + n lesion n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.grids import Crop, Float32, Mask, bounding_box
from workers.uair.localize import largest_component

LIVER = 1
Labels = NDArray[np.uint8]
_ERASED = -4.0
_FILLED = 2.0
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]


@dataclass(frozen=True)
class Layer:
    """One target's logits ``(n, cells, cells)`` on its crop, and its label value."""

    value: int
    crop: Crop
    logits: Float32


def tidied(logits: Float32) -> Float32:
    """Change logits so that their mask is one component without holes, in 3-D and in each slice."""
    box = bounding_box(logits > 0)
    if box is None:
        return logits
    # The box has a margin of one cell, so that all cells outside the mask are connected.
    part = box.extended((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), logits.shape).outer(logits.shape)
    result = logits.astype(np.float32)
    inside = result[part]
    mask = inside > 0
    kept = largest_component(mask)
    # A hole in 3-D is a hole in each slice, so filling the slices fills it.
    solid = ndimage.binary_fill_holes(kept, _IN_PLANE)
    inside[mask & ~kept] = np.minimum(inside[mask & ~kept], _ERASED)
    inside[solid & ~kept] = np.maximum(inside[solid & ~kept], _FILLED)
    return result


def compose(liver: Layer, domain: Mask, lesions: Sequence[Layer], shape: tuple[int, int, int]) -> Labels:
    """Return the label volume ``(Z, Y, X)`` of one candidate.

    Logits are interpolated to the voxels and then thresholded. Lesion voxels outside `domain` (on the liver's
    crop) are dropped. All other lesion voxels replace liver voxels. If two lesions contain the same voxel,
    then the larger logit decides.
    """
    labels = np.zeros(shape, np.uint8)
    region, values = liver.crop.positive_part(tidied(liver.logits))
    labels[region][values > 0] = LIVER
    strength = np.zeros(shape, np.float16) if len(lesions) > 1 else None
    allowed = np.where(domain, 1.0, -1.0).astype(np.float32)
    for lesion in lesions:
        part, values = lesion.crop.positive_part(tidied(lesion.logits))
        z, y, x = (np.arange(s.start, s.stop) + 0.5 for s in part)
        inside = (values > 0) & (liver.crop.sampled(allowed, z, y, x, outside=-1.0) > 0)
        if strength is not None:
            inside &= values > strength[part]
            strength[part][inside] = values[inside]
        labels[part][inside] = lesion.value
    return labels


def dice_by_label(a: Labels, b: Labels) -> dict[int, float]:
    """Return the Dice of every label value in `a` or `b`. For the liver's Dice, lesions count as liver."""
    counts = np.zeros((256, 256), np.int64)
    for plane_a, plane_b in zip(a, b, strict=True):
        if plane_a.any() or plane_b.any():
            pair = plane_a.astype(np.int64).ravel() * 256 + plane_b.ravel()
            counts += np.bincount(pair, minlength=65536).reshape(256, 256)
    counts[0, 0] = 0
    in_a, in_b = counts.sum(axis=1), counts.sum(axis=0)
    result = {}
    for value in np.flatnonzero(in_a + in_b):
        if value > LIVER:
            result[int(value)] = float(2 * counts[value, value] / (in_a[value] + in_b[value]))
    whole = in_a[LIVER:].sum() + in_b[LIVER:].sum()
    if whole:
        result[LIVER] = float(2 * counts[LIVER:, LIVER:].sum() / whole)
    return result


def spread_apart(logits: Float32, fixed: int | None, largest_dice: float) -> Float32:
    """Return four different candidates ``(4, n, h, w)``. If two are too similar, then logits are shifted.

    Parameters
    ----------
    logits
        Logits of four candidates. No candidate is empty.
    fixed
        Index of a candidate that stays unchanged (the reader's selection), or None.
    largest_dice
        The largest Dice of two masks of the result. It may be exceeded, because no mask shrinks below half of
        its size.
    """
    result = logits.copy()
    sizes = (logits > 0).reshape(len(logits), -1).sum(axis=1)
    order = np.argsort(-sizes, kind="stable")
    anchor = int(np.flatnonzero(order == fixed)[0]) if fixed is not None else 1
    placed = [int(order[anchor])]
    outward = [(int(order[i]), 0.25) for i in range(anchor - 1, -1, -1)]
    inward = [(int(order[i]), -0.25) for i in range(anchor + 1, len(order))]
    for index, step in outward + inward:
        moved = result[index]
        for _ in range(40):
            if all(_dice(moved > 0, result[other] > 0) <= largest_dice for other in placed):
                break
            if ((moved + step) > 0).sum() < 0.5 * sizes[index]:
                break
            moved = moved + np.float32(step)
        result[index] = moved
        placed.append(index)
    return result


def _dice(a: Mask, b: Mask) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * float((a & b).sum()) / total if total else 1.0
