"""Retention: what `uair tidy` deletes, and what it never touches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.model import Verb
from tests.support.cases import open_item, publish_round, ready_case
from tests.support.intake import context_in
from tests.support.statements import recorded
from uair_node.cases import lifecycle, work_items
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Delivery,
    DeliveryState,
    Instance,
    InstanceStatus,
    Selection,
    SelectionOutcome,
    WorkKind,
    utc_now,
)
from uair_node.context import Context
from uair_node.operations.housekeeping.retention import apply_retention


@pytest.fixture
def context(tmp_path: Path, database_url: str) -> Iterator[Context]:
    retention = {"accepted": {"files_days": 90, "rows_days": 400}, "loose_days": 30, "accesses_days": 400}
    with context_in(tmp_path / "data", database_url, retention=retention) as made:
        yield made


def _write(context: Context, relative: str) -> Path:
    path = context.store.absolute(relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"slice")
    return path


def _published(context: Context, session: Session, series_uid: str) -> Case:
    """A case that waits for its reader, with its files."""
    case = ready_case(session, series_uid)
    publish_round(session, case, ["pacs"])
    for delivery in session.scalars(select(Delivery)):
        delivery.state = DeliveryState.CONFIRMED
    for instance in case.instances:
        instance.path = f"spool/{series_uid}/{instance.id}.dcm"
        _write(context, instance.path)
    round_ = case.current_round
    assert round_ is not None
    round_.artifacts = context.store.relative(context.store.round_folder(case.id, 1, "made"))
    _write(context, f"{round_.artifacts}/candidates.npz")
    return case


def _accept(session: Session, case: Case) -> None:
    said = Selection(case_id=case.id, round_number=1, verb=Verb.ACCEPT, picked=2, mechanism="seg")
    said.outcome = SelectionOutcome.EFFECTIVE
    session.add(said)
    session.flush()
    lifecycle.apply_selection(session, case, said)
    work_items.close(open_item(session, case, WorkKind.FINISH))


def _age(session: Session, case: Case, days: float) -> None:
    case.updated_at = utc_now() - timedelta(days=days)
    for instance in case.instances:
        instance.received_at = case.updated_at
    session.flush()


def _files(context: Context) -> set[str]:
    """Files as if they had been there for long."""
    return {context.store.relative(path) for path in context.store.root.rglob("*") if path.is_file()}


def _tidy(context: Context, *, dry_run: bool = False) -> list[tuple[str, int]]:
    # Two hours later: a file that is younger than an hour is left alone.
    now = utc_now() + timedelta(hours=2)
    return [(removal.what, removal.case) for removal in apply_retention(context, dry_run=dry_run, now=now)]


def test_what_is_over_its_time_goes_and_the_rows_stay(context: Context) -> None:
    with context.database.transaction() as session:
        old, young = _published(context, session, "1.1"), _published(context, session, "1.2")
        for case, days in ((old, 91), (young, 89)):
            _accept(session, case)
            _age(session, case, days)
        kept = {instance.path for instance in young.instances} | {
            f"{young.rounds[0].artifacts}/candidates.npz"
        }
        number = old.id
    before = _files(context)
    assert _tidy(context, dry_run=True) == [("files", number)]
    assert _files(context) == before, "a dry run deletes nothing"
    assert _tidy(context) == [("files", number)]
    assert {file for file in _files(context) if not file.endswith(".sqlite")} == kept
    assert _tidy(context) == [], "and there is nothing left to do"
    with context.database.transaction() as session:
        case = session.get_one(Case, number)
        assert (case.state, case.instance_count, len(case.rounds[0].results)) == (CaseState.ACCEPTED, 2, 4)
        assert case.instances == []


def test_what_a_replaced_worker_left_goes_with_its_case(context: Context) -> None:
    with context.database.transaction() as session:
        case = _published(context, session, "1.1")
        _accept(session, case)
        _age(session, case, 91)
        left = context.store.round_folder(case.id, 1, "lost") / "candidates.npz"
    left.write_bytes(b"of a claim whose lease ran out")
    assert _tidy(context) == [("files", case.id)]
    assert not left.exists()


def test_what_a_replaced_worker_left_goes_while_its_case_goes_on(context: Context) -> None:
    with context.database.transaction() as session:
        case = _published(context, session, "1.1")
        left = context.store.round_folder(case.id, 1, "lost") / "candidates.npz"
        edit = context.store.round_folder(case.id, 1, "edited") / "edit.npz"
        session.add(Selection(case_id=case.id, verb=Verb.PICK, mechanism="seg", outcome="refused"))
        session.flush()
        session.query(Selection).one().artifact = context.store.relative(edit)
    kept = _files(context)
    left.write_bytes(b"of a claim whose lease ran out")
    edit.write_bytes(b"of a reader")
    with context.database.transaction() as session:
        item = work_items.require_work(
            session, WorkKind.NOTICES, case=session.get_one(Case, case.id), key="1"
        )
    assert _tidy(context) == []
    assert left.exists(), "work of the case is open: its worker may still write there"
    with context.database.transaction() as session:
        work_items.close_case_items(session, session.get_one(Case, item.case_id))
    assert _tidy(context) == []
    assert not left.parent.exists()
    assert _files(context) == kept | {context.store.relative(edit)}


@pytest.mark.parametrize("days", [91, 4000])
def test_a_case_that_awaits_a_selection_is_never_touched(context: Context, days: float) -> None:
    with context.database.transaction() as session:
        _age(session, _published(context, session, "1.1"), days)
    before = _files(context)
    assert _tidy(context) == []
    assert _files(context) == before


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.STORED, DeliveryState.PARKED])
def test_files_stay_until_every_destination_has_them(context: Context, state: DeliveryState) -> None:
    with context.database.transaction() as session:
        case = _published(context, session, "1.1")
        _accept(session, case)
        _age(session, case, 1000)
        session.scalars(select(Delivery)).first().state = state
    assert _tidy(context) == []


def test_rows_go_after_the_files(context: Context) -> None:
    with context.database.transaction() as session:
        case = _published(context, session, "1.1")
        _accept(session, case)
        _age(session, case, 401)
        number = case.id
    assert _tidy(context) == [("files", number), ("rows", number)]
    with context.database.transaction() as session:
        assert session.get(Case, number) is None
        assert session.scalars(select(Instance)).all() == []


def test_slices_that_a_later_case_has_too_stay(context: Context) -> None:
    """Late slices supersede a case; its slices are its successor's."""
    with context.database.transaction() as session:
        first = _published(context, session, "1.1")
        second = ready_case(session, "1.1", slices=3)
        assert first.state == CaseState.SUPERSEDED
        for case in (first, second):
            work_items.close_case_items(session, case)
        lifecycle.start_computing(session, second, actor="worker")
        lifecycle.fail(session, second, code="work-failed", cause="No.", remedy="Correct it.")
        for instance in second.instances:
            instance.path = f"spool/1.1/{instance.id}.dcm"
            _write(context, instance.path)
        _age(session, first, 50)
        paths = {instance.path for instance in second.instances}
        number = first.id
    assert _tidy(context) == [("files", number)], "its artifacts"
    assert paths <= _files(context)


