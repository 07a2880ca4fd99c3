"""A target in round 1: its ensemble of members, its uncertainty, and its four candidates (docs/engine.md).

The steps are the same for liver and lesions; only their `Plan` differs. The model is a `Decoder`. The caller
binds it to the embeddings of the target's crop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workers.uair import ensemble, prompts, refine, uncertainty
from workers.uair.belief import Belief, prior_belief, with_direction
from workers.uair.candidates import Rule, by_size, choose_four, plausible
from workers.uair.compose import LIVER, spread_apart, tidied
from workers.uair.density import density_evidence
from workers.uair.ensemble import LIMIT, Decoder, Ensemble, in_half, probability
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing, plan_crop
from workers.uair.posterior import clusters
from workers.uair.preference import SizePosterior, radius_mm
from workers.uair.state import TargetState

LARGEST_DICE = 0.98
"""Two candidates of a target with a larger Dice are moved apart: a reader could not distinguish them."""
SHAPES_LIMIT, MOST_SHAPES_LIMIT = 4.2, 0.42
"""For shapes, T of equation 2 is the first value times T for members, but at most the second value.

Shapes need a larger T, because a cell of a shape is 0 or 1, and a cell of a member is a probability.
"""
SMOOTHING_MM = 2.0
LEAST_PREFERENCE_MM = 0.3
"""A smaller remembered preference, in mm, does not change a candidate."""


@dataclass(frozen=True)
class Plan:
    """The options of crop and prompts for a kind of target (liver or lesion).

    Parameters
    ----------
    margin, min_side_mm, step_mm
        Margin, smallest side and step of its crop, see `plan_crop`.
    spread
        Spread of the first prompts.
    tokens
        Mask tokens of the members, repeated for further members (None: best predicted IoU).
    """

    margin: float
    min_side_mm: float
    step_mm: float
    spread: prompts.Spread
    tokens: tuple[int | None, ...]

    def crop(
        self,
        box: Box,
        spacing: Spacing,
        shape: tuple[int, ...],
        *,
        pixels: int,
        cells: int,
        whole_slice: bool = False,
    ) -> Crop:
        """Return the crop of a target of this kind in `box`, see `plan_crop`."""
        return plan_crop(
            box,
            spacing,
            (shape[0], shape[1], shape[2]),
            pixels=pixels,
            cells=cells,
            margin=self.margin,
            min_side_mm=self.min_side_mm,
            step_mm=self.step_mm,
            whole_slice=whole_slice,
        )


LIVER_PLAN = Plan(1.25, 50.0, 3.0, prompts.Spread(0.04, (-0.10, 0.08)), (0, None))
"""The plan for the liver.

Members use the single-mask token, or the token with the best predicted IoU. Members of all mask tokens are
worse.
"""
LESION_PLAN = Plan(2.0, 50.0, 1.5, prompts.Spread(0.06, (-0.15, 0.35)), (0, 0, 1, 2, 3))
"""The plan for lesions.

A proposal by density shows only a lesion's dark core, so most boxes are larger than the proposal.
"""


@dataclass(frozen=True)
class CandidateOptions:
    """The options for choosing four candidates: number of members, rule of equation 3, seed."""

    members: int
    rule: Rule
    seed: int = 0


def first_pool(
    decode: Decoder,
    crop: Crop,
    outline: prompts.Outline,
    plan: Plan,
    options: CandidateOptions,
    rng: np.random.Generator,
) -> Ensemble:
    """Return the first ensemble of a target, before any answer."""
    members = prompts.first_members(outline, options.members, rng, spread=plan.spread, tokens=plan.tokens)
    answers = ensemble.predict(decode, members, crop.stack_shape, smooth_slices(crop))
    return replace(answers, box_cells=prompts.mean_box_area(members) * (crop.cells / crop.pixels) ** 2)


def smooth_slices(crop: Crop) -> float:
    """Return the standard deviation, in slices, of the smoothing of a 2-D model's predictions."""
    return min(1.0, SMOOTHING_MM / crop.step_mm)


