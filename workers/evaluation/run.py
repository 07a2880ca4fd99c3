"""All cases, one after the other or in several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from dicom_config.errors import InputError
from dicom_config.model import EngineSection
from workers.evaluation.cases import CaseSource
from workers.evaluation.evaluate import EvaluationOptions, evaluate_case
from workers.evaluation.results import CaseResult
from workers.evaluation.workbench import Workbench, build_workbench

Progress = Callable[[float, str], None]
"""Called with how many cases are done (parts count) and what is being done."""


@dataclass(frozen=True)
class Skipped:
    """A case that could not be used, and why."""

    case: str
    reason: str


def evaluate(
    sources: Sequence[CaseSource],
    section: EngineSection,
    options: EvaluationOptions,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[list[CaseResult], list[Skipped]]:
    """Evaluate cases; results come in the order of `sources`, whatever the number of processes.

    Parameters
    ----------
    sources
        Where cases are loaded from.
    section
        The engine's settings.
    options
        How they are evaluated.
    jobs
        Processes; each has the engine in memory.
    progress
        See `Progress`.
    """
    tell = progress or _silent
    found = (
        _here(sources, section, options, tell)
        if jobs == 1
        else _spread(sources, section, options, jobs, tell)
    )
    ordered = [outcome for _, outcome in sorted(found, key=lambda pair: pair[0])]
    return (
        [one for one in ordered if isinstance(one, CaseResult)],
        [one for one in ordered if isinstance(one, Skipped)],
    )


def _here(
    sources: Sequence[CaseSource], section: EngineSection, options: EvaluationOptions, tell: Progress
) -> Iterator[tuple[int, CaseResult | Skipped]]:
    for index, source in enumerate(sources):

        def within(part: float, what: str, index: int = index, name: str = source.name) -> None:
            tell(index + part, f"{name}: {what}")

        yield index, _one(source, section, options, within)
    tell(len(sources), "done")


def _spread(
    sources: Sequence[CaseSource],
    section: EngineSection,
    options: EvaluationOptions,
    jobs: int,
    tell: Progress,
) -> Iterator[tuple[int, CaseResult | Skipped]]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_one, source, section, options): n for n, source in enumerate(sources)}
        for done, future in enumerate(as_completed(running), start=1):
            index = running[future]
            tell(done, sources[index].name)
            yield index, future.result()


def _one(
    source: CaseSource,
    section: EngineSection,
    options: EvaluationOptions,
    tell: Progress | None = None,
) -> CaseResult | Skipped:
    bench = _workbench(section, options.baselines)
    try:
        case = source.load()
    except InputError as error:
        return Skipped(source.name, f"{error} ({error.code})")
    return evaluate_case(case, bench, options, tell)


@lru_cache(maxsize=1)
def _workbench(section: EngineSection, baselines: Path | None) -> Workbench:
    """Keep the engine of a process between its cases."""
    return build_workbench(section, baselines)


def _silent(_done: float, _what: str) -> None:
    pass
