"""Get the numbers of waiting messages and consumers from the broker, and compare the queues' arguments.

This module uses AMQP and does not use cases. The due work is in the database, not in the queues.
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
    """A queue's numbers of waiting messages and consumers.

    `mismatch` is the broker's text about an argument that differs from our configuration; else empty.
    """

    name: str
    messages: int
    consumers: int
    mismatch: str = ""


def broker_connection(settings: Settings) -> Connection:
    """Return a connection to the broker. The connection is opened at its first use."""
    return Connection(celery_options(settings)["broker_url"], connect_timeout=CONNECT_S)


def look_at_queues(connection: Connection, settings: Settings, *, compare: bool = False) -> list[QueueView]:
    """Return the existing work queues and dead-letter queues. No new queue is made.

    Parameters
    ----------
    compare
        Whether to compare the queues' arguments with our configuration. The broker logs each difference.

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
        _on_channel(connection, queue, passive=False)  # the queue exists, so the broker only compares
    except PreconditionFailed as error:
        return QueueView(queue.name, messages, consumers, str(error.reply_text).partition(" - ")[2])
    return QueueView(queue.name, messages, consumers)


def _on_channel(connection: Connection, queue: Queue, *, passive: bool) -> Any:
    channel = connection.channel()  # a new channel for each request, because an error closes the channel
    try:
        return queue.bind(channel).queue_declare(passive=passive)
    finally:
        channel.close()
