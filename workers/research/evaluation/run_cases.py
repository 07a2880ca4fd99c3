"""Evaluate all cases, one after the other or in several processes.

Readers with a fixed preference read every case twice. In the first pass, the engine has no memory of the
reader. In the second pass, the engine's memory contains the reader's accepted segmentations of all other
cases. A real node has the same memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from dicom_config.errors import InputError
from dicom_config.model import EngineSection
from uair_node.results.reader_preference import estimate
from workers.research.evaluation.evaluate import EvaluationOptions, evaluate_case, read_by_preference
from workers.research.evaluation.evaluated_cases import CaseSource
from workers.research.evaluation.results import CaseResult, PreferenceRun
from workers.research.evaluation.workbench import Workbench, build_workbench

Progress = Callable[[float, str], None]
"""A function that is called with the finished part, 0 to 1, and with the next step in words."""
FIRST_PASS = 0.85
"""The part of the progress bar for the first pass."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Skipped:
    """A case that could not be used, and the reason."""

    case: str
    reason: str


@dataclass(frozen=True)
class _Evaluate:
    """The first pass over one case. The record is small, so that it can be sent to another process."""

    source: CaseSource
    section: EngineSection
    options: EvaluationOptions

    def __call__(self, tell: Progress | None = None) -> CaseResult | Skipped:
        bench = _workbench(self.section, self.options.baselines)
        try:
            case = self.source.load()
        except InputError as error:
            return Skipped(self.source.name, f"{error} ({error.code})")
        return evaluate_case(case, bench, self.options, tell)


@dataclass(frozen=True)
class _Remember:
    """The second pass over one case."""

    source: CaseSource
    section: EngineSection
    options: EvaluationOptions
    remembered_mm: tuple[tuple[str, float], ...]

    def __call__(self, tell: Progress | None = None) -> tuple[PreferenceRun, ...]:
        bench = _workbench(self.section, self.options.baselines)
        bench.forget()
        return read_by_preference(self.source.load(), bench, self.options, dict(self.remembered_mm))


def evaluate(
    sources: Sequence[CaseSource],
    section: EngineSection,
    options: EvaluationOptions,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[list[CaseResult], list[Skipped]]:
    """Evaluate cases. Return the results and the skipped cases.

    Results are in the order of `sources`, for any number of processes.

    Parameters
    ----------
    sources
        The sources of the cases.
    section
        The engine's settings.
    options
        The options of the evaluation.
    jobs
        Number of processes. Each process holds the engine in memory.
    progress
        See `Progress`.
    """
    tell = progress or _silent
    first = [_Evaluate(source, section, options) for source in sources]
    outcomes = _all(first, jobs, lambda done, what: tell(FIRST_PASS * done, what))
    results = [outcome for outcome in outcomes if isinstance(outcome, CaseResult)]
    used = [
        source for source, outcome in zip(sources, outcomes, strict=True) if isinstance(outcome, CaseResult)
    ]
    if len(results) > 1:
        second = [
            _Remember(source, section, options, tuple(learned(results, source.name).items()))
            for source in used
        ]
        told = _all(second, jobs, lambda done, what: tell(FIRST_PASS + (1 - FIRST_PASS) * done, what))
        results = [
            replace(result, preferences=result.preferences + more)
            for result, more in zip(results, told, strict=True)
        ]
    tell(1.0, "done")
    return results, [outcome for outcome in outcomes if isinstance(outcome, Skipped)]


def learned(results: Sequence[CaseResult], without: str) -> Mapping[str, float]:
    """Return name of a preference -> change of radius in mm, learned from all cases except `without`.

    As in the node, each case contributes the mean over its lesions, see
    `uair_node.results.reader_preference.estimate`.
    """
    runs = [run for result in results for run in result.preferences]
    cases: dict[str, dict[str, list[float]]] = {run.preference: defaultdict(list) for run in runs}
    for run in runs:
        if run.case != without:
            cases[run.preference][run.case].append(run.difference_mm)
    return {
        preference: estimate([float(np.mean(differences)) for differences in found.values()]).mm
        for preference, found in cases.items()
    }


def _all(work: Sequence[Callable[[Progress | None], Outcome]], jobs: int, tell: Progress) -> list[Outcome]:
    """Run all pieces of work in `jobs` processes; return their results in order."""
    found = _here(work, tell) if jobs == 1 else _spread(work, jobs, tell)
    return [outcome for _, outcome in sorted(found, key=lambda pair: pair[0])]


def _here(
    work: Sequence[Callable[[Progress | None], Outcome]], tell: Progress
) -> Iterator[tuple[int, Outcome]]:
    for index, job in enumerate(work):

        def within(part: float, what: str, index: int = index) -> None:
            tell((index + part) / len(work), f"case {index + 1} of {len(work)}: {what}")

        within(0.0, "loading")
        yield index, job(within)


def _spread(
    work: Sequence[Callable[[Progress | None], Outcome]], jobs: int, tell: Progress
) -> Iterator[tuple[int, Outcome]]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(job, None): index for index, job in enumerate(work)}
        for done, future in enumerate(as_completed(running), start=1):
            tell(done / len(work), f"{done} of {len(work)} cases")
            yield running[future], future.result()


@lru_cache(maxsize=1)
def _workbench(section: EngineSection, baselines: Path | None) -> Workbench:
    """Build the workbench of this process once, for all its cases."""
    return build_workbench(section, baselines)


def _silent(_done: float, _what: str) -> None:
    pass
