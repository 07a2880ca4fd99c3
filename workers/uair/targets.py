"""One target through one round: pool, uncertainty, four candidates (ENGINE §1, steps 3 to 6).

Liver and lesions go the same way and differ only in a `Plan`. The model is a `Decoder`, bound by the caller
to the embeddings of the target's crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workers.uair import ensemble, prompts, refine, uncertainty
from workers.uair.belief import Belief, prior_belief, with_direction
from workers.uair.candidates import SHOWN, Rule, by_size, choose_four, dice_matrix, plausible
from workers.uair.compose import LIVER, spread_apart, tidied
from workers.uair.density import density_evidence
from workers.uair.ensemble import LIMIT, Decoder, Ensemble, in_half, probability
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing, plan_crop
from workers.uair.outlines import OutlinePrompter, Outliner, joined_by_outlines
from workers.uair.parts import PartNumbers, numbers_on_crop, parts_of, put_together
from workers.uair.posterior import (
    after_drawing,
    after_parts,
    after_pick,
    after_rejection,
    clusters,
    expected_gain,
)
from workers.uair.preference import SizePosterior, member_posterior, radius_mm
from workers.uair.state import TargetState

LARGEST_DICE = 0.98
"""Candidates of a target that agree more than this are moved apart: a reader could not tell them apart."""
LARGEST_LIVER_DICE = 0.99
"""The same for the liver in later rounds, whose surface is certain to a millimetre or two."""
SHAPES_LIMIT, MOST_SHAPES_LIMIT = 4.2, 0.42
"""T of equation 2 for shapes, in those of members, and its most: shapes are 0 or 1 in a cell, members not."""
ODDS_OF_A_PICK = 10.0
"""How much likelier a reader picks a candidate with a doubtful lesion if it is one."""
SETTLED_GAIN = 0.005
"""A target from which another pick is expected to gain less Dice than this is settled."""
REPEATED_DICE = 0.96
"""After a rejection, members that agree more than this with something rejected are not offered again."""
KEPT_EARLIER = 8
SIZE_QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
SMOOTHING_MM = 2.0
NO_PARTS: Mapping[str, int] = MappingProxyType({})
LEAST_PREFERENCE_MM = 0.3
"""A remembered preference below this changes no candidate."""


@dataclass(frozen=True)
class Plan:
    """How a kind of target is looked at and asked for.

    Parameters
    ----------
    margin, min_side_mm, step_mm
        Margin, smallest side and step of its crop, see `plan_crop`.
    spread
        Spread of the first prompts.
    tokens
        Mask tokens that members use in turn (None: best predicted IoU).
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
        """Return the crop of such a target in `box`; see `plan_crop`."""
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
"""All mask tokens together harm on the liver; the single-mask token and the best predicted IoU do not."""
LESION_PLAN = Plan(2.0, 50.0, 1.5, prompts.Spread(0.06, (-0.15, 0.35)), (0, 0, 1, 2, 3))
"""Blobs show the dark core of a lesion, so boxes mostly grow from them."""


@dataclass(frozen=True)
class CandidateOptions:
    """How four are chosen: how many members, by which rule of equation 3, and from which seed."""

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
    """Return the automatic pool of a target."""
    members = prompts.first_members(outline, options.members, rng, spread=plan.spread, tokens=plan.tokens)
    answers = ensemble.predict(decode, members, crop.stack_shape, smooth_slices(crop))
    return replace(answers, box_cells=prompts.mean_box_area(members) * (crop.cells / crop.pixels) ** 2)


