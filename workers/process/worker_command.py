"""`uair worker`: run a worker process."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dicom_config.model import load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.logs import set_up_logging
from uair_node.work.topology import QueueName
from workers.process.worker import run_worker


class Queue(StrEnum):
    """Short names of the queues."""

    GPU = "gpu"
    IO = "io"


def worker(
    queue: Annotated[Queue, typer.Option(help="gpu: computes rounds; io: writes and delivers results.")],
    config: ConfigOption = None,
    verbose: bool = False,
) -> None:
    """Run one worker process for one queue. Start one `gpu` worker for each GPU."""
    settings = load_settings(config)
    set_up_logging(verbose=verbose, form=settings.logs.format)
    run_worker(settings, QueueName[queue.name])
