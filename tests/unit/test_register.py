"""Rows of instances that several associations bring at a time: shared transactions, no waiting in vain."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_config.errors import TransientError
from tests.support.intake import context_in, received
from tests.support.ports import wait_until
from tests.support.series import edit, good_series
from uair_node.cases.tables import Case, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.intake.inbox import Inbox
from uair_node.intake.register import GroupCommit


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", database_url) as made:
        yield made


class _Taker:
    """Keeps the groups that it gets; the first one waits until it is let go on."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.groups: list[list[str]] = []
        self.go_on = threading.Event()
        self._error = error

    def __call__(self, items: Sequence[str]) -> None:
        self.groups.append(list(items))
        if len(self.groups) == 1:
            self.go_on.wait(10)
        elif self._error is not None and "bad" in items:
            raise self._error


def _add(taker: _Taker, items: Sequence[str]) -> dict[str, BaseException | None]:
    """Add the first item, the others while it is being taken; return what each thread was told."""
    commits: GroupCommit[str] = GroupCommit(taker)
    with ThreadPoolExecutor(len(items)) as pool:
        told = {items[0]: pool.submit(commits.add, items[0])}
        wait_until(lambda: bool(taker.groups), "the first group", 5)
        told |= {item: pool.submit(commits.add, item) for item in items[1:]}
        wait_until(lambda: len(commits._gathered) == len(items) - 1, "the others", 5)
        taker.go_on.set()
        return {item: future.exception(10) for item, future in told.items()}


def test_what_gathers_during_a_commit_shares_the_next_one() -> None:
    taker = _Taker()
    assert set(_add(taker, ["first", "a", "b", "c"]).values()) == {None}
    assert [sorted(group) for group in taker.groups] == [["first"], ["a", "b", "c"]]


def test_one_that_cannot_be_filed_spoils_it_for_no_other() -> None:
    error = ValueError("bad")
    told = _add(_Taker(error), ["first", "a", "bad", "c"])
    assert told == {"first": None, "a": None, "bad": error, "c": None}


def test_a_database_that_is_away_is_asked_once_for_all() -> None:
    error = TransientError("database-unavailable", "It is away.", "Wait.")
    taker = _Taker(error)
    told = _add(taker, ["first", "a", "bad", "c"])
    assert told == {"first": None, "a": error, "bad": error, "c": error}
    assert len(taker.groups) == 2


def test_nobody_is_told_that_all_is_well_when_a_thread_is_torn_down() -> None:
    told = _add(_Taker(SystemExit()), ["first", "a", "bad", "c"])
    assert told["first"] is None
    assert sorted(type(told[item]).__name__ for item in ("a", "bad", "c")) == [
        "RuntimeError",
        "RuntimeError",
        "SystemExit",
    ]


def test_each_association_is_answered_once_its_own_row_is_there(context: Context, tmp_path: Path) -> None:
    inbox, paths = Inbox(context), good_series(tmp_path / "ct")

    def receive(path: Path) -> bool:
        instance = received(path)
        inbox.receive(instance)
        with context.database.transaction() as session:
            rows = session.query(Instance).filter_by(sop_instance_uid=instance.sop_instance_uid)
            return context.store.absolute(rows.one().path).read_bytes() == instance.data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(receive, paths))
    with context.database.transaction() as session:
        assert session.query(Case).one().instance_count == len(paths)


def test_one_instance_over_many_associations_is_filed_once(context: Context, tmp_path: Path) -> None:
    inbox, path = Inbox(context), good_series(tmp_path / "ct")[0]
    first = received(path)
    edit(path, ImageComments="changed")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(inbox.receive, [first] * 8))
        list(pool.map(inbox.receive, [received(path)] * 8))
    with context.database.transaction() as session:
        statuses = sorted(instance.status for instance in session.query(Instance))
    assert statuses == [InstanceStatus.REPLACED, InstanceStatus.STORED]
