"""The comparison of the paper's Table 1 on any cases: manual, auto, first round, UAIR(1), …, UAIR(n)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uair_node.volume import read_series
from workers.engine import Engine, Feedback, Round
from workers.evaluation.baselines import segment_by_one_box, segment_by_tight_boxes
from workers.evaluation.metrics import FIRST_LESION, LIVER, Agreement, Labels, Overlap, agreement, liver_mask
from workers.evaluation.reader import combined, judge, judge_targets
from workers.evaluation.truth import load_truth
from workers.models.predictor import Predictor
from workers.training.phantoms import TEST, Setting, make_phantom
from workers.training.phantoms.phantom import Size
from workers.uair.grids import Spacing
from workers.uair.localize import Localizer


@dataclass(frozen=True)
class EvaluationCase:
    """A CT with truth on the canonical grid; `name` holds nothing of the patient."""

    name: str
    hu: NDArray[np.int16]
    spacing_mm: Spacing
    truth: Labels


@dataclass(frozen=True)
class Score:
    """One method on one case; `seconds` is computing time up to this result, the reader's excluded."""

    case: str
    method: str
    agreement: Agreement
    seconds: float


@dataclass(frozen=True)
class Row:
    """Means of one method over cases.

    Attributes
    ----------
    method
        Its name.
    target
        ``liver`` or ``lesions`` (the union of all of a case).
    cases
        Over how many cases; those without true lesions do not count for lesions.
    dice, jaccard, seconds
        Means.
    """

    method: str
    target: str
    cases: int
    dice: float
    jaccard: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """All scores, in the order in which methods are listed in the paper's table."""

    scores: tuple[Score, ...]

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each method and target."""
        methods = dict.fromkeys(score.method for score in self.scores)
        rows = (self._row(method, target) for target in ("liver", "lesions") for method in methods)
        return tuple(row for row in rows if row.cases)

    def table(self) -> str:
        """Return the rows as text."""
        lines = [f"{'target':<8} {'method':<22} {'cases':>5} {'Dice':>6} {'Jaccard':>8} {'s':>7}"]
        lines += [
            f"{row.target:<8} {row.method:<22} {row.cases:>5} {row.dice:>6.3f} {row.jaccard:>8.3f} "
            f"{row.seconds:>7.1f}"
            for row in self.rows()
        ]
        return "\n".join(lines)

    def _row(self, method: str, target: str) -> Row:
        found = [
            (score, overlap)
            for score in self.scores
            if score.method == method and (overlap := _overlap_of(score.agreement, target)) is not None
        ]
        if not found:
            return Row(method, target, 0, 0.0, 0.0, 0.0)
        values = [(overlap.dice, overlap.jaccard, score.seconds) for score, overlap in found]
        dice, jaccard, seconds = (float(mean) for mean in np.mean(values, axis=0))
        return Row(method, target, len({score.case for score, _ in found}), dice, jaccard, seconds)


def _overlap_of(found: Agreement, target: str) -> Overlap | None:
    if target == "liver":
        return found.liver if found.liver.second else None
    return found.lesions if found.lesions and found.lesions.second else None


def phantom_cases(
    seeds: Iterable[int], size: Size = "standard", setting: Setting = TEST
) -> Iterator[EvaluationCase]:
    """Yield phantoms of all contrast phases; of the setting that no training uses unless told otherwise."""
    for seed in seeds:
        phantom = make_phantom(seed, size=size, phase=None, setting=setting)
        yield EvaluationCase(f"phantom {seed}", phantom.hu, phantom.spacing_mm, phantom.labels)


def series_case(name: str, folder: Path, truth: Path) -> EvaluationCase:
    """Read a DICOM CT series and its truth (see `load_truth`).

    Raises
    ------
    InputError
        Whatever makes series or truth unusable.
    """
    volume = read_series([path for path in sorted(folder.rglob("*")) if path.is_file()])
    view = volume.canonical()
    labels = view.from_source(load_truth(truth, volume))
    return EvaluationCase(name, view.array, view.spacing_mm, labels)


def evaluate(
    cases: Iterable[EvaluationCase],
    engine: Engine,
    *,
    rounds: int = 3,
    per_target: bool = True,
    predictor: Predictor[Any] | None = None,
    localizer: Localizer | None = None,
    progress: Callable[[Score], None] | None = None,
) -> Evaluation:
    """Run the loop with the simulated reader on each case, and the baselines beside it.

    Parameters
    ----------
    cases
        What to segment.
    engine
        The method.
    rounds
        How many rounds the reader plays.
    per_target
        Whether the reader picks liver and each lesion on its own, or one candidate for all.
    predictor
        For the manual baseline: the engine's model. None leaves it out.
    localizer
        With `predictor`, for the auto baseline of the liver.
    progress
        Called with every score.
    """
    scores: list[Score] = []
    for case in cases:
        for score in _scores(case, engine, rounds, per_target, predictor, localizer):
            scores.append(score)
            if progress:
                progress(score)
    return Evaluation(tuple(scores))


def _scores(
    case: EvaluationCase,
    engine: Engine,
    rounds: int,
    per_target: bool,
    predictor: Predictor[Any] | None,
    localizer: Localizer | None,
) -> Iterator[Score]:
    if predictor is not None:
        yield _timed("manual", case, lambda: _manual(case, predictor))
    if predictor is not None and localizer is not None:
        liver_only = replace(case, truth=liver_mask(case.truth).astype(np.uint8))
        yield _timed("auto (one box)", liver_only, lambda: _auto(case, predictor, localizer))
    yield from _loop(case, engine, rounds, per_target)


def _timed(method: str, case: EvaluationCase, segment: Callable[[], Labels]) -> Score:
    started = time.perf_counter()
    labels = segment()
    seconds = time.perf_counter() - started
    return Score(case.name, method, agreement(labels, case.truth), seconds)


def _manual(case: EvaluationCase, predictor: Predictor[Any]) -> Labels:
    """Segment every target by tight boxes."""
    result = segment_by_tight_boxes(
        predictor, case.hu, case.spacing_mm, liver_mask(case.truth), lesion=False
    ).astype(np.uint8)
    for value in np.unique(case.truth[case.truth >= FIRST_LESION]):
        wanted = case.truth == value
        drawn = segment_by_tight_boxes(predictor, case.hu, case.spacing_mm, wanted, lesion=True)
        result[drawn] = value
    return result


def _auto(case: EvaluationCase, predictor: Predictor[Any], localizer: Localizer) -> Labels:
    """Segment the liver by the localizer's box; nothing localizes lesions that way."""
    location = localizer.locate(case.hu, case.spacing_mm)
    if location is None:
        return np.zeros(case.hu.shape, np.uint8)
    liver = segment_by_one_box(predictor, case.hu, case.spacing_mm, location.box, lesion=False)
    return liver.astype(np.uint8)


