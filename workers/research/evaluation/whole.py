"""Segment liver and tumour of a whole case with every method of the paper's Table 1, without given boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from dicom_config.errors import InputError
from workers.engine import Feedback, Round
from workers.research.evaluation.baselines import segment_by_one_box
from workers.research.evaluation.detection import matched
from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.part_answers import numbers_on_volume, pick_parts, with_parts
from workers.research.evaluation.reader import (
    PickAll,
    combined,
    each_best,
    one_for_all,
)
from workers.research.evaluation.remember import RememberingPredictor
from workers.research.evaluation.results import Measure, Method, compared
from workers.research.evaluation.workbench import Workbench
from workers.truth.metrics import FIRST_LESION, LIVER, Labels, lesions_mask, liver_mask
from workers.uair.candidates import Rule
from workers.uair.grids import Box, bounding_box
from workers.uair.rounds import ensemble_labels

AUTOMATIC = ("auto", "ensemble", "ensemble_offered")
"""Methods from `automatic` whose results use the engine's label values for lesions."""


@dataclass(frozen=True)
class Drawn:
    """A method's labels ``(Z, Y, X)``, the computing time, and the number of a person's picks or boxes."""

    method: Method
    labels: Labels
    seconds: float
    liver_picks: int = 0
    lesion_picks: int = 0


@dataclass(frozen=True)
class Opened:
    """The first round of a case by one rule.

    Attributes
    ----------
    rule
        The rule that chooses the round's candidates.
    first
        The round; None if no liver was found.
    seconds
        Computing time.
    content
        Name under which the engine keeps the embeddings of this case and rule.
    """

    rule: Rule
    first: Round | None
    seconds: float
    content: str

    @property
    def confidence(self) -> Mapping[int, float]:
        """Label value -> confidence of the engine."""
        return (
            {}
            if self.first is None
            else {target.value: target.confidence for target in self.first.state.targets}
        )


def measures_of(case: EvaluationCase, drawn: Drawn) -> Iterator[Measure]:
    """Yield the measure of the liver and, in a case with lesions, the measure of all lesions together."""
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
    """Yield the measure of every method on each found lesion.

    Parameters
    ----------
    drawn
        Results of methods that share the label values of `offered`.
    offered
        Candidate 1 of round 1, which contains every lesion that the engine offers.
    manual
        Results for single lesions from tight boxes.
    """
    found = matched(case, offered)
    for true, value in found.items():
        truth = case.lesion(true)
        for result in drawn:
            yield compared(
                case.name,
                result.method,
                "found",
                result.labels == value,
                truth,
                case.spacing_mm,
                seconds=result.seconds,
                picks=result.liver_picks,
                lesion=true,
            )
    yield from (replace(measure, target="found") for measure in manual if measure.lesion in found)


def opened(case: EvaluationCase, bench: Workbench, rule: Rule) -> Opened:
    """Compute the first round of a case. Every reader starts from it."""
    watch = bench.stopwatch()
    # The cache keeps a round's embeddings under this name. Each rule has its own name, so that another rule
    # cannot reuse the embeddings and save computing time.
    content = uuid4().hex
    try:
        first = bench.engines[rule].first_round(case.hu, case.spacing_mm, content=content)
    except InputError as error:
        if error.code != "liver-not-found":
            raise
        return Opened(rule, None, watch.seconds, content)
    return Opened(rule, first, watch.seconds, content)


def play(
    case: EvaluationCase,
    bench: Workbench,
    start: Opened,
    rounds: int,
    *,
    reader: str = "best",
    pick: PickAll = each_best,
    by_part: bool = False,
) -> tuple[Drawn, ...]:
    """Play the rounds with a reader. Return the reader's selection after each round.

    If the engine finds no liver in the case, then all segmentations are empty.

    Parameters
    ----------
    reader
        Name of the reader.
    pick
        The reader's choice for the liver and each lesion.
    by_part
        Whether the reader also answers for each part.
    """
    methods = [Method(f"uair{n}", start.rule, reader) for n in range(1, rounds + 1)]
    if start.first is None:
        nothing = np.zeros(case.hu.shape, np.uint8)
        return tuple(Drawn(method, nothing, start.seconds) for method in methods)
    made, seconds, lesion_picks = start.first, start.seconds, 0
    engine = bench.engines[start.rule]
    found: list[Drawn] = []
    for number, method in enumerate(methods, start=1):
        candidates = [candidate.labels for candidate in made.candidates]
        picks = pick(candidates, case.truth, made.targets)
        lesion_picks += len(picks) - 1
        labels, per_part = combined(candidates, picks), {}
        if by_part:
            numbers = numbers_on_volume(made.parts, case.spacing_mm, candidates)
            chosen = pick_parts(candidates, case.truth, numbers, picks)
            labels = with_parts(labels, candidates, numbers, chosen)
            per_part = {
                value: {part.name: k for part, k in zip(made.parts[value], ks, strict=False)}
                for value, ks in chosen.items()
            }
            lesion_picks += sum(len(ks) for ks in chosen.values())
        found.append(Drawn(method, labels, seconds, number, lesion_picks))
        if number < rounds:
            watch = bench.stopwatch()
            # If one candidate was picked for all targets, then the engine needs no picks for single targets.
            said = Feedback(picks[LIVER], {} if pick is one_for_all else picks, per_part)
            made = engine.next_round(case.hu, case.spacing_mm, made.state, said, content=start.content)
            seconds += watch.seconds
    return tuple(found)


def automatic(case: EvaluationCase, bench: Workbench, start: Opened) -> Iterator[Drawn]:
    """Yield *ensemble*, *ensemble_offered*, *finder* and *auto*, which start from the same first round.

    *Ensemble* is the thresholded mean of all members (equation 1). It has the lesions that at least three of
    the four candidates contain. *Ensemble_offered* is the same mean with all lesions of candidate 1, which
    the reader gets. *Finder* is the result of the 3-D lesion finder at 3 mm alone. *Auto* uses the same 3-D
    box on all slices. For the liver, it is the localizer's box. For a lesion, it is the box around the lesion
    in *ensemble*.
    """
    nothing = np.zeros(case.hu.shape, np.uint8)
    seconds = start.seconds
    mean = offered = nothing
    if start.first is not None:
        mean, offered = (ensemble_labels(start.first.state, case.hu.shape, held_by=n) for n in (3, 1))
    yield Drawn(Method("ensemble"), mean, seconds)
    yield Drawn(Method("ensemble_offered"), offered, seconds)
    if start.first is not None and start.first.maps is not None:
        watch = bench.stopwatch()
        alone = start.first.maps.labels(case.hu.shape)
        yield Drawn(Method("finder"), alone, seconds + watch.seconds)
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
