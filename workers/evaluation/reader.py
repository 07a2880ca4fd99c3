"""The simulated reader: knows the truth and takes what is nearest to it, as in the paper's experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workers.evaluation.metrics import LIVER, Agreement, Labels, Mask, agreement, dice, liver_mask


@dataclass(frozen=True)
class Opinion:
    """What the reader thinks of a round.

    Attributes
    ----------
    k
        The best candidate, 1 … 4.
    agreements
        Of each candidate with the truth, in order.
    """

    k: int
    agreements: tuple[Agreement, ...]

    @property
    def best(self) -> Agreement:
        """Agreement of the best candidate."""
        return self.agreements[self.k - 1]


def score(found: Agreement) -> float:
    """Return the mean Dice of liver and lesions; without true lesions that of the liver alone."""
    if found.lesions is None or found.lesions.second == 0:
        return found.liver.dice
    return (found.liver.dice + found.lesions.dice) / 2


def judge(candidates: Sequence[Labels], truth: Labels) -> Opinion:
    """Return the candidate with the best `score`; the first of equals.

    Parameters
    ----------
    candidates
        Label volumes ``(Z, Y, X)``, candidate 1 first.
    truth
        Label volume on the same grid.

    Raises
    ------
    ValueError
        If there is no candidate.
    """
    if not candidates:
        raise ValueError("no candidates to choose from")
    agreements = tuple(agreement(labels, truth) for labels in candidates)
    scores = [score(found) for found in agreements]
    return Opinion(int(np.argmax(scores)) + 1, agreements)


def judge_targets(candidates: Sequence[Labels], truth: Labels, targets: Sequence[int]) -> Mapping[int, int]:
    """Return the best candidate (1 …) for each target on its own.

    A predicted lesion is compared with the true lesion that the candidates together share most voxels with;
    where that is none, the candidate that draws least of it is best.
    """
    return {value: _best_for(value, candidates, truth) for value in targets}


def _best_for(value: int, candidates: Sequence[Labels], truth: Labels) -> int:
    if value == LIVER:
        scores = [dice(liver_mask(labels), liver_mask(truth)) for labels in candidates]
        return int(np.argmax(scores)) + 1
    drawn = [labels == value for labels in candidates]
    wanted = _true_lesion(drawn, truth)
    if wanted is None:
        return int(np.argmin([int(mask.sum()) for mask in drawn])) + 1
    return int(np.argmax([dice(mask, wanted) for mask in drawn])) + 1


def _true_lesion(drawn: Sequence[Mask], truth: Labels) -> Mask | None:
    counts = np.zeros(256, np.int64)
    for mask in drawn:
        counts += np.bincount(truth[mask], minlength=256)
    counts[: LIVER + 1] = 0
    return truth == counts.argmax() if counts.any() else None


def combined(candidates: Sequence[Labels], picks: Mapping[int, int]) -> Labels:
    """Return the label volume that takes each target from the candidate picked for it.

    Parameters
    ----------
    candidates
        Label volumes, candidate 1 first.
    picks
        Target value -> candidate; holds the liver (1).
    """
    result = liver_mask(candidates[picks[LIVER] - 1]).astype(np.uint8)
    for value, k in picks.items():
        if value != LIVER:
            result[candidates[k - 1] == value] = value
    return result
