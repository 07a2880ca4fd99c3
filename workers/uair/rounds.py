"""A round as the reader gets it: four label volumes composed from the state of its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from workers.uair.compose import LIVER, Labels, Layer, compose
from workers.uair.confidence import shown_in
from workers.uair.grids import Mask
from workers.uair.preference import radius_mm
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
    uncertain
        ``(Z, Y, X)`` bool on the canonical grid: M_unc of equation 2, of all targets that are shown.
    base_mm
        Label value -> radius of the model's own mean, as the voxels of a candidate would have it. What a
        reader accepts is compared with it.
    """

    number: int
    candidates: tuple[Candidate, ...]
    state: RoundState
    targets: tuple[int, ...]
    uncertain: Mask
    base_mm: Mapping[int, float]


def presented(lesions: list[TargetState], *, first: bool) -> list[TargetState]:
    """Return the lesions with the candidates that they appear in; dropped ones stay dropped."""
    shown = shown_in([lesion.confidence for lesion in lesions], first=first)
    return [
        replace(lesion, present=present) if any(lesion.present) else lesion
        for lesion, present in zip(lesions, shown, strict=True)
    ]


def composed(state: RoundState, shape: tuple[int, ...], sizes: tuple[str, ...]) -> Round:
    """Compose the four label volumes of a state; `sizes` say how candidates 1 to 4 differ."""
    liver, *lesions = state.targets
    found = []
    for k, size in enumerate(sizes):
        layers = [_layer(lesion, k) for lesion in lesions if lesion.present[k]]
        labels = compose(_layer(liver, k), state.domain, layers, (shape[0], shape[1], shape[2]))
        partial = any(any(lesion.present) and not lesion.present[k] for lesion in lesions)
        found.append(Candidate(k + 1, labels, f"{size}, sure lesions only" if partial else size))
    values = tuple(target.value for target in state.targets)
    return Round(state.number, tuple(found), state, values, _uncertain(state, shape), _base_mm(state, found))


def _base_mm(state: RoundState, candidates: list[Candidate]) -> dict[int, float]:
    """Return the targets' base radii, times what composing made of the radii of their candidates."""
    counts = np.array([[np.bincount(p.ravel(), minlength=256) for p in one.labels] for one in candidates])
    voxels = counts.sum(axis=1)
    voxels[:, LIVER] = voxels[:, LIVER:].sum(axis=1)
    found = {}
    for target in state.targets:
        cells = (target.offered > 0).reshape(len(candidates), -1).sum(axis=1)
        composed_ml = voxels[:, target.value] * float(np.prod(target.crop.spacing)) / 1000.0
        ratios = [
            radius_mm(ml) / radius_mm(n * target.crop.cell_volume_ml)
            for ml, n, present in zip(composed_ml, cells, target.present, strict=True)
            if present and ml > 0
        ]
        if ratios:
            found[target.value] = target.size.base_mm * float(np.mean(ratios))
    return found


def _uncertain(state: RoundState, shape: tuple[int, ...]) -> Mask:
    """Return where the pools of the shown targets disagree, interpolated to the voxels."""
    region = np.zeros(shape, bool)
    for target in state.targets:
        if any(target.present):
            part, excess = target.crop.to_volume(target.deviation.astype(np.float32) - target.limit)
            region[part] |= excess > 0
    return region


def ensemble_labels(state: RoundState, shape: tuple[int, ...]) -> Labels:
    """Return ``(Z, Y, X)`` what the first ensembles draw on average, no reader asked (equation 1).

    Lesions count that most of the four candidates hold. `state` is that of round 1.
    """
    liver, *lesions = (
        Layer(target.value, target.crop, target.mean.astype(np.float32))
        for target in state.targets
        if sum(target.present) > len(target.present) / 2
    )
    return compose(liver, state.domain, lesions, (shape[0], shape[1], shape[2]))


def _layer(target: TargetState, k: int) -> Layer:
    return Layer(target.value, target.crop, target.offered[k].astype(np.float32))
