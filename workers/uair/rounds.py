"""Compose a round: four label volumes from the state of its targets."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

import numpy as np

from workers.uair.compose import Labels, Layer, compose, tidied
from workers.uair.confidence import shown_in
from workers.uair.grids import Mask
from workers.uair.lesion_maps import LesionMaps
from workers.uair.parts import Part, parts_of
from workers.uair.preference import radius_mm
from workers.uair.state import RoundState, TargetState

SIZES = ("most inclusive", "inclusive", "tight", "tightest")
SETTLED = ("as selected, no uncertain region left",)
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
    character
        The difference from the other candidates, in a few words.
    """

    k: int
    labels: Labels
    character: str


@dataclass(frozen=True)
class Round:
    """The candidates of a round, and the state for the next round.

    Parameters
    ----------
    number
        Number of the round, from 1.
    candidates
        Four different label volumes, or one if no target is in doubt.
    state
        The state for `Engine.next_round`.
    targets
        Label values that may occur, ascending: 1 for the liver, 1 + n for lesion n.
    uncertain
        ``(Z, Y, X)`` bool on the canonical grid: M_unc of equation 2, of all targets that are shown.
    parts
        Label value -> parts of the target for which a reader can choose separately. Targets without parts are
        left out.
    maps
        Probabilities of the learned lesion finder in round 1; None in later rounds, and without a finder.
    """

    number: int
    candidates: tuple[Candidate, ...]
    state: RoundState
    targets: tuple[int, ...]
    uncertain: Mask
    parts: Mapping[int, tuple[Part, ...]]
    maps: LesionMaps | None = None


def presented(
    lesions: list[TargetState], *, first: bool, unchanged: Container[int] = ()
) -> list[TargetState]:
    """Return the lesions. Their `present` states which candidates contain them.

    Dropped lesions, and lesions whose label value is in `unchanged`, stay as they are.
    """
    shown = shown_in([lesion.confidence for lesion in lesions], first=first)
    return [
        replace(lesion, present=present) if any(lesion.present) and lesion.value not in unchanged else lesion
        for lesion, present in zip(lesions, shown, strict=True)
    ]


def composed(state: RoundState, shape: tuple[int, ...], sizes: tuple[str, ...]) -> Round:
    """Compose the label volumes of a state. `sizes` are the words for candidates 1 to 4.

    If no target is in doubt, then candidate 1 is the only candidate, because all four would be equal.
    """
    liver, *lesions = state.targets
    if not any(target.in_doubt for target in state.targets):
        sizes = SETTLED
    found = []
    for k, size in enumerate(sizes):
        layers = [_layer(lesion, k) for lesion in lesions if lesion.present[k]]
        labels = compose(_layer(liver, k), state.domain, layers, (shape[0], shape[1], shape[2]))
        partial = any(any(lesion.present) and not lesion.present[k] for lesion in lesions)
        found.append(Candidate(k + 1, labels, f"{size}, sure lesions only" if partial else size))
    values = tuple(target.value for target in state.targets)
    parts = {target.value: parts_of(target) for target in state.targets}
    parts = {value: own for value, own in parts.items() if own}
    return Round(state.number, tuple(found), state, values, _uncertain(state, shape), parts)


def _uncertain(state: RoundState, shape: tuple[int, ...]) -> Mask:
    """Return the mask ``(Z, Y, X)`` of the voxels in M_unc of a shown target."""
    region = np.zeros(shape, bool)
    for target in state.targets:
        if any(target.present):
            part, excess = target.crop.positive_part(target.deviation.astype(np.float32) - target.limit)
            region[part] |= excess > 0
    return region


def own_radii_mm(state: RoundState) -> dict[int, float]:
    """Return the radius in mm of the model's mean for each label value, measured in voxels of the volume.

    The accepted segmentation is compared with this radius. `state` is the state of round 1.
    """
    found = {}
    for target in state.targets:
        _, mean = target.crop.positive_part(tidied(target.mean.astype(np.float32)))
        ml = np.count_nonzero(mean > 0) * float(np.prod(target.crop.spacing)) / 1000.0
        if any(target.present) and ml > 0:
            found[target.value] = radius_mm(ml)
    return found


def ensemble_labels(state: RoundState, shape: tuple[int, ...], *, held_by: int = 3) -> Labels:
    """Return the labels ``(Z, Y, X)`` of the mean of the first ensembles, without a reader (equation 1).

    Only lesions in at least `held_by` of the four candidates count. `state` is the state of round 1.
    """
    liver, *lesions = (
        Layer(target.value, target.crop, target.mean.astype(np.float32))
        for target in state.targets
        if sum(target.present) >= held_by
    )
    return compose(liver, state.domain, lesions, (shape[0], shape[1], shape[2]))


def _layer(target: TargetState, k: int) -> Layer:
    return Layer(target.value, target.crop, target.offered[k].astype(np.float32))
