"""Measure the overlap of label volumes: Dice and Jaccard.

Label volumes are ``(Z, Y, X)`` uint8: 0 background, 1 liver without lesions, 1 + n lesion n. The target
*liver* is the whole organ with its lesions, as experts draw it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LIVER = 1
FIRST_LESION = 2


@dataclass(frozen=True)
class Overlap:
    """The overlap of two masks; sizes in voxels.

    Attributes
    ----------
    shared, first, second
        Sizes of the intersection, of the first mask and of the second mask.
    """

    shared: int
    first: int
    second: int

    @property
    def dice(self) -> float:
        """Dice coefficient, 1 if both masks are empty."""
        total = self.first + self.second
        return 2 * self.shared / total if total else 1.0

    @property
    def jaccard(self) -> float:
        """Jaccard index (intersection over union), 1 if both masks are empty."""
        union = self.first + self.second - self.shared
        return self.shared / union if union else 1.0


def overlap(first: Mask, second: Mask) -> Overlap:
    """Return the overlap of two masks of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of shapes {first.shape} and {second.shape}")
    return Overlap(int((first & second).sum()), int(first.sum()), int(second.sum()))


def dice(first: Mask, second: Mask) -> float:
    """Return the Dice coefficient of two masks."""
    return overlap(first, second).dice


def jaccard(first: Mask, second: Mask) -> float:
    """Return the Jaccard index of two masks."""
    return overlap(first, second).jaccard


def liver_mask(labels: Labels) -> Mask:
    """Return the whole liver, lesions included."""
    return labels >= LIVER


def lesions_mask(labels: Labels) -> Mask:
    """Return the union of all lesions."""
    return labels >= FIRST_LESION


@dataclass(frozen=True)
class Agreement:
    """The agreement of a segmentation with the truth.

    Attributes
    ----------
    liver
        Overlap of the whole organ.
    lesions
        Overlap of the union of all lesions; None if neither label volume has lesions.
    each_lesion
        For each true lesion (n = 1, …), its overlap with a predicted lesion: the predicted lesion that shares
        the most voxels with it.
    """

    liver: Overlap
    lesions: Overlap | None
    each_lesion: Mapping[int, Overlap]


def agreement(labels: Labels, truth: Labels) -> Agreement:
    """Return the agreement of labels with the truth. Lesions are matched by overlap, not by number."""
    union = overlap(lesions_mask(labels), lesions_mask(truth))
    lesions = union if union.first or union.second else None
    numbers = np.unique(truth[truth >= FIRST_LESION])
    each = {int(value) - LIVER: _best_match(labels, truth == value) for value in numbers}
    return Agreement(overlap(liver_mask(labels), liver_mask(truth)), lesions, each)


def _best_match(labels: Labels, lesion: Mask) -> Overlap:
    counts = np.bincount(labels[lesion], minlength=FIRST_LESION)
    counts[:FIRST_LESION] = 0
    if not counts.any():
        return Overlap(0, 0, int(lesion.sum()))
    return overlap(labels == counts.argmax(), lesion)
