"""The broker as it is now: how many messages wait, who consumes, whether the queues are the ones we declare.

Knows AMQP and nothing of cases; what is due stands in the database, whatever is here.
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
    """One queue: messages ready to be taken, and consumers; `mismatch` names another argument than ours."""

    name: str
    messages: int
    consumers: int
    mismatch: str = ""


def broker_connection(settings: Settings) -> Connection:
    """Return a connection to the broker, not yet made."""
    return Connection(celery_options(settings)["broker_url"], connect_timeout=CONNECT_S)


def look_at_queues(connection: Connection, settings: Settings, *, compare: bool = False) -> list[QueueView]:
    """Return the queues that are there; nothing is declared that was not.

    Parameters
    ----------
    compare
        Also ask whether their arguments are ours; the broker logs each that are not.

    Raises
    ------
    OSError, kombu.exceptions.OperationalError
        The broker is away.
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
