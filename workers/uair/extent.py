"""Trace the liver's extent slice by slice. The resulting mask gives the ensemble's prompts.

A coarse localizer is least certain at the liver's ends: at the lower end, 9 to 46 mm of liver were missing.
So tracing starts on slices where localizer, model and density (HU) agree. From these slices, tracing goes
down and up: each slice's mask is the prompt for the next slice. Tracing ends where the mask no longer has the
liver's density.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from workers.uair.ensemble import ABSENT, LIMIT, Decoder
from workers.uair.grids import Crop, Float32, Mask
from workers.uair.localize import largest_component
from workers.uair.prompts import Prompts, boxes_of, moved

SURE = 0.7
"""Tracing can start on a slice if at least this fraction of the slice's mask has the liver's density."""
LEAST = 0.6
"""If a smaller fraction of a mask has the liver's density, then the mask has left the liver.

Measured fractions are 0.8 to 0.95 in livers, and 0.2 to 0.55 after the mask leaked out of the liver.
"""
SPREADS = 3.0
FEWEST_CELLS = 10
GROWTH = 0.04
REACH_MM = 12.0


@dataclass(frozen=True)
class Tissue:
    """The liver's density in one scan: median and robust standard deviation, HU."""

    median: float
    spread: float

    def like(self, hu: Float32) -> Mask:
        """Return the mask of HU within three robust standard deviations of the median."""
        return np.asarray(np.abs(hu - self.median) < SPREADS * self.spread)


def tissue_of(hu: Float32, probability: Float32) -> Tissue:
    """Measure the liver's density in the cells with the highest localizer probability.

    Parameters
    ----------
    hu
        ``(n, h, w)`` mean HU of mask cells.
    probability
        ``(n, h, w)`` probability of the localizer.
    """
    area = (probability > 0.5).sum(axis=(1, 2))
    middle = area > 0.6 * area.max()
    core = ndimage.binary_erosion(probability > 0.7) & middle[:, None, None]
    values = hu[core if core.any() else probability > 0.5]
    median = float(np.median(values))
    return Tissue(median, max(8.0, 1.4826 * float(np.median(np.abs(values - median)))))


def trace_liver(decode: Decoder, hu: Float32, probability: Float32, pixels: int) -> Float32 | None:
    """Return logits ``(n, h, w)`` of the traced liver; None if no slice is certain.

    Parameters
    ----------
    decode
        The model on the liver's crop.
    hu
        ``(n, h, w)`` mean HU of mask cells.
    probability
        ``(n, h, w)`` probability of the localizer.
    pixels
        Side of the model's input.
    """
    boxes = boxes_of(probability, 0.5, pixels)
    shown = np.flatnonzero(~np.isnan(boxes[:, 0]))
    if len(shown) == 0:
        return None
    tissue = tissue_of(hu, probability)
    answers, _ = decode(Prompts(shown, boxes[shown]))
    logits = np.full(hu.shape, ABSENT, np.float32)
    logits[shown] = answers[:, 0]
    sure = _sure_slices(logits, hu, probability, tissue)
    if len(sure) == 0:
        return None
    first, last = _longest_run(sure)
    traced = np.full(hu.shape, ABSENT, np.float32)
    for z in range(first, last + 1):
        traced[z] = _in_tissue(logits[z], hu[z], tissue)
    for start, path in ((first, range(first - 1, -1, -1)), (last, range(last + 1, len(hu)))):
        _hand_on(decode, traced, hu, probability, tissue, start, path, pixels)
    return traced


def near(mask: Mask, crop: Crop, like_liver: Mask) -> Mask:
    """Return the cells that members may cover: within `REACH_MM` of a traced liver.

    On slices beyond the liver's ends, a model would segment another structure. So on these slices, members
    may cover only cells of the liver's density (`like_liver`).
    """
    spacing = (crop.step_mm, crop.cell_mm, crop.cell_mm)
    close = np.asarray(ndimage.distance_transform_edt(~mask, spacing) <= REACH_MM)
    beyond = ~mask.any(axis=(1, 2))
    close[beyond] &= like_liver[beyond]
    return close


def _sure_slices(logits: Float32, hu: Float32, probability: Float32, tissue: Tissue) -> list[int]:
    area = (probability > 0.5).sum(axis=(1, 2))
    sure = []
    for z in np.flatnonzero(area > 0.25 * area.max()):
        mask = logits[z] > 0
        if mask.sum() > FEWEST_CELLS and tissue.like(hu[z])[mask].mean() >= SURE:
            sure.append(int(z))
    return sure


def _longest_run(slices: list[int]) -> tuple[int, int]:
    """Return the ends of the longest run of slices. Gaps of up to two slices do not interrupt it."""
    runs = [[slices[0], slices[0]]]
    for z in slices[1:]:
        if z - runs[-1][1] <= 3:
            runs[-1][1] = z
        else:
            runs.append([z, z])
    first, last = max(runs, key=lambda run: run[1] - run[0])
    return first, last


def _hand_on(
    decode: Decoder,
    traced: Float32,
    hu: Float32,
    probability: Float32,
    tissue: Tissue,
    start: int,
    path: Iterable[int],
    pixels: int,
) -> None:
    """Continue the mask from slice `start` along `path`, in place.

    If the model's mask does not have the liver's density, then the localizer's mask is checked. If the
    localizer's mask has this density, then it is used, and tracing continues: a large lesion may fill the
    slice. Otherwise the liver has ended.
    """
    before = traced[start]
    for z in path:
        box = boxes_of(before[None], 0.0, pixels)
        if np.isnan(box[0, 0]):
            return
        asked = moved(box, np.zeros(4), GROWTH)
        prompt = np.clip(before[None], -LIMIT, LIMIT).astype(np.float32)
        answers, _ = decode(Prompts(np.array([z]), asked, masks=prompt))
        mask = answers[0, 0] > 0
        if mask.sum() >= FEWEST_CELLS and tissue.like(hu[z])[mask].mean() >= LEAST:
            traced[z] = _in_tissue(answers[0, 0], hu[z], tissue)
        else:
            coarse = probability[z] > 0.5
            if not coarse.any() or tissue.like(hu[z])[coarse].mean() < LEAST:
                return
            traced[z] = np.clip(8.0 * probability[z] - 4.0, -LIMIT, LIMIT)
        before = traced[z]


def _in_tissue(logits: Float32, hu: Float32, tissue: Tissue) -> Float32:
    """Return a slice's logits, limited to the mask's largest piece with the liver's density.

    The holes and bays of the piece are filled. So enclosed cells of another density (lesions, vessels) stay.
    """
    mask = logits > 0
    piece = largest_component(ndimage.binary_opening(mask & tissue.like(hu)))
    padded = ndimage.binary_closing(np.pad(piece, 3), np.ones((3, 3)), iterations=3)[3:-3, 3:-3]
    kept = ndimage.binary_fill_holes(padded) & mask
    return np.where(mask & ~kept, np.float32(-4.0), logits).astype(np.float32)
