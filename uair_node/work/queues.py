"""Look at the broker: number of waiting messages, consumers, and whether the queues have our arguments.

This module speaks AMQP and does not know cases. The due work is in the database, not in the queues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection, Queue

from dicom_config.model import Settings
from uair_node.work.topology import QueueName, celery_options, dead_letter_queue, work_queue

CONNECT_S = 4.0


@dataclass(frozen=True)
class QueueView:
    """A queue's waiting messages and consumers. `mismatch` names an argument that differs from ours."""

    name: str
    messages: int
    consumers: int
    mismatch: str = ""


def broker_connection(settings: Settings) -> Connection:
    """Return a connection to the broker that is opened at its first use."""
    return Connection(celery_options(settings)["broker_url"], connect_timeout=CONNECT_S)


def look_at_queues(connection: Connection, settings: Settings, *, compare: bool = False) -> list[QueueView]:
    """Return the existing queues. No queue is declared.

    Parameters
    ----------
    compare
        Also compare their arguments with ours. The broker logs each queue that differs.

    Raises
    ------
    OSError, kombu.exceptions.OperationalError
        The broker does not answer.
    """
    declared = [work_queue(name, settings) for name in QueueName]
    declared += [dead_letter_queue(name) for name in QueueName]
    found = (_look_at(connection, queue, compare) for queue in declared)
    return [view for view in found if view is not None]


def _look_at(connection: Connection, queue: Queue, compare: bool) -> QueueView | None:
    try:
        _, messages, consumers = _on_channel(connection, queue, passive=True)
    except NotFound:
        return None
    if not compare:
        return QueueView(queue.name, messages, consumers)
    try:
        _on_channel(connection, queue, passive=False)  # it is there: this compares, and changes nothing
    except PreconditionFailed as error:
        return QueueView(queue.name, messages, consumers, str(error.reply_text).partition(" - ")[2])
    return QueueView(queue.name, messages, consumers)


def _on_channel(connection: Connection, queue: Queue, *, passive: bool) -> Any:
    channel = connection.channel()  # an error closes it, hence one for each question
    try:
        return queue.bind(channel).queue_declare(passive=passive)
    finally:
        channel.close()