def test_a_failed_case_expires_when_its_files_go(context: Context) -> None:
    with context.database.transaction() as session:
        case = ready_case(session, "1.1")
        lifecycle.start_computing(session, case, actor="worker")
        lifecycle.fail(session, case, code="work-failed", cause="No.", remedy="Correct it.")
        _age(session, case, 91)
        number = case.id
    assert _tidy(context) == [("files", number)]
    with context.database.transaction() as session:
        assert session.get_one(Case, number).state == CaseState.EXPIRED


def test_what_belongs_to_no_series_goes_after_its_own_time(context: Context) -> None:
    with context.database.transaction() as session:
        for n, days in enumerate((29, 31)):
            path = f"spool/own/{n}.dcm"
            _write(context, path)
            row = Instance(sop_instance_uid=f"2.{n}", series_instance_uid="2", study_instance_uid="2")
            row.sop_class_uid, row.sha256, row.path, row.size = "1", str(n), path, 5
            row.status, row.calling_ae = InstanceStatus.OWN, "PACS"
            row.received_at = utc_now() - timedelta(days=days)
            session.add(row)
    assert _tidy(context) == [("files", 0)]
    assert {file for file in _files(context) if file.startswith("spool")} == {"spool/own/0.dcm"}


def test_a_file_that_is_just_arriving_is_left_alone(context: Context) -> None:
    arriving = _write(context, "spool/new/1.dcm")
    apply_retention(context, dry_run=False)
    assert arriving.exists(), "its row is committed in a moment"


def test_a_received_file_without_a_row_is_kept_as_long_as_loose_objects_and_named(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    """The database may have been restored from a backup that is older than the file."""
    unknown = _write(context, "spool/new/1.dcm")
    _tidy(context)
    assert unknown.exists()
    assert "1 received files have no row" in caplog.text
    apply_retention(context, dry_run=False, now=utc_now() + timedelta(days=31))
    assert not unknown.exists()


def test_the_record_of_accesses_is_kept_as_long_as_the_site_says(context: Context) -> None:
    with context.database.transaction() as session:
        for actor, days in (("old", 401), ("young", 399)):
            at = utc_now() - timedelta(days=days)
            session.add(AccessRecord(at=at, actor=actor, action="view", outcome="shown"))
    assert _tidy(context, dry_run=True) == [("1 accesses", 0)]
    assert _tidy(context) == [("1 accesses", 0)]
    with context.database.transaction() as session:
        assert session.scalars(select(AccessRecord.actor)).all() == ["young"]


def test_tidying_asks_nothing_of_cases_that_have_nothing_left(context: Context) -> None:
    """A department keeps the rows of 100,000 cases whose files are gone."""
    with context.database.transaction() as session:
        for n in range(3):
            _accepted_long_ago(context, session, f"1.1.{n}")
    _tidy(context)
    with recorded(context.database) as few:
        assert _tidy(context) == []
    with context.database.transaction() as session:
        for n in range(12):
            _accepted_long_ago(context, session, f"1.2.{n}")
    _tidy(context)
    with recorded(context.database) as many:
        assert _tidy(context) == []
    assert len(many) == len(few)


def _accepted_long_ago(context: Context, session: Session, series_uid: str) -> None:
    case = _published(context, session, series_uid)
    _accept(session, case)
    _age(session, case, 91)
