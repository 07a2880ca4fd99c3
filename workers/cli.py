"""The commands that need the workers' code; `uair` finds them through an entry point."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_config.model import load_settings
from uair_node.logs import set_up_logging
from uair_node.topology import QueueName
from workers.demo.cli import demo


class Queue(StrEnum):
    """Short names of the queues."""

    GPU = "gpu"
    IO = "io"


def add_commands(app: typer.Typer) -> None:
    """Add `worker` and `demo` to the command line."""
    app.command()(worker)
    app.command()(demo)


def worker(
    queue: Annotated[Queue, typer.Option(help="gpu: computes rounds; io: writes and delivers results.")],
    config: Annotated[Path | None, typer.Option("--config", "-c")] = None,
    follow_parent: Annotated[bool, typer.Option(hidden=True)] = False,
    verbose: bool = False,
) -> None:
    """Run one worker process for one queue; one for each GPU."""
    from workers.worker import run_worker

    set_up_logging(verbose=verbose)
    run_worker(load_settings(config), QueueName[queue.name], follow_parent=follow_parent)
