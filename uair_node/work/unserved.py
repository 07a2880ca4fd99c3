"""Find queues that no worker serves, with the number of waiting items and the waiting time."""

from __future__ import annotations

import logging
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


@dataclass(frozen=True)
class UnservedQueue:
    """A queue whose due work no worker takes.

    Attributes
    ----------
    waiting
        Number of due work items.
    since
        When the oldest of them became due, by the database's clock, UTC.
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
    """Return the queues whose oldest due work was not claimed in the usual time, and that hold no claim."""
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
    """Logs once when a queue is no longer served, and when it is served again.

    A queue counts as unserved after two looks, because a worker holds no item between two items.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: set[QueueName] = set()
        self._logged: set[QueueName] = set()

    def look(self) -> None:
        """Look at the queues, and log changes."""
        with self._database.reading() as session:
            found = {queue.name: queue for queue in unserved_queues(session)}
        for name in sorted(found.keys() & self._seen - self._logged):
            log.warning("no-worker: no worker takes work of %s: %s. %s", name, found[name].words, name.remedy)
            self._logged.add(name)
        for name in sorted(self._logged - found.keys()):
            log.warning("no-worker is over: work of %s is taken again", name)
            self._logged.discard(name)
        self._seen = set(found)
