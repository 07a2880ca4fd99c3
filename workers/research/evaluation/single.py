"""Evaluate single lesions with a given 3-D box. Rounds of picks start from this box.

Two baselines are tight boxes on all slices, and the 3-D box alone. The rounds are the engine's own steps
(`workers.uair.targets`) without the search for lesions.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.models.windows import NEIGHBOUR_MM
from workers.research.evaluation.baselines import segment_by_one_box, segment_by_tight_boxes
from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.fixed_preferences import REACHED_DICE, Wish
from workers.research.evaluation.reader import Choose, best
from workers.research.evaluation.results import Measure, Method, Offered, PreferenceRun, compared
from workers.research.evaluation.workbench import Workbench
from workers.truth.metrics import FIRST_LESION, Labels, Mask, Overlap, dice
from workers.uair.answered_targets import answered, refine_target, selected_logits
from workers.uair.candidates import Rule, dice_matrix
from workers.uair.compose import tidied
from workers.uair.ensemble import Decoder
from workers.uair.grids import Box, Crop, bounding_box
from workers.uair.outlines import led_in_box
from workers.uair.parts import part_numbers, parts_of
from workers.uair.preference import radius_mm
from workers.uair.prompts import Outline, Prompts
from workers.uair.state import TargetState
from workers.uair.targets import LESION_PLAN, CandidateOptions, first_pool, open_target

JITTER_MEAN, JITTER_SD = 0.05, 0.05
"""Mean and standard deviation of the outward shift of a given box's faces, as parts of the box's size.

