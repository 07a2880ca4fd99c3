"""The queues: their names and arguments, and the transport of tasks with and without a broker server.

The messages in ``uair.gpu`` and ``uair.io`` contain work item ids. A message that was delivered too often
goes to the dead-letter queue ``<queue>.XQ``. With RabbitMQ, the queues are quorum queues, always with
delivery limit and dead-letter exchange. Without a broker URL, the messages are files in the data folder
(kombu's filesystem transport). Then the same tasks run in several processes, without a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kombu import Exchange, Queue

from dicom_config.model import Settings
from uair_node.cases.tables import WorkKind
from uair_node.storage.store import Store


class QueueName(StrEnum):
    """The two queues: ``uair.gpu`` for work on the device, ``uair.io`` for all other work."""

    GPU = "uair.gpu"
    IO = "uair.io"

    @property
    def dead_letters(self) -> str:
        """Name of the queue for messages that were delivered too often."""
        return f"{self.value}.XQ"

    @property
    def short(self) -> str:
        """The queue's name for the option `uair worker --queue`: ``gpu`` or ``io``."""
        return self.value.rpartition(".")[2]

    @property
    def remedy(self) -> str:
        """A sentence for the administrator: the action if no worker serves the queue."""
        containers = "`gpu-worker` or `cpu-worker`" if self is QueueName.GPU else "`io-worker`"
        return (
            f"Start `uair worker --queue {self.short}` (unit `uair-{self.short}-worker`, "
            f"container {containers}); its log says why it ended. The work is kept, and continues by itself."
        )


@dataclass(frozen=True)
class WorkRule:
    """The queue of a kind of work, and the consequence if the work fails.

    Attributes
    ----------
    queue
        The queue for this kind of work.
    dispensable
        Whether a case continues without this work. If the last attempt fails, then the work is given up, but
        the case does not fail.
    """

    queue: QueueName
    dispensable: bool = False


RULES: Mapping[WorkKind, WorkRule] = {
    WorkKind.COMPUTE: WorkRule(QueueName.GPU),
    WorkKind.PUBLISH: WorkRule(QueueName.IO),
    WorkKind.PAGES: WorkRule(QueueName.IO, dispensable=True),
    WorkKind.NOTICES: WorkRule(QueueName.IO, dispensable=True),
    WorkKind.FINISH: WorkRule(QueueName.IO),
    WorkKind.WITHDRAW: WorkRule(QueueName.IO),
    WorkKind.CLOSE_ROUNDS: WorkRule(QueueName.IO, dispensable=True),
    WorkKind.DELIVER: WorkRule(QueueName.IO),
    WorkKind.COMMIT: WorkRule(QueueName.IO),
}
"""The rule of each kind of work. `workers.jobs` has the functions that do the work."""

EXCHANGE = Exchange("uair", type="direct")
DEAD_LETTER_EXCHANGE = Exchange("uair.XQ", type="direct")


def task_name(kind: WorkKind) -> str:
    """Return the name of the Celery task that does work of this kind."""
    return f"uair.{kind.value}"


def work_queue(name: QueueName, settings: Settings) -> Queue:
    """Return a work queue with the arguments that producers and consumers declare."""
    return Queue(
        name.value,
        EXCHANGE,
        routing_key=name.value,
        durable=True,
        queue_arguments=None if settings.embedded else _quorum_arguments(name, settings),
    )


def dead_letter_queue(name: QueueName) -> Queue:
    """Return the dead-letter queue of `name`, for messages delivered too often. A person can inspect them."""
    return Queue(
        name.dead_letters,
        DEAD_LETTER_EXCHANGE,
        routing_key=name.value,
        durable=True,
        queue_arguments={"x-queue-type": "quorum"},
    )


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration of the node (the producer) and the workers (the consumers)."""
    options: dict[str, Any] = {
        "broker_url": settings.broker_url or "filesystem://",
        "task_queues": [work_queue(name, settings) for name in QueueName],
        "task_routes": {task_name(kind): {"queue": rule.queue.value} for kind, rule in RULES.items()},
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "task_time_limit": settings.work.time_limit_s,
        "worker_enable_remote_control": not settings.embedded,
        "worker_send_task_events": not settings.embedded,
        "task_send_sent_event": not settings.embedded,
        "broker_connection_retry_on_startup": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "task_publish_retry": False,
        "broker_connection_timeout": 4.0,
    }
    if settings.embedded:
        options["broker_transport_options"] = _folder_transport(Store(settings.data_dir))
    return options


def _quorum_arguments(name: QueueName, settings: Settings) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": settings.broker.delivery_limit,
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE.name,
        "x-dead-letter-routing-key": name.value,
    }


def _folder_transport(store: Store) -> dict[str, Any]:
    messages, control = store.broker / "messages", store.broker / "control"
    for folder in (messages, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.2,
    }
