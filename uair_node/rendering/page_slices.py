"""Choose the planes of a candidate that its page shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uair_node.rendering.telling_slices import telling_slices

Labels = NDArray[np.uint8]
_OF_LESIONS = 3
_SHOWN_WELL = 0.6
"""A slice shows a lesion well if it has at least this part of the lesion's largest area."""


def key_slices(labels: Labels, compared: Sequence[Labels], slice_distance_mm: float, count: int) -> list[int]:
    """Return up to `count` axial slices, the uppermost first.

    They show the largest lesions, then the largest differences; the rest is evenly spaced. A lesion that an
    earlier slice shows well needs no slice of its own.
    """
    chosen: list[int] = []
    for value in _lesion_values(labels):
        areas = np.count_nonzero(labels == value, axis=(1, 2))
        if len(chosen) < _OF_LESIONS and not any(areas[k] >= _SHOWN_WELL * areas.max() for k in chosen):
            chosen.append(int(areas.argmax()))
    chosen += [shown.k for shown in telling_slices([labels, *compared], slice_distance_mm)]
    extent = np.flatnonzero(labels.any(axis=(1, 2)))
    apart = max(5.0 / slice_distance_mm, len(extent) / 15, 1.0)
    if extent.size:
        chosen += np.quantile(extent, [0.5, 0.75, 0.25, 0.9, 0.1]).astype(int).tolist()
    kept: list[int] = []
    for k in chosen:
        if len(kept) < count and all(abs(k - other) >= apart for other in kept):
            kept.append(k)
    return sorted(kept, reverse=True)


def coronal_row(labels: Labels) -> int:
    """Return the row that shows most of the organ and its lesions, each as a share of its total."""
    score = np.zeros(labels.shape[1])
    for mask in (labels > 0, labels > 1):
        counts = mask.sum(axis=(0, 2)).astype(float)
        score += counts / max(counts.max(initial=0.0), 1.0)
    return int(score.argmax())


def _lesion_values(labels: Labels) -> list[int]:
    """Return the labels of lesions, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=2)
    counts[:2] = 0
    return [int(value) for value in np.argsort(-counts, kind="stable") if counts[value]]
