"""Start a worker process. Tasks run in child processes, so that a time limit can kill a single child.

The parent sends the heart-beats. It imports the modules of the tasks, but only a child uses them. The child
loads the model with its first task.
"""

from __future__ import annotations

import logging
import os

from celery.signals import setup_logging, task_postrun, worker_ready
from prometheus_client import CollectorRegistry, ProcessCollector

from dicom_config.model import Settings
from uair_node.operations.monitoring.graphics import GraphicsCollector
from uair_node.operations.monitoring.server import MonitoringServer
from uair_node.operations.monitoring.service_watch import ServiceWatch
from uair_node.work.service_start import open_service
from uair_node.work.topology import QueueName
from workers.app import make_app
from workers.process import describe as _describe  # noqa: F401 - registers what a worker answers
from workers.process.broker_log import name_outages
from workers.process.memory import release_memory
from workers.process.preload import preload

log = logging.getLogger(__name__)

_MOST_IO_CHILDREN = 8


def run_worker(settings: Settings, queue: QueueName) -> None:
    """Consume one queue until a signal stops the worker.

    Raises
    ------
    ConfigError
        ``migration-due``: the node has not migrated the database yet.
    """
    open_service(settings).database.close()
    preload(queue)
    # The command line sets up logging. Without a receiver of this signal, Celery would set up its own.
    setup_logging.connect(_keep_logging)
    name_outages()
    task_postrun.connect(release_memory, weak=False)
    options = [
        f"--queues={queue.value}",
        # A machine may have a worker for each GPU. Their names must differ: the broker refuses equal names.
        f"--hostname={queue.value}.{os.getpid()}@%h",
        "--pool=prefork",
        f"--concurrency={children(settings, queue)}",
        "--without-gossip",
        "--without-mingle",
    ]
    worker_ready.connect(lambda **_: log.info("the worker waits for tasks from %s", queue.value), weak=False)
    # The child processes are forked before the worker is ready, so they inherit no open port and no thread.
    worker_ready.connect(lambda **_: ServiceWatch(_is_live).start(), weak=False)
    monitoring = _monitoring(settings, queue)
    if settings.embedded:
        options.append("--without-heartbeat")
    if monitoring is not None:
        worker_ready.connect(lambda **_: monitoring.start(), weak=False)
    make_app(settings, queue).worker_main(["--quiet", "worker", *options])


def children(settings: Settings, queue: QueueName) -> int:
    """Return the number of parallel tasks: 1 for the GPU queue; destinations + 1, up to a limit, for IO."""
    if queue == QueueName.GPU:
        return 1
    return min(_MOST_IO_CHILDREN, 1 + len(settings.destinations))


def _monitoring(settings: Settings, queue: QueueName) -> MonitoringServer | None:
    """Return the server for liveness and GPU memory; None if monitoring is not configured."""
    section = settings.monitoring
    if not section.port:
        return None
    registry = CollectorRegistry()
    ProcessCollector(namespace="uair_worker", registry=registry)
    if queue == QueueName.GPU:
        registry.register(GraphicsCollector())
    port = section.port + (1 if queue == QueueName.GPU else 2)
    return MonitoringServer(section.host, port, live=_is_live, ready=_is_live, registries=[registry])


def _is_live() -> dict[str, bool]:
    """Report that the worker is alive. A time limit ends a task that hangs."""
    return {"worker": True}


def _keep_logging(**_: object) -> None:
    """Leave logging unchanged, so that Celery does not configure it."""
