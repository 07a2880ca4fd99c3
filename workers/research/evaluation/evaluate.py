"""Evaluate one case with all methods and readers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.research.evaluation.baselines import segment_by_tight_boxes
from workers.research.evaluation.detection import detect
from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.fixed_preferences import wishes
from workers.research.evaluation.marking import measure_missed
from workers.research.evaluation.reader import each_by, noisy, one_for_all
from workers.research.evaluation.results import CaseResult, Measure, Method, Offered, PreferenceRun
from workers.research.evaluation.single import GivenLesion, given_box
from workers.research.evaluation.views import slices_of
from workers.research.evaluation.whole import (
    AUTOMATIC,
    Drawn,
    automatic,
    measures_of,
    measures_of_found,
    opened,
    play,
)
from workers.research.evaluation.workbench import COMPARED, RULES, Workbench
from workers.truth.metrics import LIVER, liver_mask

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of the evaluation of a case.

    Attributes
    ----------
    rounds
        Number of rounds for each reader.
    seed
        Seed of the given boxes and of the noisy reader.
    views
        Whether the results keep some slices for pictures.
    baselines
        Folder with weights of U-Net and TransUNet; None uses the packaged weights.
    """

    rounds: int = 3
    seed: int = 0
    views: bool = False
    baselines: Path | None = None


def evaluate_case(
    case: EvaluationCase, bench: Workbench, options: EvaluationOptions, tell: Tell | None = None
) -> CaseResult:
    """Run every method and every reader on a case.

    Parameters
    ----------
    case
        The case.
    bench
        The models and the engine.
    options
        The options.
    tell
        A function that is called with the finished part, 0 to 1, and with the next step in words.
    """
    report = tell or _silent
    bench.forget()
    report(0.0, "first round")
    starts = {rule: opened(case, bench, rule) for rule in RULES}
    start = starts[RULES[0]]
    played = play(case, bench, start, options.rounds)
    learned = list(_networks(case, bench))
    drawn = [*learned, *automatic(case, bench, start), *played]
    for rule in RULES[1:]:
        report(0.3, f"rule {rule}")
        drawn += play(case, bench, starts[rule], options.rounds)
    report(0.45, "other readers")
    others: list[Drawn] = []
    for rule in COMPARED:
        for reader, pick in (("noisy", each_by(noisy(_rng(case, options)))), ("whole", one_for_all)):
            others += play(case, bench, starts[rule], options.rounds, reader=reader, pick=pick)
    others += play(case, bench, starts[COMPARED[0]], options.rounds, reader="parts", by_part=True)
    report(0.6, "manual boxes")
    singles: list[Measure] = []
    offers: list[Offered] = []
    for index, value in enumerate(case.lesions):
        report(0.6 + 0.2 * index / len(case.lesions), f"lesion {index + 1} of {len(case.lesions)}")
        lesion = GivenLesion(case, value, given_box(case, value, options.seed), bench, options.seed)
        singles += _alone(lesion, learned)
        for measure, offer in _played(lesion, options):
            singles.append(measure)
            offers.append(offer)
    report(0.8, "readers of a fixed preference")
    preferences = read_by_preference(case, bench, options)
    drawn.append(_manual(case, bench))
    whole = (measure for result in (*drawn, *others) for measure in measures_of(case, result))
    offered = np.zeros_like(case.truth) if start.first is None else start.first.candidates[0].labels
    manual = [single for single in singles if single.method.name == "manual"]
    alike = [result for result in drawn if result.method.name in AUTOMATIC]
    found = measures_of_found(case, (*alike, *played), offered, manual)
    report(0.95, "measuring reader")
    marked, strokes = measure_missed(case, bench, start, options.seed)
    return CaseResult(
        case=case.name,
        measures=(*whole, *singles, *found, *marked),
        preferences=preferences,
        first=detect(case, offered, start.confidence),
        last=detect(case, played[-1].labels, start.confidence),
        views=tuple(slices_of(case, drawn)) if options.views else (),
        offered=tuple(offers),
        strokes=strokes,
    )


def read_by_preference(
    case: EvaluationCase,
    bench: Workbench,
    options: EvaluationOptions,
    remembered_mm: Mapping[str, float] | None = None,
) -> tuple[PreferenceRun, ...]:
    """Play the rounds of each lesion with one reader for each preference. Return the readers' results.

    Parameters
    ----------
    remembered_mm
        Name of a preference -> the preference in mm that the engine remembers. None if the engine has no
        memory.
    """
    runs = []
    for value in case.lesions:
        lesion = GivenLesion(case, value, given_box(case, value, options.seed), bench, options.seed)
        for wish in wishes(lesion.truth, case.spacing_mm, case.rims_mm.get(value - LIVER)):
            known = None if remembered_mm is None else remembered_mm[wish.preference]
            runs.append(lesion.seek(wish, RULES[0], known))
    return tuple(runs)


def _alone(lesion: GivenLesion, learned: Sequence[Drawn]) -> Iterator[Measure]:
    """For a single lesion, yield the results of the methods that need no reader."""
    for result in learned:
        yield lesion.in_box(result.method, result.labels, result.seconds)
    yield from lesion.baselines()
    yield lesion.ensemble()


def _played(lesion: GivenLesion, options: EvaluationOptions) -> Iterator[tuple[Measure, Offered]]:
    """For a single lesion, yield the results of all rounds, for every rule and reader."""
    for rule in RULES:
        yield from lesion.play(rule, options.rounds)
    for rule in COMPARED:
        choose = noisy(_rng(lesion.case, options, lesion.value))
        yield from lesion.play(rule, options.rounds, reader="noisy", choose=choose)
    yield from lesion.play(COMPARED[0], options.rounds, reader="parts", by_part=True)


def _rng(case: EvaluationCase, options: EvaluationOptions, *of: int) -> np.random.Generator:
    """Return the random generator of a noisy reader. The generator is the same for every rule."""
    return np.random.default_rng([options.seed, zlib.crc32(case.name.encode()), *of])


def _networks(case: EvaluationCase, bench: Workbench) -> Iterator[Drawn]:
    """Yield the segmentation of each network that uses no prompts."""
    for name, network in bench.networks.items():
        watch = bench.stopwatch()
        labels = network.segment(case.hu, case.spacing_mm)
        yield Drawn(Method(name), labels, watch.seconds)


def _manual(case: EvaluationCase, bench: Workbench) -> Drawn:
    """Segment every target from a tight box on each slice."""
    watch = bench.stopwatch()
    hu, spacing, predictor = case.hu, case.spacing_mm, bench.predictor
    whole = liver_mask(case.truth)
    labels = segment_by_tight_boxes(predictor, hu, spacing, whole, lesion=False).astype(np.uint8)
    lesion_boxes = 0
    for value in case.lesions:
        wanted = case.lesion(value)
        labels[segment_by_tight_boxes(predictor, hu, spacing, wanted, lesion=True)] = value
        lesion_boxes += int(wanted.any(axis=(1, 2)).sum())
    boxes = int(whole.any(axis=(1, 2)).sum())
    return Drawn(Method("manual"), labels, watch.seconds, boxes, lesion_boxes)


def _silent(_fraction: float, _what: str) -> None:
    pass
