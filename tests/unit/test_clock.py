"""Leases and due times go by the database's clock: a machine with a wrong clock does what the others do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from sqlalchemy import DateTime

from dicom_config.model import Settings
from tests.support.cases import expire_lease, open_item, publish_round, ready_case
from tests.support.intake import context_in, received
from tests.support.ports import wait_until
from tests.support.series import good_series
from uair_node.cases import lifecycle, tables, work_items
from uair_node.cases.clock import database_now, present
from uair_node.cases.database import Database
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Transition, WorkItem, WorkKind, utc_now
from uair_node.console.figures import due_work, holders
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.node import Node
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.storage.store import Store
from uair_node.work.performer import Claim, Commit, perform

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SKEWS = pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["ahead", "behind"])


@contextmanager
def _clock_off_by(skew: timedelta) -> Iterator[None]:
    """Let this process's clock go wrong, as on a machine of its own."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Wrong:
            return cls.fromtimestamp((datetime.now(UTC) + skew).timestamp(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "datetime", Wrong)
        assert abs(utc_now() - (datetime.now(UTC).replace(tzinfo=None) + skew)) < timedelta(minutes=1)
        yield


@pytest.fixture
def item_id(database: Database) -> int:
    """A computation that is due."""
    with database.transaction() as session:
        return open_item(session, ready_case(session), WorkKind.COMPUTE).id


def _claim(database: Database, item_id: int, owner: str) -> bool:
    with database.transaction() as session:
        return work_items.claim(session, item_id, owner, 120.0) is not None


def _due(database: Database) -> list[int]:
    with database.transaction() as session:
        return [item.id for item in work_items.due_items(session)]


def test_the_database_tells_the_time_in_utc_and_it_goes_on(database: Database) -> None:
    with database.transaction() as session:
        first = database_now(session)
        assert abs(first - utc_now()) < timedelta(minutes=1), "the database runs on this machine"
        assert first.tzinfo is None
        later = next(now for now in iter(lambda: database_now(session), None) if now > first)
    assert later > first, "also within a transaction"


@SKEWS
def test_a_machine_with_a_wrong_clock_takes_no_living_lease(
    database: Database, item_id: int, skew: timedelta
) -> None:
    assert _claim(database, item_id, "right")
    with _clock_off_by(skew):
        assert _due(database) == []
        assert not _claim(database, item_id, "wrong")
        with database.transaction() as session:
            assert not work_items.renew(session, item_id, "wrong", 120.0)
            assert [worker for worker, *_ in holders(session)] == ["right"], "the console says so, too"


@SKEWS
def test_a_machine_with_a_wrong_clock_takes_over_a_dead_lease(
    database: Database, item_id: int, skew: timedelta
) -> None:
    assert _claim(database, item_id, "dead")
    with database.transaction() as session:
        expire_lease(session.get_one(WorkItem, item_id))
    with _clock_off_by(skew):
        assert _due(database) == [item_id]
        assert _claim(database, item_id, "wrong")


@SKEWS
@pytest.mark.parametrize("renewed", [False, True])
def test_a_lease_of_a_machine_with_a_wrong_clock_lasts_as_long_as_any(
    database: Database, item_id: int, skew: timedelta, *, renewed: bool
) -> None:
    with _clock_off_by(skew):
        assert _claim(database, item_id, "wrong")
        if renewed:
            with database.transaction() as session:
                assert work_items.renew(session, item_id, "wrong", 120.0)
    assert not _claim(database, item_id, "right"), "it lives"
    with database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        assert item.lease_until is not None
        assert item.lease_until <= database_now(session) + timedelta(seconds=120)


@SKEWS
def test_what_a_machine_with_a_wrong_clock_puts_off_comes_when_it_is_due(
    database: Database, item_id: int, skew: timedelta, tmp_path: Path
) -> None:
    context = Context(Settings(data_dir=tmp_path), database, Store(tmp_path))

    def not_yet(claim: Claim) -> Commit:
        return lambda session, item: work_items.postpone(session, item, 120.0, "later")

    with _clock_off_by(skew):
        assert perform(context, item_id, not_yet)
    assert _due(database) == [], "not at once"
    with database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        assert item.not_before <= database_now(session) + timedelta(seconds=120), "and not an hour late"
        work_items.make_due_now(session, item)
    assert _due(database) == [item_id]


@SKEWS
def test_a_series_received_by_a_wrong_clock_is_decided_when_it_is_quiet(
    database_url: str, tmp_path: Path, skew: timedelta
) -> None:
    """A clock that is set back, or another machine that goes on after this one."""
    with context_in(tmp_path / "data", database_url) as context:
        inbox = Inbox(context)
        with _clock_off_by(skew):
            for path in good_series(tmp_path / "ct"):
                inbox.receive(received(path))
        wait_until(lambda: assemble(context) > 0, "the series to be quiet")
        with context.database.reading() as session:
            assert session.query(Case).one().state == CaseState.READY


@pytest.mark.parametrize("skew", [100 * DAY, -100 * DAY], ids=["ahead", "behind"])
def test_a_worker_with_a_wrong_clock_expires_no_case(
    database_url: str, tmp_path: Path, skew: timedelta
) -> None:
    with context_in(tmp_path, database_url, work={"expire_after_days": 30}) as context:
        with _clock_off_by(skew), context.database.transaction() as session:
            publish_round(session, ready_case(session))
        node = Node(context)
        assert node.sweep()
        with _clock_off_by(skew):
            assert node.sweep(), "nor does a node with a wrong clock"
        with context.database.reading() as session:
            assert session.query(Case).one().state == CaseState.AWAITING_SELECTION


@pytest.mark.parametrize("skew", [100 * DAY, -100 * DAY], ids=["ahead", "behind"])
def test_retention_by_a_wrong_clock_deletes_nothing_early(
    database_url: str, tmp_path: Path, skew: timedelta
) -> None:
    with context_in(tmp_path, database_url) as context:
        with _clock_off_by(skew), context.database.transaction() as session:
            case = ready_case(session)
            publish_round(session, case)
            lifecycle.expire(session, case, actor="test", reason="")
        assert apply_retention(context, dry_run=True) == []
        with _clock_off_by(skew):
            assert apply_retention(context, dry_run=True) == []


@SKEWS
def test_work_that_a_machine_with_a_wrong_clock_makes_due_is_due_at_once(
    database: Database, skew: timedelta
) -> None:
    with _clock_off_by(skew), database.transaction() as session:
        made = open_item(session, ready_case(session), WorkKind.COMPUTE).id
    assert _due(database) == [made]
    with _clock_off_by(skew), database.transaction() as session:
        work_items.note_enqueued(session, work_items.due_items(session))
    assert _due(database) == [], "its message is young"
    with database.transaction() as session:
        (computing,) = (line for line in due_work(session) if line.kind == WorkKind.COMPUTE)
        assert computing.waiting == 1


@SKEWS
def test_times_that_rows_get_by_themselves_are_the_databases(database: Database, skew: timedelta) -> None:
    """Objects of a series carry them: a later object must not seem older than its series."""
    with _clock_off_by(skew), database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        session.flush()
        (round_,) = case.rounds
        times = [case.created_at, round_.created_at, round_.published_at]
        times += [step.at for step in session.query(Transition)]
        assert len(times) > 4
        now = database_now(session)
        assert all(time is not None and abs(now - time) < timedelta(minutes=1) for time in times)


def test_no_row_gets_a_machines_time() -> None:
    times = [
        column
        for table in tables.Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, DateTime) and column.default is not None
    ]
    assert len(times) > 8
    assert all(isinstance(column.default.arg, present) for column in times)
