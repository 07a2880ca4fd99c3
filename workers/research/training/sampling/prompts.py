"""Draw boxes and points for a target, with the same jitter as the method's prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.models.embedded import INPUT_SIZE
from workers.phantoms.fields import Mask
from workers.research.training.sampling.targets import TargetKind

#: Label of an absent point, used as padding (segment_anything's convention).
NO_POINT = -1
MAX_POINTS = 2
_SHORTEST_SIDE = 3.0
_BEYOND = 20.0

Box = NDArray[np.float64]


def draw_box(mask: Mask, kind: TargetKind, organ_box: Box, rng: np.random.Generator) -> Box:
    """Draw a box (x0, y0, x1, y1) around a mask ``(256, 256)``, in half-open pixels of the image.

    About a third of the liver's boxes surround the whole organ, because the method uses the same 3-D box on
    all slices. At least a tenth of all boxes are exact. The other boxes are loose, jittered, or far off.
    Lesions get exact boxes more often, because the method takes their boxes from earlier masks.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    size = np.tile(box[2:] - box[:2], 2)
    outwards = np.array([-1.0, -1.0, 1.0, 1.0])
    way = rng.random()
    if kind is TargetKind.LIVER and way < 0.35:
        box = organ_box + rng.normal(0, 6, 4) + outwards * rng.uniform(-4, 14)
    elif kind is TargetKind.LESION and rng.random() < 0.35:
        pass
    elif way < 0.45:
        box = box + outwards * rng.uniform(0, 0.35, 4) * size
    elif way < 0.80:
        box = box + rng.normal(0, 0.07, 4) * size
    elif way < 0.90:
        box = box + rng.normal(0, 0.15, 4) * size
    return ordered(box)


def ordered(box: Box) -> Box:
    """Return the box with sides of at least 3 pixels. It reaches at most 20 pixels beyond the image."""
    low = np.minimum(box[:2], box[2:] - _SHORTEST_SIDE)
    high = np.maximum(box[2:], low + _SHORTEST_SIDE)
    return np.clip(np.concatenate([low, high]), -_BEYOND, INPUT_SIZE + _BEYOND)


def draw_points(
    mask: Mask, box: Box, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw up to two clicks. A click lies inside the target, or outside the target but in its box.

    Returns
    -------
    tuple
        ``(2, 2)`` x, y in pixels and ``(2,)`` labels: 1 inside, 0 outside, -1 no point. Most samples have no
        point.
    """
    points = np.zeros((MAX_POINTS, 2), np.float32)
    labels = np.full(MAX_POINTS, NO_POINT, np.int64)
    if rng.random() >= 0.3:
        return points, labels
    x0, y0, x1, y1 = np.clip(box, 0, INPUT_SIZE).astype(int)
    in_box = np.zeros_like(mask)
    in_box[y0 : y1 + 1, x0 : x1 + 1] = True
    for index in range(int(rng.integers(1, MAX_POINTS + 1))):
        positive = rng.random() < 0.65
        candidates = np.argwhere(mask if positive else in_box & ~mask)
        if len(candidates):
            row, column = candidates[rng.integers(len(candidates))]
            points[index] = (column + 0.5, row + 0.5)
            labels[index] = int(positive)
    return points, labels
