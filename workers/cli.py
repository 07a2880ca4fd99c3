"""The commands that need the workers' code; `uair` finds them through an entry point.

torch is imported inside the commands: `uair --help` stays quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dicom_config.errors import ConfigError
from dicom_config.model import load_settings
from uair_node.logs import set_up_logging
from uair_node.topology import QueueName
from workers.demo.cli import demo
from workers.training.cli import train
from workers.worker import run_worker, yield_idle_cores

if TYPE_CHECKING:
    from workers.evaluation.evaluate import EvaluationCase, Score

console = Console()

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML configuration.")]


class Queue(StrEnum):
    """Short names of the queues."""

    GPU = "gpu"
    IO = "io"


def add_commands(app: typer.Typer) -> None:
    """Add the workers' commands to the command line."""
    app.command()(worker)
    app.command()(demo)
    app.command()(evaluate)
    app.command()(train)


def worker(
    queue: Annotated[Queue, typer.Option(help="gpu: computes rounds; io: writes and delivers results.")],
    config: ConfigOption = None,
    parent_pid: Annotated[int, typer.Option(hidden=True)] = 0,
    verbose: bool = False,
) -> None:
    """Run one worker process for one queue; one for each GPU."""
    set_up_logging(verbose=verbose)
    run_worker(load_settings(config), QueueName[queue.name], parent_pid=parent_pid)


def evaluate(
    ct: Annotated[Path | None, typer.Argument(help="Folder with a CT series.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Its truth: DICOM masks (folder, zip), SEG, NIfTI.")
    ] = None,
    phantoms: Annotated[int, typer.Option(help="Instead of a series: this many phantoms.")] = 0,
    first_seed: Annotated[int, typer.Option(help="Seed of the first phantom.")] = 10_000,
    rounds: int = 3,
    one_pick: Annotated[bool, typer.Option("--one-pick", help="One pick for liver and lesions.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Play the simulated reader on cases with known truth and print the table of methods."""
    yield_idle_cores()
    from workers.engine import build_engine
    from workers.evaluation.evaluate import evaluate as run
    from workers.evaluation.evaluate import phantom_cases, series_case

    set_up_logging(quiet=True)
    if (ct is None) == (phantoms == 0) or (ct is None) != (masks is None):
        raise ConfigError(
            "evaluation-input",
            "There is nothing to evaluate.",
            "Give a CT folder with --masks, or --phantoms N.",
        )
    engine = build_engine(load_settings(config).engine)
    cases: Iterable[EvaluationCase] = phantom_cases(range(first_seed, first_seed + phantoms))
    if ct is not None and masks is not None:
        cases = [series_case(ct.name, ct, masks)]
    with _bars() as bars:
        bar = bars.add_task("evaluating", total=None)

        def show(score: Score) -> None:
            bars.update(bar, description=f"{score.case}: {score.method}")

        found = run(cases, engine, rounds=rounds, per_target=not one_pick, progress=show)
    if as_json:
        sys.stdout.write(json.dumps([vars(row) for row in found.rows()], indent=2) + "\n")
    else:
        console.print(found.table(), highlight=False)
        console.print(f"model {engine.model_name} {engine.model_digest[:12]}", highlight=False)


def _bars() -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
