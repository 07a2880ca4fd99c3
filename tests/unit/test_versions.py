"""Versions of an instance: each series that comes again ends as a case or a code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from sqlalchemy import text

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.cases import publish_round
from tests.support.intake import context_in, received
from tests.support.ports import wait_until
from tests.support.series import edit, good_series
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Instance,
    InstanceStatus,
    Selection,
    SelectionOutcome,
    WorkItem,
    utc_now,
)
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.operations.housekeeping.retention import apply_retention

S = CaseState


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context]:
    retention = {"expired": {"files_days": 1}, "rejected": {"files_days": 1}, "loose_days": 1}
    with context_in(tmp_path / "data", database_url, retention=retention) as made:
        yield made


@pytest.fixture
def inbox(context: Context) -> Inbox:
    return Inbox(context)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return good_series(tmp_path / "ct")


def _send(context: Context, inbox: Inbox, paths: Sequence[Path], verb: Verb = Verb.STORE) -> list[CaseState]:
    for path in paths:
        inbox.receive(received(path, verb))
    time.sleep(0.02)  # the quiet period of these tests
    assemble(context)
    with context.database.transaction() as session:
        return [case.state for case in session.query(Case).order_by(Case.id)]


def _edit_all(paths: Sequence[Path], **changes: object) -> None:
    for path in paths:
        edit(path, **changes)


def _bring_to(context: Context, state: CaseState) -> None:
    """Bring the one case from READY to a state, through the life cycle."""
    with context.database.transaction() as session:
        case = session.query(Case).one()
        if state in (S.READY, S.SUPERSEDED):
            return
        lifecycle.start_computing(session, case, actor="worker")
        if state == S.FAILED:
            lifecycle.fail(session, case, code="engine", cause="It broke.", remedy="Retry.")
        elif state == S.REJECTED:
            lifecycle.reject_input(
                session, case, InputError("undecodable", "It cannot be decoded.", "Repair.")
            )
        elif state != S.SEGMENTING:
            publish_round(session, case)
            case.rounds[0].artifacts = ""
        if state == S.EXPIRED:
            lifecycle.expire(session, case, actor="admin", reason="nobody answered")
        if state in (S.REFINING, S.ACCEPTED):
            verb = Verb.ACCEPT if state == S.ACCEPTED else Verb.PICK
            said = Selection(case_id=case.id, round_number=1, verb=verb, picked=2, mechanism="seg")
            said.outcome = SelectionOutcome.EFFECTIVE
            session.add(said)
            session.flush()
            lifecycle.apply_selection(session, case, said)
        session.flush()
        assert case.state == state


HOLDING = [S.READY, S.SEGMENTING, S.AWAITING_SELECTION, S.REFINING, S.ACCEPTED]
LETTING_GO = [S.EXPIRED, S.FAILED, S.REJECTED]


@pytest.mark.parametrize("state", HOLDING)
def test_equal_bytes_are_a_repetition_while_a_case_holds_them(
    context: Context, inbox: Inbox, paths: list[Path], state: CaseState
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, state)
    assert _send(context, inbox, paths) == [state]


@pytest.mark.parametrize("state", LETTING_GO)
def test_equal_bytes_open_a_case_when_none_holds_them(
    context: Context, inbox: Inbox, paths: list[Path], state: CaseState
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, state)
    assert _send(context, inbox, paths) == [S.SUPERSEDED, S.READY]
    with context.database.transaction() as session:
        assert session.query(Case).order_by(Case.id.desc()).first().instance_count == 16
        assert session.query(Instance).count() == 16


@pytest.mark.parametrize("state", [*HOLDING, *LETTING_GO])
def test_a_corrected_patient_is_a_new_version_in_every_state(
    context: Context, inbox: Inbox, paths: list[Path], state: CaseState
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, state)
    _edit_all(paths, PatientID="RIGHT-1")
    older = S.ACCEPTED if state == S.ACCEPTED else S.SUPERSEDED
    assert _send(context, inbox, paths) == [older, S.READY]
    with context.database.transaction() as session:
        first, second = session.query(Case).order_by(Case.id)
        assert first.patient_key != second.patient_key
        assert second.digest not in ("", first.digest)
        assert {
            dcmread(context.store.absolute(instance.path)).PatientID for instance in second.instances
        } == {"RIGHT-1"}
        withdrawn = session.query(WorkItem).filter_by(case_id=first.id, kind="withdraw").count()
        assert withdrawn == (state in (S.AWAITING_SELECTION, S.REFINING, S.EXPIRED))


_CORRECTIONS = {
    "patient": ("mixed-patient", {"PatientID": "RIGHT-1"}),
    "study": ("mixed-patient", {"StudyInstanceUID": "2.25.4711"}),
    "kernel": ("several-acquisitions", {"ConvolutionKernel": "Br44"}),
    "kvp": ("several-acquisitions", {"KVP": "120"}),
    "frame-of-reference": ("mixed-frame-of-reference", {"FrameOfReferenceUID": "2.25.4712"}),
}


@pytest.mark.parametrize(("code", "changes"), _CORRECTIONS.values(), ids=_CORRECTIONS)
def test_a_correction_sent_with_pauses_is_not_refused_in_between(
    context: Context, inbox: Inbox, paths: list[Path], code: str, changes: dict[str, object]
) -> None:
    _edit_all(paths, ConvolutionKernel="Br40", KVP="100")
    _send(context, inbox, paths)
    _edit_all(paths, **changes)
    for part in (paths[:1], paths[1:7], paths[7:15]):
        assert _send(context, inbox, part) == [S.READY, S.RECEIVING]
        with context.database.transaction() as session:
            waiting = session.query(Case).order_by(Case.id.desc()).first()
            assert (waiting.code, waiting.remedy) == (code, "Waiting for more slices.")
    assert _send(context, inbox, paths[15:]) == [S.SUPERSEDED, S.READY]
    with context.database.transaction() as session:
        case = session.query(Case).order_by(Case.id.desc()).first()
        assert (case.code, case.instance_count) == ("", 16)


def test_a_correction_that_stays_half_is_refused_after_the_wait_and_leaves_the_case(
    database_url: str, tmp_path: Path, paths: list[Path]
) -> None:
    intake = {"quiet_s": 0.01, "max_wait_s": 0.01, "min_free_bytes": 0}
    with context_in(tmp_path / "data", database_url, intake=intake) as context:
        inbox = Inbox(context)
        _send(context, inbox, paths)
        _edit_all(paths, PatientID="RIGHT-1")
        assert _send(context, inbox, paths[:5]) == [S.READY, S.REJECTED]
        with context.database.transaction() as session:
            assert session.query(Case).order_by(Case.id.desc()).first().code == "mixed-patient"
        assert _send(context, inbox, paths[5:]) == [S.SUPERSEDED, S.SUPERSEDED, S.READY]


def test_a_repaired_slice_opens_a_case_of_the_newest_versions(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    whole = paths[10].read_bytes()
    edit(paths[10], PixelData=dcmread(paths[10]).PixelData[:100])
    _send(context, inbox, paths)
    paths[10].write_bytes(whole)
    assert _send(context, inbox, paths)[-1] == S.READY
    with context.database.transaction() as session:
        case = session.query(Case).order_by(Case.id.desc()).first()
        assert case.instance_count == 16
        assert whole in {context.store.absolute(instance.path).read_bytes() for instance in case.instances}


def test_a_series_encoded_anew_supersedes(context: Context, inbox: Inbox, paths: list[Path]) -> None:
    _send(context, inbox, paths)
    for path in paths:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    assert _send(context, inbox, paths) == [S.SUPERSEDED, S.READY]


def test_a_series_in_an_unknown_syntax_is_rejected_and_opens_a_case_when_it_comes_decoded(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
        dataset.PixelData = encapsulate([dataset.PixelData])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    assert _send(context, inbox, paths) == [S.REJECTED]
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert case.code == "undecodable-pixels"
        assert "MPEG-4 AVC/H.264 High Profile" in case.sentence
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    assert _send(context, inbox, paths) == [S.SUPERSEDED, S.READY]


def test_a_merged_study_opens_a_case_in_the_study_that_remains(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _edit_all(paths, StudyInstanceUID="2.25.4711")
    assert _send(context, inbox, paths) == [S.SUPERSEDED, S.READY]
    with context.database.transaction() as session:
        assert [case.study_instance_uid == "2.25.4711" for case in session.query(Case).order_by(Case.id)] == [
            False,
            True,
        ]


def test_one_instance_uid_in_two_series_makes_a_case_of_each(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _edit_all(paths, SeriesInstanceUID="2.25.4712")
    assert _send(context, inbox, paths) == [S.READY, S.READY]
    with context.database.transaction() as session:
        assert [len(case.instances) for case in session.query(Case)] == [16, 16]


def test_a_damaged_new_version_leaves_the_living_case(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _edit_all(paths[:1], Rows=7)
    first, second = _send(context, inbox, paths[:1])
    assert (first, second) == (S.READY, S.REJECTED)


def test_the_first_version_again_is_the_newest_one(context: Context, inbox: Inbox, paths: list[Path]) -> None:
    first = [path.read_bytes() for path in paths]
    _send(context, inbox, paths)
    _edit_all(paths, PatientID="WRONG")
    _send(context, inbox, paths)
    for path, content in zip(paths, first, strict=True):
        path.write_bytes(content)
    assert _send(context, inbox, paths) == [S.SUPERSEDED, S.SUPERSEDED, S.READY]
    with context.database.transaction() as session:
        case_1, case_2, case_3 = session.query(Case).order_by(Case.id)
        assert (case_1.digest == case_3.digest, case_2.digest == case_3.digest) == (True, False)


def test_slices_sent_to_a_verb_by_mistake_open_a_case_when_they_are_stored(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    assert _send(context, inbox, paths, Verb.PICK) == []
    assert _send(context, inbox, paths) == [S.READY]


def test_a_series_sent_again_after_retention_is_segmented_again(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, S.EXPIRED)
    apply_retention(context, dry_run=False, now=utc_now() + timedelta(days=2))
    with context.database.transaction() as session:
        assert session.query(Instance).count() == 0
    assert _send(context, inbox, paths)[-1] == S.READY


def test_retention_keeps_an_earlier_version_that_a_case_is_made_of(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, S.ACCEPTED)
    _edit_all(paths, PatientID="RIGHT-1")
    _send(context, inbox, paths)
    apply_retention(context, dry_run=False, now=utc_now() + timedelta(days=9))
    with context.database.transaction() as session:
        assert session.query(Instance).filter_by(status=InstanceStatus.REPLACED).count() == 16
        assert all(context.store.absolute(instance.path).is_file() for instance in session.query(Instance))


def test_retention_deletes_nothing_that_was_answered_meanwhile(
    context: Context, inbox: Inbox, paths: list[Path]
) -> None:
    _send(context, inbox, paths)
    _bring_to(context, S.EXPIRED)
    later = utc_now() + timedelta(days=2)
    with ThreadPoolExecutor(1) as pool:
        with context.database.transaction() as session:  # as an arrival does: lock what is known, open a case
            first = session.query(Instance).order_by(Instance.id).with_for_update().all()[0]
            series, study = first.series_instance_uid, first.study_instance_uid
            lifecycle.open_case(session, series_uid=series, study_uid=study, calling_ae="ROUTER")
            tidied = pool.submit(apply_retention, context, dry_run=False, now=later)
            if context.database.engine.dialect.name == "postgresql":
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                wait_until(lambda: bool(session.scalar(waiting)), "retention to wait", 10)
        tidied.result(30)
    with context.database.transaction() as session:
        assert session.query(Instance).count() == 16
    assert all(context.store.absolute(instance.path).is_file() for instance in _instances(context))


def _instances(context: Context) -> list[Instance]:
    with context.database.transaction() as session:
        return session.query(Instance).all()
