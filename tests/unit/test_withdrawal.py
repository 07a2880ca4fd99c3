"""Objects that a superseded case sent are withdrawn, also when retention has deleted the case's files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_config.errors import InputError
from tests.support.cases import candidate_uid, publish_round
from tests.support.intake import context_in, received
from tests.support.series import edit_all, good_series
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Delivery,
    DeliveryState,
    Result,
    ResultKind,
    WorkItem,
    WorkKind,
    utc_now,
)
from uair_node.context import Context
from uair_node.dicom.readers import read_selection
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.results.withdrawal import withdraw
from uair_node.work.performer import perform

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
CANDIDATES = {f"2.25.1.1.{k}" for k in (1, 2, 3, 4)}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return good_series(tmp_path / "ct")


@pytest.fixture
def context(database_url: str, tmp_path: Path, paths: list[Path]) -> Iterator[Context]:
    """An expired case whose candidates an archive has and whose files retention has deleted."""
    sections = {"retention": {"expired": {"files_days": 1}}, "destinations": [{**PACS, "withdraw": True}]}
    with context_in(tmp_path / "data", database_url, **sections) as made:
        _send(made, paths)
        with made.database.transaction() as session:
            case = session.query(Case).one()
            publish_round(session, case, ["pacs"])
            assert candidate_uid(case, 1, 1) in CANDIDATES
            for row in session.query(Delivery):
                row.state = DeliveryState.CONFIRMED
            lifecycle.expire(session, case, actor="admin", reason="nobody answered")
        _tidy(made)
        with made.database.transaction() as session:
            assert session.query(Case).one().instances == []
        yield made


def _send(context: Context, paths: Sequence[Path]) -> None:
    inbox = Inbox(context)
    for path in paths:
        inbox.receive(received(path))
    time.sleep(0.02)  # the quiet period of these tests
    assemble(context)


def _tidy(context: Context) -> None:
    apply_retention(context, dry_run=False, now=utc_now() + timedelta(days=2))


def _withdraw(context: Context) -> tuple[Case, list[Dataset]]:
    """Do the withdrawal that is due; return the older case and its notes."""
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.WITHDRAW, open=True).one().id
    assert perform(context, item_id, partial(withdraw, context))
    with context.database.transaction() as session:
        assert not session.get_one(WorkItem, item_id).open
        case = session.query(Case).order_by(Case.id).all()[0]
        assert case.state == CaseState.SUPERSEDED
        notes = session.query(Result).filter_by(kind=ResultKind.WITHDRAWAL).all()
        session.expunge_all()
    return case, [dcmread(context.store.absolute(note.path)) for note in notes]


def test_after_retention_the_note_takes_patient_and_study_from_the_newer_case(
    context: Context, paths: list[Path]
) -> None:
    _send(context, paths)
    case, (note,) = _withdraw(context)
    assert case.code == "superseded"
    assert set(read_selection(note).references) == CANDIDATES
    source = dcmread(paths[0])
    assert (note.PatientID, note.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    with context.database.transaction() as session:
        due = session.query(Delivery).filter_by(destination="pacs", state=DeliveryState.PENDING).one()
        assert due.result.kind == ResultKind.WITHDRAWAL
        assert due.result.path.startswith("artifacts/case-000001/round-01.")


@pytest.mark.parametrize("corrected", [{"PatientID": "RIGHT-1"}, {"StudyInstanceUID": "2.25.4711"}])
def test_after_retention_another_patient_or_study_makes_no_note_and_the_case_says_so(
    context: Context, paths: list[Path], corrected: dict[str, str]
) -> None:
    _send(context, edit_all(paths, **corrected))
    case, notes = _withdraw(context)
    assert notes == []
    assert case.code == "not-withdrawn"
    assert case.sentence.startswith("More or newer slices of this series arrived; case 2 replaces this case.")
    assert "uair case show 1 --json" in case.remedy
    with context.database.transaction() as session, pytest.raises(InputError) as refused:
        lifecycle.retry(session, session.get_one(Case, case.id), actor="admin")
    assert refused.value.code == "nothing-to-retry"


def test_where_no_destination_wants_notes_nothing_is_left_undone(context: Context, paths: list[Path]) -> None:
    settings = context.settings.model_copy(update={"destinations": ()})
    _send(context, edit_all(paths, PatientID="RIGHT-1"))
    case, notes = _withdraw(Context(settings, context.database, context.store))
    assert (case.code, notes) == ("superseded", [])


def test_retention_deletes_the_note_of_a_case_without_other_files(
    context: Context, paths: list[Path]
) -> None:
    settings = context.settings.retention.model_copy(
        update={"superseded": context.settings.retention.expired}
    )
    later = Context(
        context.settings.model_copy(update={"retention": settings}), context.database, context.store
    )
    _send(context, paths)
    _withdraw(context)
    with context.database.transaction() as session:
        session.query(Delivery).update({"state": DeliveryState.CONFIRMED})
        lifecycle.cancel(session, session.get_one(Case, 2), actor="admin")
    _tidy(later)
    with context.database.transaction() as session:
        assert {result.path for result in session.query(Result)} == {""}
