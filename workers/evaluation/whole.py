"""Liver and tumour of a whole case by every method of the paper's Table 1; nobody tells where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from dicom_config.errors import InputError
from workers.engine import Feedback, Round
from workers.evaluation.baselines import segment_by_one_box
from workers.evaluation.cases import EvaluationCase
from workers.evaluation.detection import matched
from workers.evaluation.metrics import FIRST_LESION, LIVER, Labels, lesions_mask, liver_mask
from workers.evaluation.reader import Choose, best, combined, pick_targets
from workers.evaluation.remember import RememberingPredictor
from workers.evaluation.results import Measure, Method, compared
from workers.evaluation.workbench import Workbench
from workers.uair.candidates import Rule
from workers.uair.grids import Box, bounding_box
from workers.uair.rounds import ensemble_labels

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Drawn:
    """What a method drew: labels ``(Z, Y, X)``, and what it cost."""

    method: Method
    labels: Labels
    seconds: float
    liver_picks: int = 0
    lesion_picks: int = 0


@dataclass(frozen=True)
class Played:
    """The loop with a reader, round by round; `first` is None where no liver was found."""

    first: Round | None
    rounds: tuple[Drawn, ...]
    confidence: Mapping[int, float]


def measures_of(case: EvaluationCase, drawn: Drawn) -> Iterator[Measure]:
    """Yield the liver's measure and, in a case with lesions, the tumour's."""
    targets = (
        ("liver", liver_mask(drawn.labels), liver_mask(case.truth), drawn.liver_picks),
        ("tumour", lesions_mask(drawn.labels), lesions_mask(case.truth), drawn.lesion_picks),
    )
    for target, ours, truth, picks in targets:
        if truth.any():
            yield compared(
                case.name,
                drawn.method,
                target,  # type: ignore[arg-type]
                ours,
                truth,
                case.spacing_mm,
                seconds=drawn.seconds,
                picks=picks,
            )


def measures_of_found(
    case: EvaluationCase, drawn: Sequence[Drawn], offered: Labels, manual: Sequence[Measure]
) -> Iterator[Measure]:
    """Yield for each lesion that is found the measure of every method on it.

    Parameters
    ----------
    drawn
        By methods that share the label values of `offered`.
    offered
        Candidate 1 of round 1, which holds every lesion that the engine believes in at all.
    manual
        Of single lesions by tight boxes.
    """
    found = matched(case, offered)
    for true, value in found.items():
        truth = case.lesion(true)
        for one in drawn:
            yield compared(
                case.name,
                one.method,
                "found",
                one.labels == value,
                truth,
                case.spacing_mm,
                seconds=one.seconds,
                picks=one.liver_picks,
                lesion=true,
            )
    yield from (replace(one, target="found") for one in manual if one.lesion in found)


def play(
    case: EvaluationCase,
    bench: Workbench,
    rule: Rule,
    rounds: int,
    *,
    reader: str = "best",
    choose: Choose = best,
) -> Played:
    """Play the rounds with a reader who picks for the liver and each lesion on its own.

    A case in which the engine finds no liver gives empty segmentations.
    """
    watch = bench.stopwatch()
    engine = bench.engines[rule]
    # A name of its own: what the engine keeps for later rounds must not save another reader's first one time.
    content = uuid4().hex
    try:
        made = first = engine.first_round(case.hu, case.spacing_mm, content=content)
    except InputError as error:
        if error.code != "liver-not-found":
            raise
        nothing = np.zeros(case.hu.shape, np.uint8)
        methods = (Method(f"uair{n}", rule, reader) for n in range(1, rounds + 1))
        return Played(None, tuple(Drawn(one, nothing, watch.seconds) for one in methods), {})
    seconds, lesion_picks = watch.seconds, 0
    found = []
    for number in range(1, rounds + 1):
        candidates = [candidate.labels for candidate in made.candidates]
        picks = pick_targets(candidates, case.truth, made.targets, choose)
        lesion_picks += len(picks) - 1
        labels = combined(candidates, picks)
        found.append(Drawn(Method(f"uair{number}", rule, reader), labels, seconds, number, lesion_picks))
        if number < rounds:
            watch = bench.stopwatch()
            said = Feedback(picked=picks[LIVER], per_target=picks)
            made = engine.next_round(case.hu, case.spacing_mm, made.state, said, content=content)
            seconds += watch.seconds
    return Played(first, tuple(found), {one.value: one.confidence for one in first.state.targets})


def automatic(case: EvaluationCase, bench: Workbench, played: Played) -> Iterator[Drawn]:
    """Yield *ensemble* and *auto*, which start from the same first round and ask nobody.

    *Ensemble* is the mean of all members, thresholded (equation 1). *Auto* puts one 3-D box on all of its
    slices: the localizer's for the liver, and for each lesion that the ensemble holds the box around it.
    """
    nothing = np.zeros(case.hu.shape, np.uint8)
    seconds = played.rounds[0].seconds
    mean = nothing if played.first is None else ensemble_labels(played.first.state, case.hu.shape)
    yield Drawn(Method("ensemble"), mean, seconds)
    watch = bench.stopwatch()
    location = bench.localizer.locate(case.hu, case.spacing_mm)
    labels = nothing.copy()
    if location is not None:
        labels[_by_box(case, bench.predictor, location.box, lesion=False)] = LIVER
    liver_seconds = watch.seconds
    for value in np.unique(mean[mean >= FIRST_LESION]):
        box = bounding_box(mean == value)
        if box is not None:
            labels[_by_box(case, bench.predictor, box, lesion=True)] = value
    has_lesions = bool(lesions_mask(mean).any())
    yield Drawn(Method("auto"), labels, watch.seconds + seconds if has_lesions else liver_seconds)


def _by_box(case: EvaluationCase, predictor: RememberingPredictor, box: Box, *, lesion: bool) -> np.ndarray:
    return segment_by_one_box(predictor, case.hu, case.spacing_mm, box, lesion=lesion)
