"""An edited SEG on a verb AE: matched to its round, read, kept; refused at once where it cannot be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_config.model import Verb
from tests.support.intake import received
from tests.support.series import good_series
from tests.support.waiting import VIEWER, waiting_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Result,
    ResultKind,
    Selection,
    SelectionOutcome,
    WorkItem,
    WorkKind,
)
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import Tracking, write_seg
from uair_node.selection.partial_edits import answer_with_parts
from uair_node.storage.artifacts import StoredCandidate, load_candidates
from uair_node.work.performer import perform
from workers.demo.reader import read_offer
from workers.measure.accepted import finish_measured

SHAPE = (16, 24, 20)


def _box(grow: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:12, 5 : 12 + grow, 4:14] = 1
    return labels


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_series(good_series(tmp_path / "ct"))


@pytest.fixture
def context(tmp_path: Path, volume: Volume) -> Iterator[Context]:
    """A case that waits for a reader, with four candidates of growing size."""
    candidates = [StoredCandidate(k, _box(k), "") for k in (1, 2, 3, 4)]
    with waiting_case(tmp_path, volume, candidates) as made:
        yield made


def _send(context: Context, path: Path, verb: Verb) -> Selection:
    Inbox(context).receive(received(path, verb, "VIEWER"))
    with context.database.transaction() as session:
        return session.query(Selection).order_by(Selection.id.desc()).first()


def _edited(volume: Volume, folder: Path, labels: np.ndarray) -> Path:
    path = folder / "edited.dcm"
    save_durably(write_seg(volume, labels, VIEWER), path)
    return path


def test_an_edit_answers_its_round_and_is_kept(context: Context, volume: Volume, tmp_path: Path) -> None:
    drawn = _box(3)
    drawn[10, 5:9, 4:9] = 0
    row = _send(context, _edited(volume, tmp_path, drawn), Verb.PICK)
    assert (row.outcome, row.mechanism, row.picked) == (SelectionOutcome.EFFECTIVE, "edited-seg", 3)
    (kept,) = load_candidates(context.store.absolute(row.artifact))
    assert (kept.labels == drawn).all()
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert (case.state, case.current_round.number) == (CaseState.REFINING, 2)


def test_lesions_that_were_sent_alone_keep_the_candidates_liver(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[6:8, 7:9, 6:9] = 2
    tracking = {1: Tracking("lesion 1", "2.25.7")}
    path = tmp_path / "edited.dcm"
    save_durably(write_seg(volume, lesion, replace(VIEWER, tracking=tracking)), path)
    assert _send(context, path, Verb.PICK).outcome == SelectionOutcome.HELD
    time.sleep(0.02)
    assert answer_with_parts(context) == 1
    with context.database.transaction() as session:
        row = session.query(Selection).one()
    assert row.outcome == SelectionOutcome.EFFECTIVE
    (kept,) = load_candidates(context.store.absolute(row.artifact))
    assert ((kept.labels > 1) == (lesion > 1)).all()
    assert ((kept.labels > 0) == (_box(row.picked) > 0)).all()


def test_an_accepted_edit_ends_the_case_with_what_was_sent(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    row = _send(context, _edited(volume, tmp_path, _box(6)), Verb.ACCEPT)
    assert row.picked == 4, "filed under the candidate that it is most like"
    with context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.ACCEPTED


def test_the_same_edit_again_changes_nothing(context: Context, volume: Volume, tmp_path: Path) -> None:
    path = _edited(volume, tmp_path, _box(3))
    assert _send(context, path, Verb.ACCEPT).outcome == SelectionOutcome.EFFECTIVE
    again = _send(context, path, Verb.ACCEPT)
    assert (again.outcome, again.picked) == (SelectionOutcome.REPEATED, 3)


def test_an_edit_without_voxels_is_refused_at_once(context: Context, volume: Volume, tmp_path: Path) -> None:
    path = _edited(volume, tmp_path, _box(3))
    seg = dcmread(path)
    seg.PixelData = bytes(len(seg.PixelData))
    seg.save_as(path)
    row = _send(context, path, Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "edited-empty")
    with context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.AWAITING_SELECTION
        assert row.case_id == session.query(Case).one().id


def test_an_edit_on_other_images_is_unknown(context: Context, tmp_path: Path) -> None:
    other = read_series(good_series(tmp_path / "other"))
    row = _send(context, _edited(other, tmp_path, _box(3)), Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "unknown-reference")


def test_the_final_object_holds_the_accepted_edit(context: Context, volume: Volume, tmp_path: Path) -> None:
    drawn = _box(5)
    drawn[4, 6, 5] = 0
    _send(context, _edited(volume, tmp_path, drawn), Verb.ACCEPT)
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.FINISH).one().id
    assert perform(context, item_id, lambda claim: finish_measured(context, claim))
    with context.database.transaction() as session:
        results = {
            result.kind: result
            for result in session.query(Result).filter(Result.kind != ResultKind.CANDIDATE)
        }
        assert set(results) == {ResultKind.FINAL, ResultKind.REPORT, ResultKind.FINAL_PAGE}
        path = context.store.absolute(results[ResultKind.FINAL].path)
    assert (read_offer(path, volume) == drawn).all()


@pytest.mark.parametrize("state", [CaseState.AWAITING_SELECTION, CaseState.ACCEPTED])
def test_an_edit_answers_the_case_of_its_series_where_another_series_shares_its_images(
    context: Context, volume: Volume, tmp_path: Path, state: CaseState
) -> None:
    with context.database.transaction() as session:
        case = session.query(Case).one()
        number, case.state = case.id, state
        twin = Case(series_instance_uid="2.25.4712", study_instance_uid=case.study_instance_uid)
        twin.state, twin.instances = CaseState.AWAITING_SELECTION, list(case.instances)
        session.add(twin)
    row = _send(context, _edited(volume, tmp_path, _box(3)), Verb.PICK)
    if state == CaseState.ACCEPTED:
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "case-closed")
        assert "is accepted" in row.sentence
    else:
        assert (row.outcome, row.case_id) == (SelectionOutcome.EFFECTIVE, number)
