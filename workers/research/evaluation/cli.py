"""`uair evaluate`: the paper's Table 1 on a department's own cases, or on phantoms.

The command imports torch itself, so `uair --help` stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dicom_config.errors import ConfigError, InputError
from dicom_config.model import load_settings
from uair_node import __version__
from uair_node.commands.config_option import ConfigOption
from uair_node.logs import set_up_logging
from workers.process.preload import yield_idle_cores

if TYPE_CHECKING:
    from workers.research.evaluation.evaluated_cases import CaseSource, PhantomProfile
    from workers.research.evaluation.report import Header
    from workers.research.evaluation.results import CaseResult
    from workers.research.evaluation.run_cases import Skipped
    from workers.research.evaluation.workbench import Workbench

console = Console()
"""The console of the command. Tables fit its width, see `Grid.print`."""


def evaluate(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders with a DICOM series and its SEG or masks, NIfTI files of CT and truth, or folders "
            "of these."
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="True masks of the only CT, if they do not lie beside the CT.")
    ] = None,
    phantoms: Annotated[int, typer.Option(min=0, help="Number of phantoms to evaluate instead of data.")] = 0,
    profile: Annotated[Literal["ct", "mr-t1"], typer.Option(help="Modality profile of the phantoms.")] = "ct",
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of the first phantom. The given boxes and the noisy reader use this seed, too."
        ),
    ] = 5000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    baselines: Annotated[
        Path | None, typer.Option(help="Folder with unet.safetensors and transunet.safetensors.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=3, help="Number of rounds with the simulated reader.")
    ] = 3,
    markdown: Annotated[Path | None, typer.Option(help="Markdown file to write the tables to.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures of the best and worst cases.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file to write all results to.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Compare all methods of the paper's Table 1 on cases with known truth."""
    yield_idle_cores()
    from workers.models.template_store import site_folder
    from workers.research.evaluation.evaluate import EvaluationOptions
    from workers.research.evaluation.run_cases import evaluate as run
    from workers.research.evaluation.workbench import build_workbench

    set_up_logging(quiet=True)
    settings = load_settings(config)
    templates = site_folder(settings.engine, settings.data_dir)
    section = settings.engine.model_copy(update={"templates": templates})
    sources = _sources(data or [], masks, phantoms, profile, seed)
    options = EvaluationOptions(rounds, seed, pictures is not None, baselines)
    with _shown() as show:
        results, skipped = run(sources, section, options, jobs=jobs, progress=show)
    if not results:
        raise InputError(
            "no-usable-case",
            f"No case could be used: {skipped[0].reason}",
            "Correct this fault, then run the command again.",
        )
    what = (
        f"{phantoms} {profile} phantoms from seed {seed}"
        if phantoms
        else ", ".join(path.name for path in data or [])
    )
    bench = build_workbench(section, baselines)
    _publish(
        _header(what, results, skipped, bench, section.localizer, seed),
        results,
        markdown,
        pictures,
        json_file,
    )


def _sources(
    data: list[Path], masks: Path | None, phantoms: int, profile: PhantomProfile, seed: int
) -> Sequence[CaseSource]:
    from workers.research.evaluation.discover import find_cases
    from workers.research.evaluation.evaluated_cases import PhantomSource

    if bool(data) == bool(phantoms) or (masks and not data):
        raise ConfigError(
            "evaluation-input",
            "It is unclear what to evaluate.",
            "Name folders or NIfTI files with CT and truth, or give --phantoms N, not both.",
        )
    if data:
        return find_cases(data, masks)
    return [PhantomSource(number, profile=profile) for number in range(seed, seed + phantoms)]


def _header(
    data: str,
    results: list[CaseResult],
    skipped: list[Skipped],
    bench: Workbench,
    localizer: str,
    seed: int,
) -> Header:
    from workers.research.evaluation.report import Header

    return Header(
        data=data,
        cases=len(results),
        skipped=tuple((case.case, case.reason) for case in skipped),
        seed=seed,
        members=bench.members,
        model=bench.predictor.name,
        localizer=localizer,
        digest=bench.digest,
        baselines={name: network.digest for name, network in bench.networks.items()},
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
    )


def _publish(
    header: Header,
    results: list[CaseResult],
    markdown: Path | None,
    pictures: Path | None,
    json_file: Path | None,
) -> None:
    from workers.research.evaluation.json_report import as_json
    from workers.research.evaluation.report import NOTES, as_markdown, grids
    from workers.research.evaluation.views import write_pictures

    for line in header.lines():
        console.print(line, highlight=False)
    for grid in grids(results):
        grid.print(console)
    console.print(NOTES, highlight=False)
    if markdown:
        _write(markdown, as_markdown(header, results))
    if json_file:
        _write(json_file, json.dumps(as_json(header, results), indent=2) + "\n")
    if pictures:
        for path in write_pictures(pictures, results):
            console.print(f"wrote {path}", highlight=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    console.print(f"wrote {path}", highlight=False)


@contextmanager
def _shown() -> Iterator[Callable[[float, str], None]]:
    """Yield a function that shows the progress: a bar or, without a terminal, a line for each case."""
    stderr = Console(stderr=True)
    told = ""

    def line(done: float, what: str) -> None:
        nonlocal told
        if (case := what.partition(":")[0]) != told:
            told = case
            stderr.print(f"{done:4.0%} {case}", highlight=False)

    if not stderr.is_terminal:
        yield line
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as bars:
        bar = bars.add_task("evaluating", total=1.0)
        yield lambda done, what: bars.update(bar, completed=done, description=what)
