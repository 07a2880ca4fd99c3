"""Small volumes with known truth, and a promptable model that needs no weights.

The model is a real algorithm: it segments a box by the density in the box's middle. So tests of the method do
not depend on the quality of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from workers.uair.grids import Box, Float32, Spacing
from workers.uair.lesion_maps import LesionMaps
from workers.uair.localize import CoarseMap, Location, location_of, to_isotropic
from workers.uair.prompts import OUTSIDE, Prompts

LIVER_HU = 105
SPACING: Spacing = (4.0, 1.6, 1.6)
SHAPE = (44, 160, 192)


@dataclass(frozen=True)
class Lesion:
    """A sphere: centre (z, y, x) and radius in mm, and its HU."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: int = 50


LESIONS = (Lesion((90.0, 120.0, 110.0), 14.0), Lesion((70.0, 140.0, 80.0), 9.0))


def ball(
    shape: tuple[int, ...], spacing: Spacing, centre_mm: Sequence[float], half_mm: Sequence[float]
) -> NDArray[np.bool_]:
    """Return an ellipsoid with half axes `half_mm` (z, y, x)."""
    grids = np.meshgrid(
        *((np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    terms = ((g - c) / h for g, c, h in zip(grids, centre_mm, half_mm, strict=True))
    return sum(term**2 for term in terms) <= 1.0


def abdomen(
    lesions: tuple[Lesion, ...] = LESIONS,
    *,
    liver: bool = True,
    shape: tuple[int, int, int] = SHAPE,
    spacing: Spacing = SPACING,
    seed: int = 0,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return HU and labels (1 liver, 1 + n lesion n) of a body with a liver on its right side."""
    extent = [n * s for n, s in zip(shape, spacing, strict=True)]
    hu = np.full(shape, -1000.0)
    middle = [e / 2.0 for e in extent]
    hu[ball(shape, spacing, middle, (1e6, extent[1] * 0.45, extent[2] * 0.45))] = -90.0
    hu[ball(shape, spacing, middle, (1e6, extent[1] * 0.40, extent[2] * 0.41))] = 40.0
    spine = (middle[0], extent[1] * 0.78, middle[2])
    hu[ball(shape, spacing, spine, (1e6, 18.0, 18.0))] = 300.0
    labels = np.zeros(shape, np.uint8)
    if liver:
        organ = ball(shape, spacing, (85.0, 118.0, 108.0), (62.0, 62.0, 66.0))
        hu[organ] = LIVER_HU
        labels[organ] = 1
    for number, lesion in enumerate(lesions if liver else (), start=1):
        inside = ball(shape, spacing, lesion.centre_mm, (lesion.radius_mm,) * 3) & (labels > 0)
        hu[inside] = lesion.hu
        labels[inside] = 1 + number
    noise = np.random.default_rng(seed).normal(0.0, 8.0, shape)
    blurred = ndimage.gaussian_filter(hu, (0.3, 0.7, 0.7)) + ndimage.gaussian_filter(noise, 0.5)
    return blurred.astype(np.int16), labels


class DensityLocalizer:
    """Finds the largest connected piece of liver density."""

    digest = "0" * 64

    def locate(self, hu: NDArray[np.generic], spacing: Spacing) -> Location | None:
        coarse = to_isotropic(hu, spacing, 6.0)
        like = ndimage.binary_opening(np.abs(coarse - LIVER_HU) < 25)
        filled = ndimage.binary_fill_holes(like).astype(np.float32)
        return location_of(ndimage.gaussian_filter(filled, 0.5), 6.0, spacing, hu.shape)


class DensityLesions:
    """Finds voxels darker than the liver (not below `darkest`), in the liver and `reach` voxels around it."""

    digest = "2" * 64
    step_mm = 3.0

    def __init__(self, darkest: float = 0.0, reach: int = 0) -> None:
        self.darkest, self.reach = darkest, reach

    def search(self, hu: NDArray[np.generic], spacing: Spacing, around: Box, liver_hu: float) -> LesionMaps:
        region = around.outer(hu.shape)
        smooth = ndimage.gaussian_filter(to_isotropic(hu[region], spacing, self.step_mm), 0.6)
        labels, _ = ndimage.label(ndimage.binary_opening(np.abs(smooth - liver_hu) < 25))
        liver = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
        where = ndimage.binary_dilation(liver, iterations=self.reach) if self.reach else liver
        dark = ndimage.binary_opening(where & (smooth < liver_hu - 18) & (smooth > self.darkest))
        origin = tuple(float(part.start) for part in region)
        pair = (liver | dark, dark * np.clip((liver_hu - smooth) / 40.0, 0.0, 1.0))
        maps = (CoarseMap(part.astype(np.float32), self.step_mm, spacing, origin) for part in pair)
        return LesionMaps(*maps)


class DensityPredictor:
    """Segments a box by the density in its middle; four tokens have four tolerances."""

    name = "density"
    digest = "1" * 64
    device = "cpu"
    input_size = 128
    mask_size = 64
    whole_slice = False
    tolerances = (28.0, 20.0, 30.0, 40.0)

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, hu: Float32, neighbours: Float32) -> Float32:
        self.encoded += len(hu)
        part = self.input_size // self.mask_size
        mean = (2.0 * hu + neighbours) / 3.0
        return mean.reshape(len(hu), self.mask_size, part, self.mask_size, part).mean(axis=(2, 4))

    def decode(self, embeddings: Float32, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        size, scale = self.mask_size, self.mask_size / self.input_size
        logits = np.empty((len(prompts), 4, size, size), np.float32)
        for row, z in enumerate(prompts.slices):
            plane = embeddings[z]
            x0, y0, x1, y1 = np.clip(np.round(prompts.boxes[row] * scale), 0, size).astype(int)
            box = np.zeros((size, size), bool)
            box[y0:y1, x0:x1] = True
            third_y, third_x = (y1 - y0) // 3, (x1 - x0) // 3
            part = plane[y0 + third_y : y1 - third_y, x0 + third_x : x1 - third_x]
            middle = np.median(part) if part.size else -1000.0
            for token, tolerance in enumerate(self.tolerances):
                answer = (tolerance - np.abs(plane - middle)) / 8.0
                logits[row, token] = np.where(box, np.clip(answer, -8, 8), -8.0)
            if prompts.masks is not None:
                logits[row] = 0.8 * logits[row] + 0.2 * prompts.masks[row]
            if prompts.points is not None and prompts.labels is not None:
                for (px, py), label in zip(prompts.points[row], prompts.labels[row], strict=True):
                    if label >= OUTSIDE:
                        at = (int(py * scale) % size, int(px * scale) % size)
                        logits[(row, slice(None), *at)] = 4.0 if label else -4.0
        quality = np.tile(np.array([0.80, 0.72, 0.78, 0.70], np.float32), (len(prompts), 1))
        return logits, quality

    def parts_of(self, embeddings: Float32) -> tuple[Tensor, ...]:
        return (torch.from_numpy(embeddings),)

    def from_parts(self, parts: tuple[Tensor, ...]) -> Float32:
        return parts[0].numpy()
