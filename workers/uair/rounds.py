"""A round as the reader gets it: four label volumes composed from the state of its targets."""

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
SETTLED = ("as selected, nothing left in doubt",)
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
        What sets it apart from its siblings, in a few words.
    """

    k: int
    labels: Labels
    character: str


@dataclass(frozen=True)
class Round:
    """The candidates of a round and what the next round needs.

    Parameters
    ----------
    number
        1 is automatic.
    candidates
        Four different label volumes; or one, if no target is left in doubt.
    state
        For `Engine.next_round`.
    targets
        Label values that may occur, ascending: 1, and one for each lesion.
    uncertain
        ``(Z, Y, X)`` bool on the canonical grid: M_unc of equation 2, of all targets that are shown.
    parts
        Label value -> parts of the target that can be answered on their own; only targets that have some.
    maps
        Probabilities of the 3-D network that led round 1; None in later rounds, and where none looked.
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
    """Return the lesions with the candidates that they appear in; dropped and unchanged ones stay."""
    shown = shown_in([lesion.confidence for lesion in lesions], first=first)
    return [
        replace(lesion, present=present) if any(lesion.present) and lesion.value not in unchanged else lesion
        for lesion, present in zip(lesions, shown, strict=True)
    ]


def composed(state: RoundState, shape: tuple[int, ...], sizes: tuple[str, ...]) -> Round:
    """Compose the label volumes of a state; `sizes` say how candidates 1 to 4 differ.

    If no target is in doubt, candidate 1 is the only one: four equal ones would ask nothing.
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
    """Return where the pools of the shown targets disagree, interpolated to the voxels."""
    region = np.zeros(shape, bool)
    for target in state.targets:
        if any(target.present):
            part, excess = target.crop.positive_part(target.deviation.astype(np.float32) - target.limit)
            region[part] |= excess > 0
    return region


def own_radii_mm(state: RoundState) -> dict[int, float]:
    """Return the radius that the model's own mean gives each target, in voxels of the volume.

    What a reader accepts is compared with it. `state` is that of round 1.
    """
    found = {}
    for target in state.targets:
        _, mean = target.crop.positive_part(tidied(target.mean.astype(np.float32)))
        ml = np.count_nonzero(mean > 0) * float(np.prod(target.crop.spacing)) / 1000.0
        if any(target.present) and ml > 0:
            found[target.value] = radius_mm(ml)
    return found


def ensemble_labels(state: RoundState, shape: tuple[int, ...], *, held_by: int = 3) -> Labels:
    """Return ``(Z, Y, X)`` what the first ensembles draw on average, no reader asked (equation 1).

    Lesions count that at least `held_by` of the four candidates hold. `state` is that of round 1.
    """
    liver, *lesions = (
        Layer(target.value, target.crop, target.mean.astype(np.float32))
        for target in state.targets
        if sum(target.present) >= held_by
    )
    return compose(liver, state.domain, lesions, (shape[0], shape[1], shape[2]))


def _layer(target: TargetState, k: int) -> Layer:
    return Layer(target.value, target.crop, target.offered[k].astype(np.float32))
