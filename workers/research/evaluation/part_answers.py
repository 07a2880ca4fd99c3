"""A reader who answers for each part of a target (`workers.uair.parts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from workers.research.evaluation.reader import true_lesion
from workers.truth.metrics import LIVER, Labels, liver_mask
from workers.uair.grids import Spacing
from workers.uair.parts import Part, PartNumbers, part_numbers


def numbers_on_volume(
    parts: Mapping[int, Sequence[Part]], spacing: Spacing, candidates: Sequence[Labels]
) -> dict[int, PartNumbers]:
    """Return label value -> volume ``(Z, Y, X)``: 1 + index of the voxel's part, 0 outside all candidates.

    Parameters
    ----------
    parts
        Label value -> parts.
    candidates
        ``(Z, Y, X)`` label volumes on the canonical grid.
    """
    found = {}
    for value, own in parts.items():
        held = np.any([labels > 0 if value == LIVER else labels == value for labels in candidates], axis=0)
        z, y, x = (np.arange(count) + 0.5 for count in held.shape)
        rows = [np.flatnonzero(held.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        volume = np.zeros(held.shape, np.uint8)
        if all(len(row) for row in rows):
            box = tuple(slice(row[0], row[-1] + 1) for row in rows)
            inner = part_numbers(own, spacing, z[box[0]], y[box[1]], x[box[2]])
            volume[box] = np.where(held[box], inner + 1, 0)
        found[value] = volume
    return found


def pick_parts(
    candidates: Sequence[Labels], truth: Labels, numbers: Mapping[int, PartNumbers], picks: Mapping[int, int]
) -> dict[int, tuple[int, ...]]:
    """Return label value -> the candidate (1 …) that the reader picks for each part of the target.

    The picked candidate has the fewest wrong voxels in the part. Only candidates that contain the target can
    be picked. The result omits a target if the candidate in `picks` does not contain it. It also omits a
    target without a true lesion.

    Parameters
    ----------
    candidates, truth
        As in `pick_targets`.
    numbers
        Label value -> volume ``(Z, Y, X)``: 1 + the index of a part, 0 elsewhere.
    picks
        Label value -> the candidate that is picked for the whole target.
    """
    found = {}
    for value, own in numbers.items():
        drawn = [liver_mask(labels) if value == LIVER else labels == value for labels in candidates]
        wanted = liver_mask(truth) if value == LIVER else true_lesion(drawn, truth)
        holders = [index for index, mask in enumerate(drawn) if mask.any()]
        if wanted is None or picks[value] - 1 not in holders:
            continue
        found[value] = tuple(
            min(holders, key=lambda index: int(((drawn[index] != wanted) & (own == part)).sum())) + 1
            for part in range(1, int(own.max()) + 1)
        )
    return found


def with_parts(
    labels: Labels,
    candidates: Sequence[Labels],
    numbers: Mapping[int, PartNumbers],
    chosen: Mapping[int, Sequence[int]],
) -> Labels:
    """Return `labels` in which each part comes from the candidate (1 …) that is `chosen` for it.

    `chosen` is a result of `pick_parts`.
    """
    result = labels.copy()
    for value, ks in sorted(chosen.items()):
        for part, k in enumerate(ks, start=1):
            here = numbers[value] == part
            held = candidates[k - 1] > 0 if value == LIVER else candidates[k - 1] == value
            if value == LIVER:
                result[here & (result <= LIVER)] = 0
                result[here & held & (result == 0)] = LIVER
            else:
                result[here & (result == value)] = LIVER
                result[here & held] = value
    return result
