"""Figures of queues and workers: from the database, and from broker and workers if they answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.model import Settings
from uair_node.cases.clock import database_now
from uair_node.cases.tables import WorkItem, WorkKind, utc_now
from uair_node.work.queues import CONNECT_S, QueueView, broker_connection, look_at_queues
from uair_node.work.topology import RULES, QueueName, celery_options

DESCRIBE = "uair_describe"
"""The control command to which a worker answers with its description (`workers.process.describe`)."""

_ANSWER_S = 1.5
_STALE_S = 60.0


@dataclass(frozen=True)
class DueWork:
    """Numbers of open work items of one kind: held by a worker, waiting, postponed. Ages are in seconds."""

    kind: WorkKind
    queue: QueueName
    held: int
    waiting: int
    postponed: int
    oldest_s: float | None
    causes: Sequence[str]

    @property
    def idle(self) -> bool:
        """Whether there is no open work."""
        return not (self.held or self.waiting or self.postponed)


@dataclass(frozen=True)
class Broker:
    """The broker's queues, the names of queues that are not declared yet, and the workers that answered.

    If queues and workers are unknown, then `sentence` has the reason. For each queue without a
    worker, `alone_since` has the time (UTC, the console's clock) at which the console first saw no worker.
    """

    queues: Sequence[QueueView] = ()
    absent: Sequence[str] = ()
    workers: Sequence[Mapping[str, Any]] = ()
    sentence: str = ""
    up: bool = True
    alone_since: Mapping[QueueName, datetime] = field(default_factory=dict)

    @property
    def alone(self) -> list[QueueName]:
        """The queues without a worker; empty if the broker did not answer."""
        if not self.up or self.sentence:
            return []
        consumed = {view.name for view in self.queues if view.consumers}
        return [name for name in QueueName if name.value not in consumed]


def due_work(session: Session) -> list[DueWork]:
    """Return the open work by kind, in the order of a case's steps."""
    now = database_now(session)
    items = session.scalars(select(WorkItem).where(WorkItem.open)).all()
    found = []
    for kind, rule in RULES.items():
        of_kind = [work for work in items if work.kind == kind]
        held = [work for work in of_kind if work.lease_until is not None and work.lease_until > now]
        late = [work for work in of_kind if work not in held and work.not_before > now]
        waiting = [work for work in of_kind if work not in held and work not in late]
        oldest = max(((now - work.not_before).total_seconds() for work in waiting), default=None)
        causes = sorted({work.cause for work in of_kind if work.cause})
        found.append(DueWork(kind, rule.queue, len(held), len(waiting), len(late), oldest, causes))
    return found


def holders(session: Session) -> list[tuple[str, str, str, float]]:
    """Return the work that is claimed.

    Returns
    -------
    list of tuple
        Worker (host and process), kind of work, case or destination, seconds until the claim ends unless the
        worker renews it.
    """
    now = database_now(session)
    query = select(WorkItem).where(WorkItem.open, WorkItem.lease_until > now).order_by(WorkItem.lease_owner)
    found = []
    for work in session.scalars(query):
        subject = f"case {work.case_id}, round {work.round_number}" if work.case_id else work.subject
        left_s = 0.0 if work.lease_until is None else (work.lease_until - now).total_seconds()
        found.append((work.lease_owner.rsplit(":", 1)[0], str(work.kind), subject, left_s))
    return found


def ask_broker(settings: Settings) -> Broker:
    """Query the broker for its queues, and all workers for their descriptions.

    The function raises no error. If the broker does not answer, then `sentence` of the result is not empty.
    """
    if settings.embedded:
        return Broker(sentence="Embedded mode: messages are files, there is no broker and no worker to ask.")
    try:
        with broker_connection(settings) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
            queues = look_at_queues(connection, settings)
        absent = sorted(set(_names()) - {queue.name for queue in queues})
        return Broker(queues, absent, _ask_workers(celery_options(settings)))
    except Exception as error:  # every transport has its own exceptions
        return Broker(
            sentence=f"The broker does not answer ({type(error).__name__}). Nothing is lost: work stays due "
            "in the database, and is sent again once the broker answers. Start RabbitMQ. Check broker.url.",
            up=False,
        )


def _names() -> list[str]:
    return [name for queue in QueueName for name in (queue.value, queue.dead_letters)]


def _ask_workers(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    app = Celery("uair-console", set_as_current=False)
    app.conf.update(options)
    with app.connection_for_write() as connection:
        answers = app.control.broadcast(DESCRIBE, reply=True, timeout=_ANSWER_S, connection=connection)
    app.close()
    described = {name: values for answer in answers or [] for name, values in answer.items()}
    return [{"name": name, **values} for name, values in sorted(described.items()) if "error" not in values]


def last_answer(kept: dict[str, Any], settings: Settings) -> Broker | None:
    """Return the broker's last answer without waiting; None before the first answer."""
    remembered: Remembered = kept.setdefault("broker", Remembered())
    return remembered.latest(settings)


@dataclass
class Remembered:
    """Keeps the broker's last answer, so that several users do not query the broker several times."""

    lasts_s: float = 5.0
    _at: float = field(default=float("-inf"))
    _broker: Broker | None = None
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, settings: Settings) -> Broker:
        """Return the broker's answer, which is at most a few seconds old."""
        if self._broker is None or time.monotonic() - self._at > self.lasts_s:
            self._broker, self._at = self._dated(ask_broker(settings)), time.monotonic()
        return self._broker

    def _dated(self, broker: Broker) -> Broker:
        """Return the answer, with the time since which each queue has had no worker."""
        before = self._broker.alone_since if self._broker else {}
        return replace(broker, alone_since={name: before.get(name, utc_now()) for name in broker.alone})

    def latest(self, settings: Settings) -> Broker | None:
        """Return the last answer. If it is old, then query again in a thread.

        The result is None before the first answer, and if the last answer is older than a minute.
        """
        if settings.embedded:
            return self.ask(settings)  # embedded mode has no broker: it takes no time
        if time.monotonic() - self._at > self.lasts_s and self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask_beside, args=(settings,), daemon=True).start()
        return self._broker if time.monotonic() - self._at < _STALE_S else None

    def _ask_beside(self, settings: Settings) -> None:
        try:
            self.ask(settings)
        finally:
            self._asking.release()