def _loop(case: EvaluationCase, engine: Engine, rounds: int, per_target: bool) -> Iterator[Score]:
    """Play the rounds; *first round* is the mean over its four candidates, no reader involved."""
    started = time.perf_counter()
    made = engine.first_round(case.hu, case.spacing_mm)
    seconds = time.perf_counter() - started
    for candidate in made.candidates:
        yield Score(case.name, "first round, any of 4", agreement(candidate.labels, case.truth), seconds)
    for number in range(1, rounds + 1):
        labels, feedback = _read(made, case.truth, per_target)
        yield Score(case.name, f"UAIR({number})", agreement(labels, case.truth), seconds)
        if number < rounds:
            started = time.perf_counter()
            made = engine.next_round(case.hu, case.spacing_mm, made.state, feedback)
            seconds += time.perf_counter() - started


def _read(made: Round, truth: Labels, per_target: bool) -> tuple[Labels, Feedback]:
    """Return what the reader selects, and how that is told to the engine."""
    candidates: Sequence[Labels] = [candidate.labels for candidate in made.candidates]
    if not per_target:
        k = judge(candidates, truth).k
        return candidates[k - 1], Feedback(picked=k)
    picks = judge_targets(candidates, truth, made.targets)
    return combined(candidates, picks), Feedback(picked=picks[LIVER], per_target=picks)
