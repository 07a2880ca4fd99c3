"""Simulated readers, as in the paper's experiments. They pick the candidate nearest to the wanted shape.

Two things define a reader: the wanted segmentation, and how reliably the reader picks the nearest candidate.
The wanted segmentation is the truth, or the shape that a reader with a fixed preference wants
(`workers.research.evaluation.fixed_preferences`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from workers.truth.metrics import LIVER, Labels, Mask, agreement, dice, liver_mask

Choose = Callable[[Sequence[float]], int]
"""A function of the scores of a target's candidates. It returns the index of the reader's pick."""

PickAll = Callable[[Sequence[Labels], Labels, Sequence[int]], Mapping[int, int]]
"""A function of candidates, truth and label values. It returns label value -> picked candidate (1 …)."""

NOISY_SHARE = 0.3


def best(scores: Sequence[float]) -> int:
    """Return the index of the best score. Ties go to the first score."""
    return int(np.argmax(scores))


def noisy(rng: np.random.Generator, share: float = NOISY_SHARE) -> Choose:
    """Return a reader who takes the second-best candidate in `share` of all picks."""

    def choose(scores: Sequence[float]) -> int:
        order = np.argsort(-np.asarray(scores), kind="stable")
        return int(order[1 if len(order) > 1 and rng.random() < share else 0])

    return choose


def pick_targets(
    candidates: Sequence[Labels], truth: Labels, targets: Sequence[int], choose: Choose = best
) -> Mapping[int, int]:
    """Return the candidate (1 …) that the reader picks for each target separately.

    A predicted lesion is compared with a true lesion: the true lesion that shares the most voxels with the
    union of all candidates. If no true lesion shares a voxel, then the candidate with the smallest prediction
    is best.

    Parameters
    ----------
    candidates
        Label volumes ``(Z, Y, X)``, candidate 1 first.
    truth
        Label volume on the same grid.
    targets
        Label values.
    choose
        The function with which the reader chooses.
    """
    return {value: choose(_scores(value, candidates, truth)) + 1 for value in targets}


def _scores(value: int, candidates: Sequence[Labels], truth: Labels) -> list[float]:
    if value == LIVER:
        return [dice(liver_mask(labels), liver_mask(truth)) for labels in candidates]
    drawn = [labels == value for labels in candidates]
    wanted = true_lesion(drawn, truth)
    if wanted is None:
        return [-float(mask.sum()) for mask in drawn]
    return [dice(mask, wanted) for mask in drawn]


def true_lesion(drawn: Sequence[Mask], truth: Labels) -> Mask | None:
    """Return the mask ``(Z, Y, X)`` of the true lesion that shares most voxels with the union of the masks.

    Return None if the masks touch no true lesion.
    """
    counts = np.zeros(256, np.int64)
    for mask in drawn:
        counts += np.bincount(truth[mask], minlength=256)
    counts[: LIVER + 1] = 0
    return truth == counts.argmax() if counts.any() else None


def each_best(candidates: Sequence[Labels], truth: Labels, targets: Sequence[int]) -> Mapping[int, int]:
    """Pick the best candidate for each target separately."""
    return pick_targets(candidates, truth, targets)


def each_by(choose: Choose) -> PickAll:
    """Return a reader who uses `choose` for each target separately."""
    return lambda candidates, truth, targets: pick_targets(candidates, truth, targets, choose)


def one_for_all(candidates: Sequence[Labels], truth: Labels, targets: Sequence[int]) -> Mapping[int, int]:
    """Pick one candidate for all targets: the best mean of two Dices, of the liver and of the tumour union.

    Most viewers send a whole segmentation back, so most readers answer like this.
    """
    found = [agreement(labels, truth) for labels in candidates]
    scores = [
        measured.liver.dice + (measured.lesions.dice if measured.lesions else 1.0) for measured in found
    ]
    return dict.fromkeys(targets, best(scores) + 1)


def combined(candidates: Sequence[Labels], picks: Mapping[int, int]) -> Labels:
    """Return the label volume that takes each target from the candidate picked for it.

    Parameters
    ----------
    candidates
        Label volumes, candidate 1 first.
    picks
        Target value -> candidate. It contains the liver (1).
    """
    result = liver_mask(candidates[picks[LIVER] - 1]).astype(np.uint8)
    for value, k in picks.items():
        if value != LIVER:
            result[candidates[k - 1] == value] = value
    return result