People do not draw boxes exactly.
"""
PREFERENCE_ROUNDS = 4


def given_box(case: EvaluationCase, value: int, seed: int) -> Box:
    """Return the tight box of a lesion with each face moved at random, in edge coordinates.

    The box is the same for every method.

    Raises
    ------
    ValueError
        If there is no such lesion.
    """
    tight = bounding_box(case.lesion(value))
    if tight is None:
        raise ValueError(f"no lesion {value}")
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode()), value])
    moves = rng.normal(JITTER_MEAN, JITTER_SD, (2, 3)) * np.asarray(tight.size)
    low = np.maximum(0.0, np.asarray(tight.start) - moves[0])
    high = np.minimum(case.hu.shape, np.asarray(tight.stop) + moves[1])
    return Box(
        (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))
    )


@dataclass(frozen=True)
class _Picked:
    """A round's pick ``(Z, Y, X)``, its computing time and radius, and the radius of the engine's mean.

    `k` is the candidate's number. `target` is the state of the round that offered the candidate.
    """

    k: int
    target: TargetState
    mask: Mask
    seconds: float
    radius_mm: float
    base_mm: float


@dataclass(frozen=True)
class GivenLesion:
    """A lesion that is segmented from its 3-D box.

    Attributes
    ----------
    case, value, box
        The case, the lesion's label value, and its box.
    bench
        The models and the engine.
    seed
        Seed of the prompts.
    """

    case: EvaluationCase
    value: int
    box: Box
    bench: Workbench
    seed: int

    @property
    def truth(self) -> Mask:
        """The true mask ``(Z, Y, X)`` of the lesion."""
        return self.case.lesion(self.value)

    def baselines(self) -> Iterator[Measure]:
        """Yield *manual* (a tight box on each slice) and *auto* (the given box on all slices)."""
        hu, spacing, predictor = self.case.hu, self.case.spacing_mm, self.bench.predictor
        watch = self.bench.stopwatch()
        drawn = segment_by_tight_boxes(predictor, hu, spacing, self.truth, lesion=True)
        boxes = int(self.truth.any(axis=(1, 2)).sum())
        yield self._measure(Method("manual"), drawn, watch.seconds, boxes)
        watch = self.bench.stopwatch()
        drawn = segment_by_one_box(predictor, hu, spacing, self.box, lesion=True)
        yield self._measure(Method("auto"), drawn, watch.seconds, 0)

    def in_box(self, method: Method, labels: Labels, seconds: float) -> Measure:
        """Return the result of a method without boxes: its lesion voxels inside the given box."""
        drawn = np.zeros(labels.shape, bool)
        region = self.box.outer(labels.shape)
        drawn[region] = labels[region] >= FIRST_LESION
        return self._measure(method, drawn, seconds, 0)

    def ensemble(self) -> Measure:
        """Return the thresholded mean of all members (equation 1)."""
        watch = self.bench.stopwatch()
        opened, _ = self._opened("medoids")
        drawn = self._mask(opened.crop, opened.mean.astype(np.float32))
        return self._measure(Method("ensemble"), drawn, watch.seconds, 0)

    def play(
        self,
        rule: Rule,
        rounds: int,
        *,
        reader: str = "best",
        choose: Choose = best,
        by_part: bool = False,
    ) -> Iterator[tuple[Measure, Offered]]:
        """Yield two records for each round: the measure of the reader's pick, and the round's candidates."""
        played = self._rounds(rule, rounds, self.truth, choose, by_part=by_part)
        for number, picked in enumerate(played, start=1):
            method = Method(f"uair{number}", rule, reader)
            measure = self._measure(method, picked.mask, picked.seconds, number)
            yield measure, self._offered(method, picked)

    def _offered(self, method: Method, picked: _Picked) -> Offered:
        target = picked.target
        pairs = dice_matrix(target.offered > 0)[~np.eye(len(target.offered), dtype=bool)]
        part, excess = target.crop.positive_part(target.deviation.astype(np.float32) - target.limit)
        doubtful = np.zeros(self.truth.shape, bool)
        doubtful[part] = excess > 0
        wrong = picked.mask != self.truth
        caught = int((wrong & doubtful).sum())
        return Offered(
            case=self.case.name,
            method=method,
            lesion=self.value,
            picked=picked.k,
            between=float(pairs.mean()),
            covered=caught / int(wrong.sum()) if wrong.any() else None,
            precise=caught / int(doubtful.sum()) if doubtful.any() else None,
            corrected=dice(np.where(doubtful, self.truth, picked.mask), self.truth),
        )

    def seek(self, wish: Wish, rule: Rule, remembered_mm: float | None = None) -> PreferenceRun:
        """Play rounds until a reader reaches the wanted shape, at most `PREFERENCE_ROUNDS` rounds.

        Parameters
        ----------
        wish
            The wanted shape.
        rule
            The rule that chooses the four candidates.
        remembered_mm
            The reader's remembered preference in mm; None without a memory.
        """
        dices: list[float] = []
        for picked in self._rounds(rule, PREFERENCE_ROUNDS, wish.mask, best, remembered_mm or 0.0):
            dices.append(dice(picked.mask, wish.mask))
            difference = picked.radius_mm - picked.base_mm
            if dices[-1] >= REACHED_DICE:
                break
        known = remembered_mm is not None
        return PreferenceRun(self.case.name, self.value, wish.preference, known, tuple(dices), difference)

    def _rounds(
        self,
        rule: Rule,
        rounds: int,
        wanted: Mask,
        choose: Choose,
        remembered_mm: float = 0.0,
        *,
        by_part: bool = False,
    ) -> Iterator[_Picked]:
        """Yield the pick of each round."""
        watch = self.bench.stopwatch()
        (target, decode), seconds = self._opened(rule, remembered_mm), watch.seconds
        voxel_ml, voxels = float(np.prod(self.case.spacing_mm)) / 1000.0, int(wanted.sum())
        for number in range(1, rounds + 1):
            picked = choose(
                [_dice_of(target.crop, candidate, wanted, voxels) for candidate in target.offered]
            )
            chosen = self._parts_picked(target, wanted, picked) if by_part else {}
            mask = self._mask(target.crop, selected_logits(target, picked, chosen))
            radius = radius_mm(float(mask.sum()) * voxel_ml)
            yield _Picked(picked + 1, target, mask, seconds, radius, target.size.base_mm)
            if number < rounds:
                watch = self.bench.stopwatch()
                rng = np.random.default_rng([self.seed, number + 1, self.value])
                options, outliner = self._candidate_options(rule), self.bench.outliner
                if target.belief is not None:
                    target = answered(target, target.belief, picked, number + 1, rng, by_part=chosen)
                else:
                    target = refine_target(
                        target, decode, picked, number + 1, LESION_PLAN, options, rng, outliner=outliner
                    )
                seconds += watch.seconds

    def _parts_picked(self, target: TargetState, wanted: Mask, picked: int) -> dict[str, int]:
        """Return name of a part -> the candidate 0 … 3 with the fewest wrong voxels in the part.

        Ties go to the picked candidate.
        """
        drawn = [target.crop.to_volume(tidied(logits.astype(np.float32))) for logits in target.offered]
        region = drawn[0][0]
        wrong = [(values > 0) != wanted[region] for _, values in drawn]
        parts = parts_of(target)
        if not parts:
            return {}
        z, y, x = (np.arange(part.start, part.stop) + 0.5 for part in region)
        numbers = part_numbers(parts, self.case.spacing_mm, z, y, x)
        counts = np.array([[int((mask & (numbers == n)).sum()) for mask in wrong] for n in range(len(parts))])
        counts[:, picked] -= 1
        return {part.name: int(row.argmin()) for part, row in zip(parts, counts, strict=True)}

    def _opened(self, rule: Rule, remembered_mm: float = 0.0) -> tuple[TargetState, Decoder]:
        """Return the target with its first four candidates, and the model's decoder for the target's crop."""
        predictor = self.bench.predictor
        crop = LESION_PLAN.crop(
            self.box,
            self.case.spacing_mm,
            self.case.hu.shape,
            pixels=predictor.input_size,
            cells=predictor.mask_size,
            whole_slice=predictor.whole_slice,
        )
        rng = np.random.default_rng([self.seed, 1, self.value])
        outline = _outline(self.box, crop)
        options = self._candidate_options(rule)
        images = crop.images(self.case.hu, NEIGHBOUR_MM)
        embeddings = predictor.encode(*images)

        def decode(asked: Prompts) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return predictor.decode(embeddings, asked)

        pool, hu = first_pool(decode, crop, outline, LESION_PLAN, options, rng), crop.cell_means(images[0])
        pool = led_in_box(pool, self.bench.outliner, self.box, crop, hu, rng)
        return open_target(FIRST_LESION, crop, pool, options, preference_mm=remembered_mm, hu=hu), decode

    def _candidate_options(self, rule: Rule) -> CandidateOptions:
        return CandidateOptions(self.bench.members, rule, self.seed)

    def _mask(self, crop: Crop, logits: NDArray[np.float32]) -> Mask:
        region, values = crop.to_volume(tidied(logits))
        mask = np.zeros(self.case.hu.shape, bool)
        mask[region] = values > 0
        return mask

    def _measure(self, method: Method, drawn: Mask, seconds: float, picks: int) -> Measure:
        return compared(
            self.case.name,
            method,
            "lesion",
            drawn,
            self.truth,
            self.case.spacing_mm,
            seconds=seconds,
            picks=picks,
            lesion=self.value,
        )


def _dice_of(crop: Crop, logits: NDArray[np.float16], wanted: Mask, voxels: int) -> float:
    """Return the Dice of a candidate and `wanted`, a mask of `voxels` voxels. Read only the crop's region."""
    region, values = crop.to_volume(tidied(logits.astype(np.float32)))
    drawn = values > 0
    return Overlap(int((drawn & wanted[region]).sum()), int(drawn.sum()), voxels).dice


def _outline(box: Box, crop: Crop) -> Outline:
    """Return the `Outline` of a 3-D box: the box itself and the slices that it covers."""
    unknown = np.full((len(crop.slices), 4), np.nan, np.float32)
    return Outline(crop.around(box), 0, len(crop.slices), unknown)
