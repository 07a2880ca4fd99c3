"""Messages are sent after their rows are committed, and again where that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from tests.support.cases import ready_case
from tests.support.intake import context_in
from uair_node.cases import work_items
from uair_node.cases.tables import WorkItem
from uair_node.context import Context
from uair_node.work.dispatch import Dispatcher


@pytest.fixture
def context(tmp_path: Path, database_url: str) -> Iterator[Context]:
    with context_in(tmp_path / "data", database_url) as made:
        yield made


def _two_due(context: Context) -> list[int]:
    with context.database.transaction() as session:
        for series in ("1.1", "1.2"):
            ready_case(session, series)
        return [item.id for item in session.query(WorkItem)]


def _dispatcher(
    context: Context, monkeypatch: pytest.MonkeyPatch, send: Callable[[int], object]
) -> Dispatcher:
    """A dispatcher that hands item numbers to `send`; no broker is needed to see when it sends."""
    made = Dispatcher(context.settings, context.database)

    def send_task(_name: str, args: list[Any]) -> None:
        send(args[0])

    monkeypatch.setattr(made._celery, "send_task", send_task)
    return made


def test_a_worker_that_is_faster_than_light_finds_its_work(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a message on its way is not locked: a locked row would be skipped, and wait a minute."""
    ids, claimed = _two_due(context), []

    def claim(item_id: int) -> None:
        with context.database.transaction() as session:
            assert session.get_one(WorkItem, item_id).enqueued_at is not None
            found = work_items.claim(session, item_id, "worker", 30)
            claimed.append(found.id if found else None)

    assert _dispatcher(context, monkeypatch, claim).enqueue_due() == 2
    assert claimed == ids
    with context.database.transaction() as session:
        assert {item.lease_owner for item in session.query(WorkItem)} == {"worker"}


def test_what_could_not_be_sent_is_due_at_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, sent = _two_due(context), []

    def send(item_id: int) -> None:
        if sent:
            raise OperationalError
        sent.append(item_id)

    dispatcher = _dispatcher(context, monkeypatch, send)
    assert dispatcher.enqueue_due() == 1
    assert sent == ids[:1]
    with context.database.transaction() as session:
        assert [item.id for item in session.query(WorkItem).filter_by(enqueued_at=None)] == ids[1:]
    sent.clear()
    assert dispatcher.enqueue_due() == 1
    assert sent == ids[1:]
