"""Match the lesions of an earlier study with those of this study, as arrays on one grid.

Lesions that overlap after registration, or nearly touch, may be the same. The best pairing is computed
(assignment problem, Kuhn 1955). If an unpaired lesion of this study lies in a paired earlier lesion, then it
split off from the earlier lesion. If an unpaired earlier lesion lies in a paired lesion of this study, then
it merged into this lesion. All other unpaired lesions are new or have vanished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from uair_node.findings.follow_up import Fate

Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]

NEAR_MM = 8.0
"""The largest distance in mm after registration at which two lesions may be the same."""
_WITHIN = 0.5
"""A lesion is a piece of another lesion if at least this share of its voxels lies inside the other lesion."""
_TOUCHING = 0.1
"""Weight of two lesions that touch without overlap. The share of overlap, up to 1, is added to the weight."""


@dataclass(frozen=True)
class Group:
    """Lesions that belong together.

    Parameters
    ----------
    fate
        See `Fate`.
    now, before
        Numbers of lesions. The matched lesion comes first, then split or merged lesions by number.
    """

    fate: Fate
    now: tuple[int, ...]
    before: tuple[int, ...]


def match(now: Labels, before: Labels, spacing_mm: Spacing) -> tuple[Group, ...]:
    """Match lesions.

    Parameters
    ----------
    now, before
        ``(Z, Y, X)`` on one grid; registration resampled `before`. 1 + n is lesion n.
    spacing_mm
        (z, y, x).

    Returns
    -------
    tuple of Group
        Each lesion of both studies is in exactly one group. Groups with lesions of this study come first, by
        number.
    """
    ours, theirs = _points(now, spacing_mm), _points(before, spacing_mm)
    shared = _shared(now, before)
    pairs = _paired(ours, theirs, shared)
    parts: dict[int, int] = {}  # lesion inside a paired earlier lesion -> the present lesion of this pair
    for number in ours.keys() - pairs.keys():
        inside = [(shared.get((number, other), 0) / len(ours[number]), own) for own, other in pairs.items()]
        share, own = max(inside, default=(0.0, 0))
        if share >= _WITHIN:
            parts[number] = own
    merged: dict[int, int] = {}
    for other in theirs.keys() - set(pairs.values()):
        inside = [(shared.get((own, other), 0) / len(theirs[other]), own) for own in pairs]
        share, own = max(inside, default=(0.0, 0))
        if share >= _WITHIN:
            merged[other] = own
    return _groups(ours, theirs, pairs, parts, merged)


def _groups(
    ours: Mapping[int, object],
    theirs: Mapping[int, object],
    pairs: Mapping[int, int],
    parts: Mapping[int, int],
    merged: Mapping[int, int],
) -> tuple[Group, ...]:
    found = []
    for own in sorted(ours.keys() - parts.keys()):
        if own not in pairs:
            found.append(Group(Fate.NEW, (own,), ()))
            continue
        split = sorted(number for number, pair in parts.items() if pair == own)
        joined = sorted(other for other, pair in merged.items() if pair == own)
        fate = Fate.MERGED if joined else Fate.SPLIT if split else Fate.MATCHED
        found.append(Group(fate, (own, *split), (pairs[own], *joined)))
    gone = theirs.keys() - set(pairs.values()) - merged.keys()
    return (*found, *(Group(Fate.VANISHED, (), (other,)) for other in sorted(gone)))


def _paired(
    ours: Mapping[int, NDArray[np.float64]],
    theirs: Mapping[int, NDArray[np.float64]],
    shared: Mapping[tuple[int, int], int],
) -> dict[int, int]:
    """Return the one-to-one pairs with the largest total weight: number now -> number before."""
    own, other = sorted(ours), sorted(theirs)
    weights = np.zeros((len(own), len(other)))
    for row, a in enumerate(own):
        for column, b in enumerate(other):
            overlap = shared.get((a, b), 0)
            if overlap:
                # Both sizes count: a small lesion at the edge of a large lesion is another lesion.
                weights[row, column] = _TOUCHING + overlap / np.sqrt(len(ours[a]) * len(theirs[b]))
            else:
                gap = float(KDTree(ours[a]).query(theirs[b])[0].min())
                weights[row, column] = _TOUCHING * max(0.0, 1.0 - gap / NEAR_MM)
    chosen = zip(*linear_sum_assignment(-weights), strict=True)
    return {own[row]: other[column] for row, column in chosen if weights[row, column] > 0}


def _points(labels: Labels, spacing_mm: Spacing) -> dict[int, NDArray[np.float64]]:
    """Return the voxels ``(n, 3)`` of each lesion in mm."""
    found = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box and value > 1:
            start = [part.start for part in box]
            found[value - 1] = (np.argwhere(labels[box] == value) + start) * np.asarray(spacing_mm)
    return found


def _shared(now: Labels, before: Labels) -> dict[tuple[int, int], int]:
    """Return the number of voxels that each pair of lesions shares."""
    both = (now > 1) & (before > 1)
    pairs, counts = np.unique(np.stack([now[both], before[both]], 1), axis=0, return_counts=True)
    return {(int(a) - 1, int(b) - 1): int(count) for (a, b), count in zip(pairs, counts, strict=True)}
