"""Send the ids of due work items to the queues, in messages that name the task.

This module does not import the workers.
"""

from __future__ import annotations

import logging
import shutil

from celery import Celery
from kombu.exceptions import OperationalError

from dicom_config.model import Settings
from uair_node.cases import work_items
from uair_node.cases.database import Database
from uair_node.cases.tables import WorkItem
from uair_node.storage.store import Store
from uair_node.work.topology import QueueName, celery_options, dead_letter_queue, task_name

log = logging.getLogger(__name__)


class Dispatcher:
    """Enqueues due work items. If the broker is unreachable, then the items stay due in the database.

    Parameters
    ----------
    settings
        The settings. They determine whether RabbitMQ or files transport the messages.
    database
        The database with the work items.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._embedded = settings.embedded
        self._celery = Celery("uair-node", set_as_current=False)
        self._celery.conf.update(celery_options(settings))
        self._broker_up = True
        self._declared = False

    @property
    def broker_up(self) -> bool:
        """Whether the broker accepted the last message."""
        return self._broker_up

    def enqueue_due(self) -> int:
        """Send a message for each due item that has no message yet. Return the number of sent messages.

        The transaction that records the sending ends before the message is sent. If a worker gets the message
        while the row is locked, then the worker skips the item, and the reader waits for the next message.
        """
        with self._database.transaction() as session:
            due = list(work_items.due_items(session))
            work_items.note_enqueued(session, due)
        sent = 0
        while sent < len(due) and self._send(due[sent]):
            sent += 1
        if sent < len(due):
            with self._database.transaction() as session:
                work_items.forget_enqueued(session, [item.id for item in due[sent:]])
        return sent

    def start_over(self) -> None:
        """Treat every message as lost, as after a crash. `enqueue_due` then sends all due items again."""
        with self._database.transaction() as session:
            work_items.forget_enqueued(session)

    def _send(self, item: WorkItem) -> bool:
        try:
            self._declare()
            self._celery.send_task(task_name(item.kind), args=[item.id])
        except (OperationalError, OSError) as error:
            if self._broker_up:
                log.warning(
                    "broker-unreachable: no answer (%s). Start RabbitMQ; work stays due in the database",
                    type(error).__name__,
                )
            self._broker_up = self._declared = False
            return False
        if not self._broker_up:
            log.warning("broker-unreachable is over")
            self._broker_up = True
        return True

    def _declare(self) -> None:
        """Declare the dead-letter queues, once for each connection. Celery declares the work queues."""
        if self._declared or self._embedded:
            return
        with self._celery.connection_for_write() as connection:
            for name in QueueName:
                dead_letter_queue(name)(connection.default_channel).declare()
        self._declared = True


def clear_embedded_messages(settings: Settings) -> None:
    """Delete the message files of an earlier run in embedded mode. The due work is in the database."""
    if settings.embedded:
        shutil.rmtree(Store(settings.data_dir).broker, ignore_errors=True)
