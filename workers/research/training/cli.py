"""`uair train`: one command for all networks. It shows the progress of a run and writes a log.

The command imports torch itself, so `uair --help` stays quick.
"""

from __future__ import annotations

import importlib
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uair_node.logs import set_up_logging

if TYPE_CHECKING:
    from workers.research.training import training_run

console = Console(soft_wrap=True)


UNFINISHED = 75
"""Exit status of a run that ended early because of `chunk_minutes` (EX_TEMPFAIL). --resume continues it."""


class Network(StrEnum):
    """The trainable networks. Function ``train_NAME`` of ``workers.research.training.NAME`` trains it."""

    SAM = "sam"
    LOCALIZER = "localizer"
    LESIONS = "lesions"
    UNET = "unet"
    TRANSUNET = "transunet"
    OUTLINES = "outlines"
    COORDINATES = "coordinates"


LEARN_FROM_REAL = (Network.LESIONS, Network.OUTLINES)
"""Networks that can also learn from real CTs."""


def train(
    network: Annotated[
        Network,
        typer.Argument(
            help="sam: the promptable model; localizer: the liver finder; lesions: the lesion finder; "
            "outlines: the network that outlines lesions; coordinates: the network for templates; unet, "
            "transunet: networks for comparison."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Weight file to write (safetensors).")],
    cache: Annotated[
        Path,
        typer.Option(help="Folder of phantom anatomies to train on. The command adds missing anatomies."),
    ] = Path("phantom-cache"),
    minutes: Annotated[
        float | None,
        typer.Option(help="Length of the training schedule in minutes. Give this or --iterations."),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(help="Length of the schedule in iterations, which another machine can reproduce."),
    ] = None,
    geometries: Annotated[int, typer.Option(help="Number of phantom anatomies to train on.")] = 200,
    real: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real CTs and masks (NAME_ct.nii.gz, NAME_seg.nii.gz); for lesions and outlines."
        ),
    ] = None,
    real_share: Annotated[float, typer.Option(help="Fraction of the samples that come from real CTs.")] = 0.6,
    held_out: Annotated[int, typer.Option(help="Number of held-out phantoms to measure on.")] = 6,
    validate_every: Annotated[
        int,
        typer.Option(
            help="Iterations between measurements on held-out phantoms. 0: measure only at the end."
        ),
    ] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    blend_with: Annotated[
        Path | None,
        typer.Option(help="Weights to mix into the written weights, so that less knowledge is lost."),
    ] = None,
    blend_part: Annotated[
        float, typer.Option(help="Fraction of the --blend-with weights in the written weights.")
    ] = 0.25,
    rate: Annotated[
        float | None, typer.Option(help="Peak learning rate. Default: the network's own rate.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint.")] = False,
    chunk_minutes: Annotated[
        float | None,
        typer.Option(help="End after this time with a checkpoint and exit status 75; --resume continues."),
    ] = None,
    seed: int = 0,
    threads: int = 1,
    loaders: Annotated[int, typer.Option(help="Processes that draw samples.")] = 1,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 50,
    device: Annotated[str, typer.Option(help="auto: a GPU if the machine has one.")] = "auto",
) -> None:
    """Train a network on phantoms. The lesion finder and the lesion outliner can also learn from real CTs.

    The command shows the loss and metrics (such as Dice) while it runs. At the end, it shows the metrics on
    held-out phantoms. It writes a checkpoint (for --resume) and a log (one JSON object a line) beside the
    weights.
    """
    from workers.research.training.training_run import TrainOptions

    if real is not None and network not in LEARN_FROM_REAL:
        raise typer.BadParameter(f"{network} learns from phantoms alone.", param_hint="--real")
    set_up_logging()
    options = TrainOptions(
        output=output,
        cache=cache,
        minutes=minutes,
        iterations=iterations,
        geometries=geometries,
        real=real,
        real_share=real_share,
        held_out=held_out,
        validate_every=validate_every,
        initial_weights=start,
        blend_with=blend_with,
        blend_part=blend_part,
        rate=rate,
        resume=resume,
        chunk_minutes=chunk_minutes,
        seed=seed,
        threads=threads,
        loaders=loaders,
        checkpoint_every=checkpoint_every,
        device=_device(device),
    )
    train_network = getattr(
        importlib.import_module(f"workers.research.training.{network}"), f"train_{network}"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with _bars() as bars, options.log.open("a" if resume else "w") as log:
        bar = bars.add_task(f"training {network}", total=1.0)

        def show(seen: training_run.Progress) -> None:
            bars.update(bar, completed=seen.fraction, description=f"{network} {_words(seen)}")
            _write(log, seen)
            if seen.held_out and seen.figures:
                bars.console.print(f"{network} {_words(seen)}", highlight=False)

        report: training_run.TrainReport = train_network(options, show)
    console.print(f"{report.iterations} iterations in {report.seconds:.0f} s", highlight=False)
    if not report.finished:
        console.print(f"continue with --resume from {report.checkpoint}", highlight=False)
        raise typer.Exit(UNFINISHED)
    for path in (report.weights, report.checkpoint, options.log):
        console.print(str(path), highlight=False)


def _device(wanted: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def _words(seen: training_run.Progress) -> str:
    if seen.building:
        return f"builds phantom anatomy {seen.building[0]} of {seen.building[1]}"
    figures = ", ".join(f"{name} {value:.3f}" for name, value in seen.figures.items())
    where = "held-out phantoms" if seen.held_out else f"loss {seen.loss:.3f}"
    return f"{seen.iteration}: {where}, {figures}"


def _write(log: TextIO, seen: training_run.Progress) -> None:
    """Append one progress report to the log. The building of anatomies is not logged."""
    if seen.building:
        return
    event = {
        "iteration": seen.iteration,
        "seconds": round(seen.seconds, 1),
        "held_out": seen.held_out,
        "loss": None if seen.held_out else round(seen.loss, 5),
        "figures": {name: round(value, 5) for name, value in seen.figures.items()},
    }
    log.write(json.dumps(event) + "\n")
    log.flush()


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