def open_target(
    value: int,
    crop: Crop,
    pool: Ensemble,
    options: CandidateOptions,
    *,
    organ: Mask | None = None,
    confidence: float = 1.0,
    preference_mm: float = 0.0,
    hu: Float32 | None = None,
) -> TargetState:
    """Return a target with its first four candidates, the largest first.

    Parameters
    ----------
    preference_mm
        The remembered preference of the reader, in mm beyond the model. Shapes with this preference have half
        of the weight. So the four candidates fit this reader and other readers.
    organ
        ``(n, h, w)`` cells that the target may cover; None: all cells.
    hu
        ``(n, h, w)`` mean HU of the crop's cells. In later rounds, the belief follows a lesion's density by
        these HU. Without a belief, the target keeps them for an outliner (`workers.uair.outlines`).
    """
    kept = plausible(pool.masks, pool.quality, organ)
    logits = pool.logits[kept]
    mean, deviation = ensemble.statistics(probability(logits))
    limit = uncertainty.threshold(float((mean > 0.5).sum()), pool.box_cells)
    preference_mm = preference_mm if abs(preference_mm) >= LEAST_PREFERENCE_MM else 0.0
    belief = None
    if options.rule == "belief":
        rng = np.random.default_rng([options.seed, value])
        belief = prior_belief(logits > 0, organ, _cell_mm(crop), rng, preference_mm=preference_mm)
    if belief is not None and value != LIVER:
        offered = by_size(spread_apart(new_candidates(belief, crop, rng, mean), None, LARGEST_DICE))
        deviation = belief.deviation_from(mean > 0.5)
        limit = limit_of_shapes(limit)
        belief = _following_density(belief, hu, logits > 0, organ, crop, rng)
    else:
        weights = None
        if preference_mm:
            logits, weights = _with_preference(logits, crop, preference_mm)
        region = uncertainty.uncertain_region(deviation, limit)
        four = choose_four(logits > 0, region, rule_of_members(options), weights=weights)
        offered = by_size(spread_apart(tidied_members(logits, four), None, LARGEST_DICE))
    size = SizePosterior.prior(radius_mm(volume_ml(mean - 0.5, crop)), offset_mm=preference_mm)
    nothing = np.empty((0, *crop.stack_shape), np.float16)
    whole = ensemble.statistics(probability(pool.logits))[0]
    return TargetState(
        value=value,
        crop=crop,
        offered=in_half(offered),
        present=(True,) * 4,
        mean=in_half(ensemble.logit(whole)),
        deviation=in_half(deviation),
        limit=limit,
        earlier=nothing,
        size=size,
        confidence=confidence,
        hu=nothing[:0, 0] if hu is None or belief is not None else hu.astype(np.float16),
        belief=belief,
    )


def _following_density(
    belief: Belief,
    hu: Float32 | None,
    masks: Mask,
    organ: Mask | None,
    crop: Crop,
    rng: np.random.Generator,
) -> Belief:
    """Return a lesion's belief for later rounds, whose shapes may follow the density."""
    allowed = np.ones(masks.shape[1:], bool) if organ is None else organ
    evidence = None if hu is None else density_evidence(hu, masks, allowed, _cell_mm(crop))
    return belief if evidence is None else with_direction(belief, evidence, rng)


def limit_of_shapes(limit: float) -> float:
    """Return T of equation 2 for shapes, given T for members."""
    return min(SHAPES_LIMIT * limit, MOST_SHAPES_LIMIT)


def _cell_mm(crop: Crop) -> Spacing:
    return float(crop.step_mm), float(crop.cell_mm), float(crop.cell_mm)


def rule_of_members(options: CandidateOptions) -> Rule:
    """Return the rule that chooses members: for the liver's first four, and for cases without a belief."""
    return "medoids" if options.rule == "belief" else options.rule


def new_candidates(
    belief: Belief, crop: Crop, rng: np.random.Generator, otherwise: Float32, *kept: Float32
) -> Float32:
    """Return four new candidates ``(4, n, h, w)``, or three beside the candidate `kept`.

    If the shapes of a cluster have no common cell, then its candidate is its largest shape. If that shape is
    empty, too, then the candidate is the probability `otherwise`.
    """
    found = []
    for members in clusters(belief, rng, *(logits > 0 for logits in kept)):
        logits = tidied(belief.logits_of(members, crop.stack_shape))
        if not (logits > 0).any():
            largest = members[belief.shapes[members].sum(axis=1).argmax()]
            logits = tidied(belief.logits_of(np.array([largest]), crop.stack_shape))
        found.append(logits if (logits > 0).any() else ensemble.logit(otherwise))
    return np.stack(found).astype(np.float32)


def _with_preference(
    logits: Float32, crop: Crop, preference_mm: float
) -> tuple[Float32, NDArray[np.float64]]:
    """Return members and their weights. Copies of every second member join, moved by the preference."""
    moved = []
    for member in logits[::2]:
        distance = refine.signed_distance_mm(member > 0, crop) + preference_mm
        shifted = np.clip(distance / crop.cell_mm, -LIMIT, LIMIT)
        moved.append(shifted if (shifted > 0).any() else member)
    joined = np.concatenate([logits, np.stack(moved)]).astype(np.float32)
    weights = np.repeat([0.5 / len(logits), 0.5 / len(moved)], [len(logits), len(moved)])
    return joined, weights


def volume_ml(logits: NDArray[np.floating], crop: Crop) -> float:
    """Return the volume in ml in which logits are positive."""
    return float((logits > 0).sum() * crop.cell_volume_ml)


def tidied_members(logits: Float32, four: tuple[int, ...]) -> Float32:
    """Return the chosen members ``(4, n, h, w)``, each as one piece."""
    return np.stack([tidied(logits[index]) for index in four])
