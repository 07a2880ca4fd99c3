"""A target after the reader's answer: its updated belief, and its next four candidates (docs/engine.md).

`answered` updates the belief of a target and uses no network. If a target has no belief, then `refine_target`
prompts the model again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workers.uair import ensemble, refine, uncertainty
from workers.uair.belief import Belief
from workers.uair.candidates import SHOWN, by_size, choose_four, dice_matrix, plausible
from workers.uair.compose import LIVER, spread_apart, tidied
from workers.uair.ensemble import Decoder, in_half, probability
from workers.uair.grids import Crop, Float32, Mask
from workers.uair.outlines import OutlinePrompter, Outliner, joined_by_outlines
from workers.uair.parts import PartNumbers, numbers_on_crop, parts_of, put_together
from workers.uair.posterior import after_drawing, after_parts, after_pick, after_rejection, expected_gain
from workers.uair.preference import SizePosterior, member_posterior, radius_mm
from workers.uair.state import TargetState
from workers.uair.targets import (
    LARGEST_DICE,
    CandidateOptions,
    Plan,
    limit_of_shapes,
    new_candidates,
    rule_of_members,
    smooth_slices,
    tidied_members,
    volume_ml,
)

LARGEST_LIVER_DICE = 0.99
"""`LARGEST_DICE` for the liver in later rounds. The liver's surface is then certain to 1 or 2 mm."""
ODDS_OF_A_PICK = 10.0
"""If a reader picks a candidate with a doubtful lesion, the odds that the lesion is real grow by this factor.

The factor applies only if another candidate lacks the lesion.
"""
SETTLED_GAIN = 0.005
"""A target is settled (all candidates are equal) if another pick is expected to gain less Dice than this."""
REPEATED_DICE = 0.96
"""After a rejection, a member is not offered if its Dice with a rejected candidate is larger than this."""
KEPT_EARLIER = 8
NO_PARTS: Mapping[str, int] = MappingProxyType({})
SIZE_QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


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
    """Return the target after the reader's answer, without a network (equation 4).

    Candidate 1 is exactly the reader's last pick, from this or an earlier round. Candidates 2 to 4 represent
    clusters of shapes in the updated belief. If all candidates were rejected and there was no pick before,
    then all four candidates are new. If another pick is expected to gain less than `SETTLED_GAIN`, then the
    target is settled: all four candidates equal candidate 1.

    Parameters
    ----------
    picked
        Index 0 … 3 of the offered candidate; None: all were rejected.
    number
        Number of the new round, 2 or larger.
    by_part
        Name of a part (`parts_of`) -> index 0 … 3 of the candidate from which the part is taken.
    quiet
        Whether all four candidates keep the picked shape, because the round shows doubts about other targets.
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
        numbers, chosen = _chosen(target, picked, by_part)
        kept = _combined(offered, picked, numbers, chosen)
        if chosen:
            belief = after_parts(belief, offered > 0, numbers, chosen, number - 1, rng)
        else:
            belief = after_pick(belief, offered > 0, picked, number - 1, rng)
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
        limit=limit_of_shapes(uncertainty.THRESHOLD) if target.value == LIVER else target.limit,
        belief=belief,
        held=kept is not None,
        drawn=False,
        resting=quiet and kept is not None,
    )


def selected_logits(target: TargetState, picked: int, by_part: Mapping[str, int]) -> Float32:
    """Return the selected logits ``(n, h, w)``: the picked candidate with parts of other candidates.

    The parameters are those of `answered`, but `picked` is not None.
    """
    return _combined(target.offered.astype(np.float32), picked, *_chosen(target, picked, by_part))


def _combined(offered: Float32, picked: int, numbers: PartNumbers, chosen: Sequence[int]) -> Float32:
    return tidied(put_together(offered, numbers, chosen)) if chosen else offered[picked]


def _chosen(target: TargetState, picked: int, by_part: Mapping[str, int]) -> tuple[PartNumbers, list[int]]:
    """Return the part number of each cell of the crop, and the chosen candidate for each part.

    The list of candidates is empty if the candidate `picked` is chosen for every part.
    """
    parts = parts_of(target) if by_part else ()
    chosen = [by_part.get(part.name, picked) for part in parts]
    if all(index == picked for index in chosen):
        return np.zeros(target.crop.stack_shape, np.uint8), []
    return numbers_on_crop(parts, target), chosen


def chosen_with(target: TargetState, picked: int | None) -> float:
    """Return the confidence in a lesion after the answer, by Bayes' rule.

    If a reader picks a candidate with the lesion and another candidate lacks it, then the lesion becomes more
    likely.
    """
    if picked is None or all(target.present):
        return target.confidence
    odds = ODDS_OF_A_PICK * target.confidence / max(1e-6, 1.0 - target.confidence)
    return odds / (1.0 + odds)


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

    After a pick, candidate 1 is the picked candidate, so that the reader can keep it. Candidates 2 to 4 are
    new, the largest first. After a rejection, all four candidates are new and differ from the rejected
    candidates. They vary more than after a pick. This function is for targets without a belief; `answered` is
    for targets with a belief.

    Parameters
    ----------
    picked
        Index 0 … 3 of the offered candidate; None: all were rejected.
    number
        Number of the new round, 2 or larger.
    outliner
        A 3-D model that outlines lesions. It is used if `target` keeps the HU of its cells.
    """
    offered = target.offered.astype(np.float32)
    history = np.concatenate([offered, target.earlier.astype(np.float32)])
    if picked is None:
        reference = tidied(offered.mean(axis=0))
        size = target.size.widened()
        weights = np.full(len(history), 1.0 / len(history))
    else:
        reference = offered[picked]
        size = target.size.after_pick(tuple(volume_ml(mask, target.crop) for mask in offered), picked)
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
    radius = radius_mm(volume_ml(reference, target.crop))
    shaping = refine.Shaping(target.crop, size.radii_mm(SIZE_QUANTILES), radius, history, weights)
    logits = refine.reshape(pool.logits, reference, kinds, shaping, rng)
    logits = logits[plausible(logits > 0, pool.quality, organ)]
    deviation = uncertainty.deviation_from(probability(reference), probability(logits))
    region = uncertainty.uncertain_region(deviation, limit)
    if picked is None:
        logits = logits[_unlike(logits, offered)]
        belief = _belief(logits, target.crop, size, None)
        four = choose_four(logits > 0, region, rule_of_members(options), weights=belief)
        new = by_size(spread_apart(tidied_members(logits, four), None, LARGEST_DICE))
        earlier = target.earlier
    else:
        logits = np.concatenate([reference[None], logits])
        belief = _belief(logits, target.crop, size, reference)
        four = choose_four(logits > 0, region, rule_of_members(options), weights=belief, fixed=0)
        apart = spread_apart(tidied_members(logits, four), 0, LARGEST_DICE)
        new = np.concatenate([apart[:1], by_size(apart[1:])])
        earlier = np.concatenate([np.delete(target.offered, picked, axis=0), target.earlier])[:KEPT_EARLIER]
    return replace(
        target, offered=in_half(new), deviation=in_half(deviation), limit=limit, earlier=earlier, size=size
    )