def smooth_slices(crop: Crop) -> float:
    """Return how many slices the answers of a 2-D model are smoothed over."""
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
    """Choose the first four of a target, largest first.

    Parameters
    ----------
    preference_mm
        How much farther out the reader is remembered to draw than the model. Members drawn so join the pool
        with half of its weight: the four hold both, whoever reads.
    organ
        ``(n, h, w)`` where it may be; None: anywhere.
    hu
        ``(n, h, w)`` mean HU of the crop's cells. In later rounds the belief follows a lesion's density, and
        without a belief an outliner is asked with it.
    """
    kept = plausible(pool.masks, pool.quality, organ)
    logits = pool.logits[kept]
    mean, deviation = ensemble.statistics(probability(logits))
    limit = uncertainty.threshold(float((mean > 0.5).sum()), pool.box_cells)
    preference_mm = preference_mm if abs(preference_mm) >= LEAST_PREFERENCE_MM else 0.0
    belief = None
    if options.rule == "belief":
        rng = np.random.default_rng([options.seed, value])
        belief = prior_belief(logits > 0, organ, _cell_mm(crop), rng, taste_mm=preference_mm)
    if belief is not None and value != LIVER:
        offered = by_size(spread_apart(new_candidates(belief, crop, rng, mean), None, LARGEST_DICE))
        deviation = belief.deviation_from(mean > 0.5)
        limit = _limit_of_shapes(limit)
        belief = _following_density(belief, hu, logits > 0, organ, crop, rng)
    else:
        weights = None
        if preference_mm:
            logits, weights = _with_preference(logits, crop, preference_mm)
        region = uncertainty.uncertain_region(deviation, limit)
        four = choose_four(logits > 0, region, _rule_of_members(options), weights=weights)
        offered = by_size(spread_apart(_tidied(logits, four), None, LARGEST_DICE))
    size = SizePosterior.prior(radius_mm(_volume_ml(mean - 0.5, crop)), offset_mm=preference_mm)
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
    """Return a lesion's belief for the rounds after this: shapes may follow the density then."""
    allowed = np.ones(masks.shape[1:], bool) if organ is None else organ
    evidence = None if hu is None else density_evidence(hu, masks, allowed, _cell_mm(crop))
    return belief if evidence is None else with_direction(belief, evidence, rng)


def _limit_of_shapes(limit: float) -> float:
    return min(SHAPES_LIMIT * limit, MOST_SHAPES_LIMIT)


def _cell_mm(crop: Crop) -> Spacing:
    return float(crop.step_mm), float(crop.cell_mm), float(crop.cell_mm)


def _rule_of_members(options: CandidateOptions) -> Rule:
    """Return the rule by which members are chosen: the liver's first four, and cases without a belief."""
    return "medoids" if options.rule == "belief" else options.rule


def new_candidates(
    belief: Belief, crop: Crop, rng: np.random.Generator, otherwise: Float32, *kept: Float32
) -> Float32:
    """Return new candidates ``(4, n, h, w)``, or three beside what is `kept`.

    A cluster whose shapes have no common cell is shown by its largest shape. If that is empty, too, then the
    probability `otherwise` is shown.
    """
    found = []
    for members in clusters(belief, rng, *(logits > 0 for logits in kept)):
        logits = tidied(belief.logits_of(members, crop.stack_shape))
        if not (logits > 0).any():
            largest = members[belief.shapes[members].sum(axis=1).argmax()]
            logits = tidied(belief.logits_of(np.array([largest]), crop.stack_shape))
        found.append(logits if (logits > 0).any() else ensemble.logit(otherwise))
    return np.stack(found).astype(np.float32)


def answered(
    target: TargetState,
    belief: Belief,
    picked: int | None,
    number: int,
    rng: np.random.Generator,
    *,
    by_part: Mapping[str, int] = NO_PARTS,
    quiet: bool = False,
) -> TargetState:
    """Return the target after the reader's answer, without asking a network (equation 4).

    Candidate 1 is the last pick, of this or an earlier round, voxel for voxel. After a rejection before any
    pick, all four are new. The others are clusters of the belief that the answer leaves. If another pick is
    expected to gain less than `SETTLED_GAIN`, the target is settled: all four are candidate 1.

    Parameters
    ----------
    picked
        Index 0 … 3 of the offered candidate; None: all were rejected.
    number
        The new round, 2 and later.
    by_part
        Name of a part (`parts_of`) -> index 0 … 3 of the candidate that it is taken from instead.
    quiet
        Leave the target as it was picked in all four, because the round shall ask about other targets.
    """
    if target.settled and picked is not None and not target.drawn and (quiet or not target.resting):
        return target
    offered = target.offered.astype(np.float32)
    if picked is None:
        belief = after_rejection(belief, offered > 0, number - 1, rng)
        kept = offered[0] if target.held else None
    elif not (offered[picked] > 0).any():
        return target
    elif picked == 0 and target.drawn:
        kept = offered[0]
        belief = after_drawing(belief, kept > 0, number - 1, rng)
    elif target.settled:
        kept = offered[0]
    else:
        kept = selected_logits(target, picked, by_part)
        belief = _believed(target, belief, picked, by_part, number - 1, rng)
    otherwise = probability(tidied(offered.mean(axis=0)))
    if kept is None:
        new = by_size(spread_apart(new_candidates(belief, target.crop, rng, otherwise), None, LARGEST_DICE))
        middle = new.mean(axis=0) > 0
    elif quiet:
        new, middle = np.repeat(kept[None], SHOWN, axis=0), kept > 0
    else:
        others = new_candidates(belief, target.crop, rng, otherwise, kept)
        largest = LARGEST_LIVER_DICE if target.value == LIVER else LARGEST_DICE
        new = spread_apart(np.concatenate([kept[None], others]), 0, largest)
        new = np.concatenate([new[:1], by_size(new[1:])])
        if expected_gain(belief, new > 0) < SETTLED_GAIN:
            new = np.repeat(kept[None], SHOWN, axis=0)
        middle = kept > 0
    deviation = belief.deviation_from(middle)
    return replace(
        target,
        offered=in_half(new),
        deviation=in_half(deviation),
        confidence=chosen_with(target, picked),
        limit=_limit_of_shapes(uncertainty.THRESHOLD) if target.value == LIVER else target.limit,
        belief=belief,
        held=kept is not None,
        drawn=False,
        resting=quiet and kept is not None,
    )


