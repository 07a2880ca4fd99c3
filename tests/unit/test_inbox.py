"""From received instances to cases: filing, duplicates, quarantine, assembly, late slices, lost databases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_config.errors import InputError, TransientError
from dicom_config.model import Verb
from tests.support.cases import candidate_uid, publish_round
from tests.support.intake import context_in, received
from tests.support.peers import Postgres
from tests.support.selections import instance_header, key_object
from tests.support.series import edit, good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.intake.assembly import assemble, series_digest
from uair_node.intake.inbox import Inbox
from uair_node.network.store_status import StoreStatus, store_status


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", database_url) as made:
        yield made


@pytest.fixture
def inbox(context: Context) -> Inbox:
    return Inbox(context)


def _receive(inbox: Inbox, paths: list[Path]) -> None:
    for path in paths:
        inbox.receive(received(path))


def _assemble(context: Context) -> int:
    time.sleep(0.02)  # the quiet period of these tests
    return assemble(context)


def _states(context: Context) -> list[CaseState]:
    with context.database.transaction() as session:
        return [case.state for case in session.query(Case).order_by(Case.id)]


def _statuses(context: Context) -> list[InstanceStatus]:
    with context.database.transaction() as session:
        return [instance.status for instance in session.query(Instance).order_by(Instance.id)]


def test_a_whole_series_becomes_one_ready_case(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct", accession_number="ACC7")
    _receive(inbox, list(reversed(paths)))
    assert _states(context) == [CaseState.RECEIVING]
    assert _assemble(context) == 1
    with context.database.transaction() as session:
        (case,) = session.query(Case)
        assert (case.state, case.instance_count, case.accession_number) == (CaseState.READY, 16, "ACC7")
        assert len(case.digest) == 64
        for instance in case.instances:
            assert context.store.absolute(instance.path).is_file()
    assert _assemble(context) == 0, "decided once"


def test_a_series_that_cannot_be_read_now_stops_no_other(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    _receive(inbox, good_series(tmp_path / "ct"))
    _receive(inbox, good_series(tmp_path / "other"))
    with context.database.transaction() as session:
        first = session.query(Instance).order_by(Instance.id).first()
        assert first is not None
        place = context.store.absolute(first.path)
    away = place.rename(tmp_path / "away")
    assert _assemble(context) == 1
    assert _states(context) == [CaseState.RECEIVING, CaseState.READY]
    away.rename(place)
    assert _assemble(context) == 1
    assert _states(context) == [CaseState.READY, CaseState.READY]


def test_the_digest_is_of_contents_not_of_the_order_of_arrival(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    _receive(inbox, good_series(tmp_path / "ct"))
    with context.database.transaction() as session:
        instances = session.query(Instance).all()
        digest = series_digest(instances)
        assert series_digest(instances[::-1]) == digest
        assert series_digest(instances[:-1]) != digest


def test_the_same_bytes_again_change_nothing(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    _receive(inbox, paths)
    _assemble(context)
    _receive(inbox, paths)
    assert _states(context) == [CaseState.READY]
    assert len(_statuses(context)) == len(paths)


def test_other_bytes_under_a_known_uid_are_a_new_version_and_both_are_kept(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    paths = good_series(tmp_path / "ct")
    _receive(inbox, paths)
    kept = {path.read_bytes() for path in (tmp_path / "data" / "spool").rglob("*.dcm")}
    edit(paths[3], ImageComments="changed")
    _receive(inbox, [paths[3]])
    assert _statuses(context).count(InstanceStatus.REPLACED) == 1
    files = {path.read_bytes() for path in (tmp_path / "data" / "spool").rglob("*.dcm")}
    assert kept < files, "nothing that was acknowledged is overwritten"
    _assemble(context)
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert case.instance_count == len(paths)
        assert paths[3].read_bytes() in {
            context.store.absolute(instance.path).read_bytes() for instance in case.instances
        }


def test_a_late_slice_supersedes(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    _receive(inbox, paths[:-1])
    _assemble(context)
    _receive(inbox, paths[-1:])
    assert _states(context) == [CaseState.READY, CaseState.RECEIVING]
    _assemble(context)
    assert _states(context) == [CaseState.SUPERSEDED, CaseState.READY]
    with context.database.transaction() as session:
        older, newer = session.query(Case).order_by(Case.id)
        assert (len(older.instances), len(newer.instances)) == (15, 16)
        assert older.digest != newer.digest


def test_a_series_that_stays_broken_is_rejected_after_the_wait(database_url: str, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    intake = {"quiet_s": 0.01, "max_wait_s": 600, "min_free_bytes": 0}
    with context_in(tmp_path / "data", database_url, intake=intake) as context:
        _receive(Inbox(context), [*paths[:6], *paths[7:]])
        assert _assemble(context) == 0
        with context.database.transaction() as session:
            case = session.query(Case).one()
            assert case.code == "missing-slice", "shown while it is waited for"
            case.last_instance_at -= timedelta(seconds=600)
        assert _assemble(context) == 1
        assert _states(context) == [CaseState.REJECTED]


def test_a_damaged_spool_rejects_the_case_and_the_sweep_goes_on(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    _receive(inbox, good_series(tmp_path / "ct"))
    next((tmp_path / "data" / "spool").rglob("*.dcm")).write_bytes(b"overwritten by somebody")
    _assemble(context)
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert (case.state, case.code) == (CaseState.REJECTED, "not-dicom")


@pytest.mark.parametrize("data", [b"", b"no DICOM at all", b"\0" * 128 + b"DICM" + b"\xff" * 50])
def test_what_cannot_be_filed_is_an_input_error(inbox: Inbox, tmp_path: Path, data: bytes) -> None:
    good = received(good_series(tmp_path / "ct")[0])
    with pytest.raises(InputError) as caught:
        inbox.receive(replace(good, data=data))
    assert caught.value.code == "unreadable-instance"


def test_a_request_that_disagrees_with_its_data_set_is_refused(inbox: Inbox, tmp_path: Path) -> None:
    first, second = (received(path) for path in good_series(tmp_path / "ct")[:2])
    with pytest.raises(InputError) as caught:
        inbox.receive(replace(first, data=second.data))
    assert caught.value.code == "sop-class-mismatch"


def test_own_objects_on_the_store_ae_start_nothing(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    _receive(inbox, paths)
    _assemble(context)
    with context.database.transaction() as session:
        case = session.query(Case).one()
        publish_round(session, case)
        uid = candidate_uid(case, 1, 2)
    own = tmp_path / "own.dcm"
    seg = dcmread(paths[0])
    seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = uid
    seg.save_as(own)
    _receive(inbox, [own])
    assert _statuses(context)[-1] == InstanceStatus.OWN
    assert _states(context) == [CaseState.AWAITING_SELECTION]


def test_an_unreadable_selection_is_recorded(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    document = key_object([instance_header()])
    path = tmp_path / "key.dcm"
    document.save_as(path, enforce_file_format=True)
    inbox.receive(received(path, Verb.PICK, "VIEWER"))
    inbox.receive(received(good_series(tmp_path / "ct")[0], Verb.ACCEPT, "VIEWER"))
    with context.database.transaction() as session:
        rows = session.query(Selection).order_by(Selection.id).all()
        assert [(row.outcome, row.code, row.calling_ae) for row in rows] == [
            (SelectionOutcome.REFUSED, "unknown-reference", "VIEWER"),
            (SelectionOutcome.REFUSED, "selection-not-supported", "VIEWER"),
        ]
    assert _states(context) == []


def test_nesting_without_end_is_an_input_error(context: Context, inbox: Inbox, tmp_path: Path) -> None:
    path = tmp_path / "key.dcm"
    key_object([instance_header()]).save_as(path, enforce_file_format=True)
    good = received(path, Verb.PICK, "VIEWER")
    # Sequences of undefined length, one in the other, deeper than any parser's stack.
    item = b"\x40\x00\x30\xa7SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(InputError) as caught:
        inbox.receive(replace(good, data=good.data + item * 5000))
    assert caught.value.code == "instance-too-complex"
    assert _statuses(context) == []


@pytest.mark.integration
def test_without_a_free_connection_nothing_is_acknowledged_and_the_sender_tries_again(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uair_node.cases.database.POOL_WAIT_S", 0.05)
    path = good_series(tmp_path / "ct")[0]
    with context_in(tmp_path / "data", database_url) as context, ExitStack() as busy:
        inbox = Inbox(context)
        pool = context.database.engine.pool
        for _ in range(pool.size() + pool._max_overflow):
            busy.enter_context(context.database.engine.connect())
        with pytest.raises(TransientError) as caught:
            inbox.receive(received(path))
        assert caught.value.code == "database-unavailable"
        assert store_status(caught.value) == StoreStatus.PROCESSING_FAILURE
        busy.close()
        inbox.receive(received(path))
        with context.database.transaction() as session:
            assert session.query(Instance).count() == 1


def test_the_row_of_a_lost_file_names_the_one_that_came_again(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    """Earlier versions gave files shorter names."""
    path = good_series(tmp_path / "ct")[0]
    inbox.receive(received(path))
    with context.database.transaction() as session:
        row = session.query(Instance).one()
        before = context.store.absolute(row.path)
        shorter = before.rename(before.with_name("shorter.dcm"))
        row.path = context.store.relative(shorter)
    inbox.receive(received(path))
    assert _path(context) == shorter, "a file that is there stays"
    shorter.unlink()
    inbox.receive(received(path))
    assert _path(context) == before
    assert before.read_bytes() == path.read_bytes()


def _path(context: Context) -> Path:
    with context.database.transaction() as session:
        return context.store.absolute(session.query(Instance.path).scalar())


def test_without_the_database_nothing_is_acknowledged(postgres: Postgres, tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    with postgres.database() as url, context_in(tmp_path / "data", url) as context:
        inbox = Inbox(context)
        with postgres.stopped(), pytest.raises(TransientError) as caught:
            inbox.receive(received(paths[0]))
        assert caught.value.code == "database-unavailable"
        _receive(inbox, paths)
        assert len(_statuses(context)) == len(paths)


def test_the_same_selection_over_two_associations_is_taken_twice(
    context: Context, inbox: Inbox, tmp_path: Path
) -> None:
    path = tmp_path / "seg.dcm"
    for _ in range(10):
        segmentation = instance_header()
        segmentation.file_meta = FileMetaDataset()
        segmentation.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        segmentation.save_as(path, enforce_file_format=True)
        sent = received(path, Verb.PICK, "VIEWER")
        with ThreadPoolExecutor(2) as pool:
            for answer in [pool.submit(inbox.receive, sent) for _ in range(2)]:
                answer.result()  # raises what the listener would have answered
    with context.database.transaction() as session:
        assert session.query(Selection).count() == 20
        assert session.query(Instance).count() == 10
