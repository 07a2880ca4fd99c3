"""Choose the planes for a candidate's page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uair_node.rendering.telling_slices import telling_slices

Labels = NDArray[np.uint8]
_OF_LESIONS = 3
_WORTH_A_SLICE = 0.4
"""The least gain of a slice that is chosen for its lesions.

For each lesion, a slice can show a larger area than the slices that are already chosen. The gain is the sum
of these increases, each as a fraction of the lesion's largest area in a slice.
"""


def key_slices(labels: Labels, compared: Sequence[Labels], slice_distance_mm: float, count: int) -> list[int]:
    """Return the indices of up to `count` axial slices, the uppermost first.

    First, slices with the lesions are chosen, then slices with the largest differences, then evenly spaced
    slices. Slices with lesions may be neighbours. All other slices have a minimum distance.
    """
    of_lesions = _lesion_slices(labels)
    chosen = [shown.k for shown in telling_slices([labels, *compared], slice_distance_mm)]
    extent = np.flatnonzero(labels.any(axis=(1, 2)))
    apart = max(5.0 / slice_distance_mm, len(extent) / 15, 1.0)
    if extent.size:
        chosen += np.quantile(extent, [0.5, 0.75, 0.25, 0.9, 0.1]).astype(int).tolist()
    kept = of_lesions[:count]
    for k in chosen:
        if len(kept) < count and all(abs(k - other) >= apart for other in kept):
            kept.append(k)
    return sorted(kept, reverse=True)


def coronal_row(labels: Labels) -> int:
    """Return the row (index along axis 1) that shows most of the organ and of its lesions.

    The function adds two fractions for each row: the organ's area and the area of its lesions. Each area is
    divided by its largest value in any row.
    """
    score = np.zeros(labels.shape[1])
    for mask in (labels > 0, labels > 1):
        counts = mask.sum(axis=(0, 2)).astype(float)
        score += counts / max(counts.max(initial=0.0), 1.0)
    return int(score.argmax())


def _lesion_slices(labels: Labels) -> list[int]:
    """Return up to three slices that together show large areas of the lesions, the best slice first."""
    values = [value for value in np.unique(labels).tolist() if value > 1]
    if not values:
        return []
    areas = np.stack([np.count_nonzero(labels == value, axis=(1, 2)) for value in values])
    shares = areas / areas.max(axis=1, keepdims=True)
    shown, chosen = np.zeros(len(values)), list[int]()
    while len(chosen) < _OF_LESIONS:
        gains = np.maximum(shares, shown[:, None]).sum(axis=0) - shown.sum()
        k = int(gains.argmax())
        if gains[k] < _WORTH_A_SLICE:
            break
        chosen.append(k)
        shown = np.maximum(shown, shares[:, k])
    return chosen
