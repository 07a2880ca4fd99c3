"""Work that no worker takes: which queue, since when, and what the node logs."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from tests.support.cases import ready_case
from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.cases.tables import WorkItem
from uair_node.work.topology import QueueName
from uair_node.work.unserved import UnservedQueue, UnservedWatch, unserved_queues


def _waiting(session: Session, *seconds: float) -> list[WorkItem]:
    """Return computations that have been due for so long."""
    now = database_now(session)
    for n in range(len(seconds)):
        ready_case(session, f"1.2.{n}")
    items = session.query(WorkItem).order_by(WorkItem.id).all()
    for item, waited in zip(items, seconds, strict=True):
        item.not_before = now - timedelta(seconds=waited)
    session.flush()
    return items


def test_a_queue_is_unserved_once_its_oldest_work_waits_longer_than_a_claim_takes(database: Database) -> None:
    with database.transaction() as session:
        first, second = _waiting(session, 50, 40)
        assert unserved_queues(session) == []
        first.not_before -= timedelta(seconds=50)
        assert unserved_queues(session) == [UnservedQueue(QueueName.GPU, 2, first.not_before)]
        second.lease_until = database_now(session) + timedelta(seconds=30)
        assert unserved_queues(session) == [], "a worker is at work"
        second.lease_until = database_now(session) - timedelta(seconds=1)
        assert len(unserved_queues(session)) == 1, "the claim ran out: its worker died"
        first.not_before = database_now(session) + timedelta(seconds=90)
        assert unserved_queues(session) == [], "postponed work waits for its time"


@pytest.mark.parametrize(("waiting", "words"), [(1, "1 work item waits"), (3, "3 work items wait")])
def test_the_words_count_and_date(waiting: int, words: str) -> None:
    queue = UnservedQueue(QueueName.IO, waiting, datetime(2026, 3, 1, 3, 7))
    assert queue.words == f"{words}, the oldest since 2026-03-01 03:07 UTC"


def test_the_node_logs_once_that_work_is_not_taken_and_once_that_it_is(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.transaction() as session:
        (item,) = _waiting(session, 100)
        item_id = item.id
    now = [0.0]
    watch = UnservedWatch(database, lambda: now[0])
    for now[0] in (0.0, 29.0):
        watch.look()
    assert caplog.messages == [], "a worker may be between two work items, or just starting"
    for now[0] in (30.0, 90.0):
        watch.look()
    (line,) = caplog.messages
    assert line.startswith(
        "no-worker: no worker claims work of uair.gpu: 1 work item waits, the oldest since 2"
    )
    assert "uair-gpu-worker" in line
    with database.transaction() as session:
        session.get_one(WorkItem, item_id).lease_until = database_now(session) + timedelta(seconds=30)
    watch.look()
    watch.look()
    assert caplog.messages[1:] == ["no-worker is over: work of uair.gpu is claimed again"]