def selected_logits(target: TargetState, picked: int, by_part: Mapping[str, int]) -> Float32:
    """Return what a reader selected, ``(n, h, w)`` logits: a candidate, its parts of others (`answered`)."""
    offered = target.offered.astype(np.float32)
    numbers, chosen = _chosen(target, picked, by_part)
    return tidied(put_together(offered, numbers, chosen)) if chosen else offered[picked]


def _believed(
    target: TargetState,
    belief: Belief,
    picked: int,
    by_part: Mapping[str, int],
    answers: int,
    rng: np.random.Generator,
) -> Belief:
    """Return the belief after a pick, or after a pick for each part."""
    numbers, chosen = _chosen(target, picked, by_part)
    if not chosen:
        return after_pick(belief, target.offered > 0, picked, answers, rng)
    return after_parts(belief, target.offered > 0, numbers, chosen, answers, rng)


def _chosen(target: TargetState, picked: int, by_part: Mapping[str, int]) -> tuple[PartNumbers, list[int]]:
    """Return each cell's part and each part's candidate; no candidates if all are the picked one."""
    parts = parts_of(target) if by_part else ()
    chosen = [by_part.get(part.name, picked) for part in parts]
    if all(index == picked for index in chosen):
        return np.zeros(target.crop.stack_shape, np.uint8), []
    return numbers_on_crop(parts, target), chosen


def chosen_with(target: TargetState, picked: int | None) -> float:
    """Return the confidence in a lesion after the answer, by Bayes' rule.

    A reader who takes a candidate that holds it, where another one is without it, says that it is there.
    """
    if picked is None or all(target.present):
        return target.confidence
    odds = ODDS_OF_A_PICK * target.confidence / max(1e-6, 1.0 - target.confidence)
    return odds / (1.0 + odds)


def _with_preference(
    logits: Float32, crop: Crop, preference_mm: float
) -> tuple[Float32, NDArray[np.float64]]:
    """Return a pool joined by every other member, its surface moved outwards, and the members' weights."""
    moved = []
    for member in logits[::2]:
        distance = refine.signed_distance_mm(member > 0, crop) + preference_mm
        shifted = np.clip(distance / crop.cell_mm, -LIMIT, LIMIT)
        moved.append(shifted if (shifted > 0).any() else member)
    joined = np.concatenate([logits, np.stack(moved)]).astype(np.float32)
    weights = np.repeat([0.5 / len(logits), 0.5 / len(moved)], [len(logits), len(moved)])
    return joined, weights


