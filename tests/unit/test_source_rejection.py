"""Rejection notes about source images stop the case, withdraw its results, and say why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.sr.coding import Code

from dicom_config.model import Verb
from tests.support.cases import candidate_uid, publish_round
from tests.support.intake import context_in, received
from tests.support.selections import instance_header, key_object
from tests.support.series import edit, good_series
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Instance,
    InstanceStatus,
    RejectedInstance,
    Selection,
    SelectionOutcome,
    WorkItem,
    WorkKind,
)
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.notices import pending_notices

S = CaseState
QUALITY, SAFETY, WORKLIST, RETENTION = "113001", "113037", "113038", "113039"


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", database_url) as made:
        yield made


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return good_series(tmp_path / "ct")


def _send(context: Context, paths: Sequence[Path]) -> list[CaseState]:
    inbox = Inbox(context)
    for path in paths:
        inbox.receive(received(path))
    time.sleep(0.02)  # the quiet period of these tests
    assemble(context)
    return _states(context)


def _states(context: Context) -> list[CaseState]:
    with context.database.transaction() as session:
        return [case.state for case in session.query(Case).order_by(Case.id)]


def _note(folder: Path, paths: Sequence[Path], title: str = WORKLIST) -> Path:
    images = [dcmread(path, stop_before_pixels=True) for path in paths]
    path = folder / f"note-{title}-{len(paths)}.dcm"
    key_object(images, Code(title, "DCM", "Rejected")).save_as(path, enforce_file_format=True)
    return path


def _published(context: Context) -> None:
    with context.database.transaction() as session:
        publish_round(session, session.query(Case).one())


def _accepted(context: Context) -> None:
    _published(context)
    with context.database.transaction() as session:
        case = session.query(Case).one()
        said = Selection(case_id=case.id, round_number=1, verb=Verb.ACCEPT, picked=2, mechanism="seg")
        said.outcome = SelectionOutcome.EFFECTIVE
        session.add(said)
        session.flush()
        lifecycle.apply_selection(session, case, said)


def _due(context: Context) -> set[str]:
    with context.database.transaction() as session:
        return {item.kind for item in session.query(WorkItem).filter_by(open=True)}


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST, RETENTION])
def test_a_note_about_all_images_stops_the_case_withdraws_its_results_and_says_why(
    context: Context, paths: list[Path], tmp_path: Path, title: str
) -> None:
    _send(context, paths)
    _published(context)
    assert _send(context, [_note(tmp_path, paths, title)]) == [S.REJECTED]
    assert {WorkKind.WITHDRAW, WorkKind.NOTICES} <= _due(context)
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert case.code == "source-rejected"
        assert not lifecycle.can_be_retried(case)
        (notice,) = pending_notices(session, case, context.settings)
        assert notice.heading == "Segmentation withdrawn"
        assert notice.text.startswith("The archive rejected source images of this series ")
        assert session.query(Instance).filter_by(status=InstanceStatus.NOTE).count() == 1


def test_a_case_that_is_computed_stops_without_anything_to_withdraw(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    _send(context, paths)
    assert _send(context, [_note(tmp_path, paths)]) == [S.REJECTED]
    assert _due(context) == set()


def test_a_note_about_one_slice_lets_the_rest_be_decided_anew(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    _send(context, paths)
    assert _send(context, [_note(tmp_path, paths[-1:])]) == [S.SUPERSEDED, S.READY]
    with context.database.transaction() as session:
        case = session.query(Case).order_by(Case.id.desc()).first()
        assert len(case.instances) == len(paths) - 1


def test_a_note_about_a_slice_in_the_middle_leaves_a_series_that_waits_for_it(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    _send(context, paths)
    assert _send(context, [_note(tmp_path, paths[7:8])]) == [S.REJECTED, S.RECEIVING]
    with context.database.transaction() as session:
        assert session.query(Case).order_by(Case.id.desc()).first().code == "missing-slice"
    edit(paths[7], ImageComments="repaired")
    assert _send(context, paths[7:8])[-1] == S.READY


def test_a_note_before_the_images_rejects_them_when_they_come(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    assert _send(context, [_note(tmp_path, paths)]) == []
    assert _send(context, paths) == [S.REJECTED]
    with context.database.transaction() as session:
        assert session.query(Case).one().code == "source-rejected"


def test_a_note_while_the_series_arrives_rejects_it(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    inbox = Inbox(context)
    for path in [*paths, _note(tmp_path, paths)]:
        inbox.receive(received(path))
    assert _send(context, []) == [S.REJECTED]


def test_corrected_images_open_a_case_after_a_note_and_the_rejected_ones_do_not(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    _send(context, paths)
    _send(context, [_note(tmp_path, paths)])
    assert _send(context, paths)[-1] == S.REJECTED
    for path in paths:
        edit(path, PatientID="RIGHT-1")
    assert _send(context, paths)[-1] == S.READY


@pytest.mark.parametrize(("title", "code"), [(SAFETY, "source-rejected"), (RETENTION, "")])
def test_an_accepted_case_stays_accepted_and_is_withdrawn_unless_retention_ended(
    context: Context, paths: list[Path], tmp_path: Path, title: str, code: str
) -> None:
    _send(context, paths)
    _accepted(context)
    assert _send(context, [_note(tmp_path, paths, title)]) == [S.ACCEPTED]
    with context.database.transaction() as session:
        assert session.query(Case).one().code == code
    assert (WorkKind.WITHDRAW in _due(context)) == bool(code)


def test_a_note_about_our_own_results_starts_and_stops_nothing(
    context: Context, paths: list[Path], tmp_path: Path
) -> None:
    _send(context, paths)
    _published(context)
    with context.database.transaction() as session:
        uid = candidate_uid(session.query(Case).one(), 1, 2)
    note = key_object([instance_header(sop_instance_uid=uid)], Code(QUALITY, "DCM", "Rejected"))
    note.save_as(tmp_path / "own.dcm", enforce_file_format=True)
    assert _send(context, [tmp_path / "own.dcm"]) == [S.AWAITING_SELECTION]
    with context.database.transaction() as session:
        assert session.query(RejectedInstance).count() == 0


def test_the_same_note_again_changes_nothing(context: Context, paths: list[Path], tmp_path: Path) -> None:
    _send(context, paths)
    note = _note(tmp_path, paths[-1:])
    assert _send(context, [note]) == _send(context, [note]) == [S.SUPERSEDED, S.READY]
