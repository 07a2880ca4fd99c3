"""A round as the reader gets it: four label volumes composed from the state of its targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workers.uair.compose import Labels, Layer, compose
from workers.uair.confidence import shown_in
from workers.uair.ensemble import Ensemble, probability
from workers.uair.grids import Crop
from workers.uair.state import RoundState, TargetState

SIZES = ("most inclusive", "inclusive", "tight", "tightest")
SIZES_AFTER_PICK = ("as selected", "most inclusive", "in between", "tightest")


@dataclass(frozen=True)
class Candidate:
    """One of the four segmentations of a round.

    Parameters
    ----------
    k
        1 … 4.
    labels
        ``(Z, Y, X)`` uint8 on the canonical grid: 0 background, 1 liver, 1 + n lesion n.
    trait
        What sets it apart from its siblings, in a few words.
    """

    k: int
    labels: Labels
    trait: str


@dataclass(frozen=True)
class Round:
    """Four candidates and what the next round needs.

    Parameters
    ----------
    number
        1 is automatic.
    candidates
        Four different label volumes.
    state
        For `Engine.next_round`.
    targets
        Label values that may occur, ascending: 1, and one for each lesion.
    means
        Of the first round: the members' mean (equation 1) of the liver and of each lesion that is likelier
        there than not, less one half, so that zero is the threshold.
    """

    number: int
    candidates: tuple[Candidate, ...]
    state: RoundState
    targets: tuple[int, ...]
    means: tuple[Layer, ...] = ()


def presented(lesions: list[TargetState], *, first: bool) -> list[TargetState]:
    """Return the lesions with the candidates that they appear in; dropped ones stay dropped."""
    shown = shown_in([lesion.confidence for lesion in lesions], first=first)
    return [
        replace(lesion, present=present) if any(lesion.present) else lesion
        for lesion, present in zip(lesions, shown, strict=True)
    ]


def composed(
    state: RoundState, shape: tuple[int, ...], sizes: tuple[str, ...], means: tuple[Layer, ...] = ()
) -> Round:
    """Compose the four label volumes of a state; `sizes` say how candidates differ, `means` as in `Round`."""
    liver, *lesions = state.targets
    found = []
    for k, size in enumerate(sizes):
        layers = [_layer(lesion, k) for lesion in lesions if lesion.present[k]]
        labels = compose(_layer(liver, k), state.domain, layers, (shape[0], shape[1], shape[2]))
        partial = any(any(lesion.present) and not lesion.present[k] for lesion in lesions)
        found.append(Candidate(k + 1, labels, f"{size}, sure lesions only" if partial else size))
    targets = tuple(target.value for target in state.targets)
    return Round(state.number, tuple(found), state, targets, means)


def _layer(target: TargetState, k: int) -> Layer:
    return Layer(target.value, target.crop, target.offered[k].astype(np.float32))


def mean_layer(value: int, crop: Crop, pool: Ensemble) -> Layer:
    """Return the members' mean probability less one half as a layer."""
    return Layer(value, crop, probability(pool.logits).mean(axis=0) - np.float32(0.5))


def ensemble_labels(made: Round) -> Labels:
    """Return the thresholded mean of equation 1 for all targets of a first round, no reader involved.

    Raises
    ------
    ValueError
        If the round keeps no means: only first rounds do.
    """
    if not made.means:
        raise ValueError("only a first round keeps its members' mean")
    liver, *lesions = made.means
    return compose(liver, made.state.domain, lesions, made.candidates[0].labels.shape)
