"""Find queues that no worker serves, with the number of waiting items and the waiting time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.cases.queue import CLAIMED_WITHIN_S
from uair_node.cases.tables import WorkItem
from uair_node.work.topology import RULES, QueueName

log = logging.getLogger(__name__)

_SURE_S = 30.0


@dataclass(frozen=True)
class UnservedQueue:
    """A queue with due work that no worker claims.

    Attributes
    ----------
    waiting
        Number of due work items.
    since
        The time when the oldest of these items became due, by the database's clock, UTC.
    """

    name: QueueName
    waiting: int
    since: datetime

    @property
    def words(self) -> str:
        """The number of waiting items and the waiting time, in words."""
        works, wait = ("work item", "waits") if self.waiting == 1 else ("work items", "wait")
        return f"{self.waiting} {works} {wait}, the oldest since {self.since:%Y-%m-%d %H:%M} UTC"


def unserved_queues(session: Session) -> list[UnservedQueue]:
    """Return the queues without a running claim whose oldest due item waits longer than usual."""
    now = database_now(session)
    items = session.scalars(select(WorkItem).where(WorkItem.open, WorkItem.not_before <= now)).all()
    found = []
    for name in QueueName:
        due = [item for item in items if RULES[item.kind].queue == name]
        held = any(item.lease_until is not None and item.lease_until > now for item in due)
        since = min((item.not_before for item in due), default=now)
        if not held and (now - since).total_seconds() > CLAIMED_WITHIN_S:
            found.append(UnservedQueue(name, len(due), since))
    return found


class UnservedWatch:
    """Logs once when workers no longer serve a queue, and once when they serve it again.

    A queue is logged only after half a minute without a worker, for two reasons. Between two work items, a
    worker has no claim. After the machine's start, workers need some seconds.

    Parameters
    ----------
    clock
        A function that returns seconds. Only tests replace `time.monotonic`.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._since: dict[QueueName, float] = {}
        self._logged: set[QueueName] = set()

    def look(self) -> None:
        """Check the queues once, and log the changes."""
        with self._database.reading() as session:
            found = {queue.name: queue for queue in unserved_queues(session)}
        now = self._clock()
        self._since = {name: self._since.get(name, now) for name in found}
        for name, queue in found.items():
            if name not in self._logged and now - self._since[name] >= _SURE_S:
                log.warning("no-worker: no worker claims work of %s: %s. %s", name, queue.words, name.remedy)
                self._logged.add(name)
        for name in sorted(self._logged - found.keys()):
            log.warning("no-worker is over: work of %s is claimed again", name)
            self._logged.discard(name)