def refine_target(
    target: TargetState,
    decode: Decoder,
    picked: int | None,
    number: int,
    plan: Plan,
    options: CandidateOptions,
    rng: np.random.Generator,
    organ: Mask | None = None,
    outliner: Outliner | None = None,
) -> TargetState:
    """Return the target after the reader's answer (equation 4).

    After a pick, candidate 1 is what was picked (the reader may always keep it) and 2 to 4 are new, largest
    first. After a rejection all four are new, drawn more widely, and unlike what was rejected. For targets
    without a belief; `answered` is for those with one.

    Parameters
    ----------
    picked
        Index 0 … 3 of the offered candidate; None: all were rejected.
    number
        The new round, 2 and later.
    outliner
        Draws it in 3-D, if `target` keeps its densities.
    """
    offered = target.offered.astype(np.float32)
    history = np.concatenate([offered, target.earlier.astype(np.float32)])
    if picked is None:
        reference = tidied(offered.mean(axis=0))
        size = target.size.widened()
        weights = np.full(len(history), 1.0 / len(history))
    else:
        reference = offered[picked]
        size = target.size.after_pick(tuple(_volume_ml(mask, target.crop) for mask in offered), picked)
        weights = member_posterior(_agreement(history, reference))
    if not (reference > 0).any():
        return target
    limit = target.limit
    kinds = refine.kinds_of(options.members)
    asked = refine.refined_members(
        reference,
        uncertainty.uncertain_region(target.deviation.astype(np.float32), limit),
        kinds,
        rng,
        pixels=target.crop.pixels,
        spread=refine.spread_of(number, rejected=picked is None),
        tokens=plan.tokens,
    )
    pool = ensemble.predict(decode, asked, target.crop.stack_shape, smooth_slices(target.crop))
    if outliner is not None and len(target.hu):
        prompter = OutlinePrompter(outliner, target.crop, target.hu.astype(np.float32))
        pool = joined_by_outlines(pool, prompter.again(reference))
    radius = radius_mm(_volume_ml(reference, target.crop))
    shaping = refine.Shaping(target.crop, size.radii_mm(SIZE_QUANTILES), radius, history, weights)
    logits = refine.reshape(pool.logits, reference, kinds, shaping, rng)
    logits = logits[plausible(logits > 0, pool.quality, organ)]
    deviation = uncertainty.deviation_from(probability(reference), probability(logits))
    region = uncertainty.uncertain_region(deviation, limit)
    if picked is None:
        logits = logits[_unlike(logits, offered)]
        belief = _belief(logits, target.crop, size, None)
        four = choose_four(logits > 0, region, _rule_of_members(options), weights=belief)
        new = by_size(spread_apart(_tidied(logits, four), None, LARGEST_DICE))
        earlier = target.earlier
    else:
        logits = np.concatenate([reference[None], logits])
        belief = _belief(logits, target.crop, size, reference)
        four = choose_four(logits > 0, region, _rule_of_members(options), weights=belief, fixed=0)
        apart = spread_apart(_tidied(logits, four), 0, LARGEST_DICE)
        new = np.concatenate([apart[:1], by_size(apart[1:])])
        earlier = np.concatenate([np.delete(target.offered, picked, axis=0), target.earlier])[:KEPT_EARLIER]
    return replace(
        target, offered=in_half(new), deviation=in_half(deviation), limit=limit, earlier=earlier, size=size
    )


def _volume_ml(logits: NDArray[np.floating], crop: Crop) -> float:
    return float((logits > 0).sum() * crop.cell_volume_ml)


def _agreement(logits: Float32, reference: Float32) -> NDArray[np.float64]:
    """Return the Dice of each of ``(N, …)`` with a reference."""
    return dice_matrix(np.concatenate([reference[None], logits]) > 0)[0, 1:]


def _belief(
    logits: Float32, crop: Crop, size: SizePosterior, reference: Float32 | None
) -> NDArray[np.float64]:
    """Return the probability of each pool member: near the pick, and of a size that the reader may want."""
    volumes = [_volume_ml(member, crop) for member in logits]
    fit = np.array([size.density(volume) for volume in volumes]) + 1e-6
    if reference is None:
        return np.asarray(fit / fit.sum())
    return member_posterior(_agreement(logits, reference), fit)


def _unlike(logits: Float32, rejected: Float32) -> NDArray[np.intp]:
    """Return members that do not repeat a rejected candidate; the least similar four at least."""
    count = len(logits)
    likeness = dice_matrix(np.concatenate([logits, rejected]) > 0)[:count, count:].max(axis=1)
    order = np.argsort(likeness, kind="stable")
    return np.sort(order[: max(SHOWN, int((likeness <= REPEATED_DICE).sum()))])


def _tidied(logits: Float32, four: tuple[int, ...]) -> Float32:
    return np.stack([tidied(logits[index]) for index in four])
