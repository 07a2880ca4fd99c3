"""A UID is not content: what a viewer saves under a known UID is judged by its pixels and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from dicom_config.model import Verb
from tests.support.cases import publish_round
from tests.support.intake import received
from tests.support.series import good_series
from tests.support.waiting import VIEWER, waiting_case
from uair_node.cases.tables import Case, Result, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.results.result_writer import save_durably
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.results.seg import write_seg
from uair_node.storage.artifacts import StoredCandidate, load_candidates, save_candidates

SHAPE = (16, 24, 20)


def _box(grow: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:12, 5 : 12 + grow, 4:14] = 1
    return labels


CANDIDATES = [StoredCandidate(k, _box(k), "") for k in (1, 2, 3, 4)]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_series(good_series(tmp_path / "ct"))


@pytest.fixture
def context(tmp_path: Path, volume: Volume) -> Iterator[Context]:
    with waiting_case(tmp_path, volume, CANDIDATES) as made:
        with made.database.transaction() as session:
            for result in session.query(Result):
                path = made.store.absolute(result.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                request = replace(VIEWER, k=result.k, sop_instance_uid=result.sop_instance_uid)
                save_durably(write_seg(volume, _box(result.k), request), path)
        yield made


def _candidate(context: Context, k: int) -> Path:
    with context.database.transaction() as session:
        return context.store.absolute(session.query(Result).filter_by(k=k).first().path)


def _send(context: Context, path: Path, verb: Verb = Verb.PICK) -> Selection:
    Inbox(context).receive(received(path, verb, "VIEWER"))
    with context.database.transaction() as session:
        return session.query(Selection).order_by(Selection.id.desc()).first()


def _saved(volume: Volume, path: Path, labels: np.ndarray, uid: str) -> Path:
    save_durably(write_seg(volume, labels, replace(VIEWER, sop_instance_uid=uid)), path)
    return path


def _drawn() -> np.ndarray:
    labels = _box(2)
    labels[10, 5:9, 4:9] = 0
    return labels


def test_the_candidate_as_it_was_sent_is_a_pick(context: Context) -> None:
    row = _send(context, _candidate(context, 2))
    assert (row.outcome, row.mechanism, row.picked, row.artifact) == (
        SelectionOutcome.EFFECTIVE,
        "seg",
        2,
        "",
    )


def test_a_candidate_that_the_archive_rewrote_is_still_an_unchanged_pick(
    context: Context, tmp_path: Path
) -> None:
    dataset = dcmread(_candidate(context, 3))
    dataset.private_block(0x0099, "ARCHIVE", create=True).add_new(1, "LO", "seen")
    dataset.SeriesDescription, dataset.InstitutionName = "Renamed by the archive", "Elsewhere"
    dataset.PixelData = dataset.PixelData + b"\0\0"  # padding
    dataset.save_as(tmp_path / "rewritten.dcm")
    row = _send(context, tmp_path / "rewritten.dcm")
    assert (row.outcome, row.mechanism, row.picked, row.artifact) == (
        SelectionOutcome.EFFECTIVE,
        "seg",
        3,
        "",
    )


def test_a_candidate_encoded_anew_with_its_frames_in_another_order_is_still_an_unchanged_pick(
    context: Context, tmp_path: Path
) -> None:
    dataset = dcmread(_candidate(context, 3))
    frames = dataset.pixel_array[::-1]
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[::-1]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.compress(RLELossless, np.ascontiguousarray(frames), generate_instance_uid=False)
    dataset.save_as(tmp_path / "rle.dcm")
    row = _send(context, tmp_path / "rle.dcm")
    assert (row.outcome, row.mechanism, row.picked, row.artifact) == (
        SelectionOutcome.EFFECTIVE,
        "seg",
        3,
        "",
    )


@pytest.mark.parametrize("verb", [Verb.PICK, Verb.ACCEPT])
def test_an_edit_under_the_candidates_own_uid_is_an_edit(
    context: Context, volume: Volume, tmp_path: Path, verb: Verb
) -> None:
    uid = str(dcmread(_candidate(context, 2)).SOPInstanceUID)
    row = _send(context, _saved(volume, tmp_path / "edit.dcm", _drawn(), uid), verb)
    assert (row.outcome, row.mechanism, row.picked) == (SelectionOutcome.EFFECTIVE, "edited-seg", 2)
    (kept,) = load_candidates(context.store.absolute(row.artifact))
    assert (kept.labels == _drawn()).all()


def test_an_edit_under_a_candidates_uid_that_draws_another_candidate_is_a_pick_of_that(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    uid = str(dcmread(_candidate(context, 2)).SOPInstanceUID)
    row = _send(context, _saved(volume, tmp_path / "edit.dcm", _box(4), uid))
    assert (row.outcome, row.picked, row.artifact) == (SelectionOutcome.EFFECTIVE, 4, "")


def test_a_second_save_under_one_uid_answers_the_next_round(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    first = _send(context, _saved(volume, tmp_path / "1.dcm", _drawn(), "2.25.900"))
    with context.database.transaction() as session:
        case = session.query(Case).one()
        publish_round(session, case)
        folder = context.store.round_folder(case.id, 2, "made")
        case.current_round.artifacts = context.store.relative(folder)
    save_candidates(folder / CANDIDATES_FILE, CANDIDATES)
    more = _drawn()
    more[4, 5:9, 4:9] = 0
    second = _send(context, _saved(volume, tmp_path / "2.dcm", more, "2.25.900"))
    assert [(row.outcome, row.round_number) for row in (first, second)] == [
        (SelectionOutcome.EFFECTIVE, 1),
        (SelectionOutcome.EFFECTIVE, 2),
    ]
    for row, labels in ((first, _drawn()), (second, more)):
        (kept,) = load_candidates(context.store.absolute(row.artifact))
        assert (kept.labels == labels).all(), "neither save overwrites the other"
    assert _send(context, tmp_path / "2.dcm").outcome == SelectionOutcome.REPEATED


def test_a_second_save_before_the_next_round_is_no_repetition(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    first = _send(context, _saved(volume, tmp_path / "1.dcm", _drawn(), "2.25.900"))
    more = _drawn()
    more[4, 5:9, 4:9] = 0
    second = _send(context, _saved(volume, tmp_path / "2.dcm", more, "2.25.900"))
    assert first.evidence_sha256 != second.evidence_sha256
    assert second.outcome != SelectionOutcome.REPEATED
    for row, labels in ((first, _drawn()), (second, more)):
        (kept,) = load_candidates(context.store.absolute(row.artifact))
        assert (kept.labels == labels).all(), "the second save does not overwrite the first"
    assert _send(context, tmp_path / "1.dcm").evidence_sha256 == first.evidence_sha256