def _agreement(logits: Float32, reference: Float32) -> NDArray[np.float64]:
    """Return the Dice of each mask of ``(N, …)`` with a reference."""
    return dice_matrix(np.concatenate([reference[None], logits]) > 0)[0, 1:]


def _belief(
    logits: Float32, crop: Crop, size: SizePosterior, reference: Float32 | None
) -> NDArray[np.float64]:
    """Return the probability ``(N,)`` of each member.

    It is larger if the member is similar to the pick, and if its size fits the size that the reader wants.
    """
    volumes = [volume_ml(member, crop) for member in logits]
    fit = np.array([size.density(volume) for volume in volumes]) + 1e-6
    if reference is None:
        return np.asarray(fit / fit.sum())
    return member_posterior(_agreement(logits, reference), fit)


def _unlike(logits: Float32, rejected: Float32) -> NDArray[np.intp]:
    """Return the indices of the members that repeat no rejected candidate.

    If there are fewer than four, then the four members least similar to rejected candidates are returned.
    """
    count = len(logits)
    likeness = dice_matrix(np.concatenate([logits, rejected]) > 0)[:count, count:].max(axis=1)
    order = np.argsort(likeness, kind="stable")
    return np.sort(order[: max(SHOWN, int((likeness <= REPEATED_DICE).sum()))])
