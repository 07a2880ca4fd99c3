"""The description of a worker for the console. The worker's parent process sends it over the broker.

Importing this module registers the command. The parent must not use CUDA, so the driver's tool reads the GPU
memory.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from celery.worker import state as running
from celery.worker.control import inspect_command

from uair_node.operations.gpu import read_gpus

_STARTED = time.monotonic()


@inspect_command(name="uair_describe")
def describe(_state: Any) -> dict[str, Any]:
    """Return process id, time since the start, finished and running tasks, and the machine's GPUs."""
    return {
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - _STARTED, 1),
        "done": sum(running.total_count.values()) - len(running.active_requests),
        "active": len(running.active_requests),
        "gpus": [asdict(gpu) for gpu in read_gpus()],
    }
