"""SEGs of some targets, sent together: put together to one answer, or refused together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.intake import received
from tests.support.selections import new_uid
from tests.support.series import good_series
from tests.support.waiting import VIEWER, waiting_case
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import Tracking, write_seg
from uair_node.results.uids import lesion_uid
from uair_node.selection.edited_round import put_together
from uair_node.selection.partial_edits import answer_with_parts
from uair_node.storage.artifacts import Labels, StoredCandidate, load_candidates, taken

SHAPE = (16, 24, 20)


def _labels(k: int) -> Labels:
    """Candidate k: liver and two lesions, all of which grow with k."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:13, 4 : 16 + k, 3:16] = 1
    labels[4:6, 6 : 8 + k, 4:7] = 2
    labels[8:10, 6 : 8 + k, 10:13] = 3
    return labels


OFFERED = [StoredCandidate(k, _labels(k), "") for k in (1, 2, 3, 4)]


def _only(labels: Labels, *values: int) -> Labels:
    return np.where(np.isin(labels, values), labels, 0).astype(np.uint8)


def test_a_target_that_candidates_share_is_the_picked_ones() -> None:
    alike = _labels(1)
    alike[2:13, 4:5, 3:16] = 0  # another liver with the first one's lesions
    offered = [OFFERED[0], OFFERED[1], StoredCandidate(3, alike, "")]
    assert put_together(offered, [alike])[0] == ReaderChoice(3)
    lesion = _labels(2)
    lesion[8:10, 6:9, 10:13] = 0
    offered = [OFFERED[1], StoredCandidate(2, lesion, "")]  # the same liver with another lesion
    assert put_together(offered, [lesion])[0] == ReaderChoice(2)


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([_only(_labels(2), 2), _only(_labels(3), 3)], ReaderChoice(2, {3: 3})),
        ([_only(_labels(3), 3), _only(_labels(3), 2)], ReaderChoice(3)),
        ([_only(_labels(4), 1), _only(_labels(1), 2, 3)], ReaderChoice(4, {2: 1, 3: 1})),
        ([_only(_labels(4), 3)], ReaderChoice(4)),
        ([_labels(2)], ReaderChoice(2)),
    ],
)
def test_unchanged_targets_are_a_pick_of_their_candidates(parts: list[Labels], answer: ReaderChoice) -> None:
    said, labels = put_together(OFFERED, parts)
    assert said == answer
    assert (labels == taken(OFFERED, answer).labels).all()


def test_lesions_alone_leave_everything_else_as_it_is() -> None:
    drawn = _only(_labels(3), 3)
    drawn[8, 6, 10] = 0
    said, labels = put_together(OFFERED, [drawn])
    assert said.k == 3
    assert ((labels == 3) == (drawn == 3)).all()
    assert ((labels == 2) == (_labels(3) == 2)).all()
    assert ((labels > 0) == (_labels(3) > 0)).all()


def test_a_lesion_deleted_beside_the_liver_is_gone() -> None:
    _, labels = put_together(OFFERED, [_only(_labels(2), 1, 2)])
    assert not (labels == 3).any()


def test_two_new_lesions_get_two_numbers() -> None:
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[11, 5:8, 5:8] = second[12, 12:15, 9:12] = 4
    _, labels = put_together(OFFERED, [first, second])
    assert labels[11, 5, 5] != labels[12, 12, 9]
    assert {4, 5} <= set(np.unique(labels))


def test_one_lesion_in_two_ways_is_ambiguous() -> None:
    with pytest.raises(InputError) as caught:
        put_together(OFFERED, [_only(_labels(2), 2), _only(_labels(3), 2)])
    assert caught.value.code == "ambiguous-selection"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_series(good_series(tmp_path / "ct"))


@pytest.fixture
def context(tmp_path: Path, volume: Volume) -> Iterator[Context]:
    """A case that waits for a reader, with the four candidates."""
    with waiting_case(tmp_path, volume, OFFERED) as made:
        yield made


def _send(context: Context, volume: Volume, folder: Path, labels: Labels, verb: Verb) -> None:
    with context.database.transaction() as session:
        digest = session.query(Case).one().digest
    tracking = {n: Tracking(f"lesion {n}", lesion_uid(digest, n)) for n in (1, 2)}
    request = replace(VIEWER, sop_instance_uid=new_uid(), tracking=tracking)
    path = folder / f"{request.sop_instance_uid}.dcm"
    save_durably(write_seg(volume, labels, request), path)
    Inbox(context).receive(received(path, verb, "VIEWER"))


def _settled(context: Context) -> tuple[CaseState, list[Selection]]:
    time.sleep(0.02)
    answer_with_parts(context)
    with context.database.transaction() as session:
        return session.query(Case).one().state, list(session.query(Selection).order_by(Selection.id))


def test_parts_are_held_and_take_effect_together(context: Context, volume: Volume, tmp_path: Path) -> None:
    _send(context, volume, tmp_path, _only(_labels(2), 2), Verb.ACCEPT)
    _send(context, volume, tmp_path, _only(_labels(3), 3), Verb.ACCEPT)
    with context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.AWAITING_SELECTION
        assert {selection.outcome for selection in session.query(Selection)} == {SelectionOutcome.HELD}
    state, rows = _settled(context)
    assert state == CaseState.ACCEPTED
    assert [row.outcome for row in rows] == [SelectionOutcome.JOINED, SelectionOutcome.EFFECTIVE]
    assert rows[1].answer == ReaderChoice(2, {3: 3})
    assert rows[1].artifact == "", "nothing was drawn anew"
    assert answer_with_parts(context) == 0, "once"


def test_parts_that_were_drawn_on_are_kept_together(context: Context, volume: Volume, tmp_path: Path) -> None:
    changed = _only(_labels(2), 2)
    changed[4, 6, 4] = 0
    _send(context, volume, tmp_path, changed, Verb.PICK)
    _send(context, volume, tmp_path, _only(_labels(3), 3), Verb.PICK)
    state, rows = _settled(context)
    assert state == CaseState.REFINING
    (kept,) = load_candidates(context.store.absolute(rows[1].artifact))
    assert ((kept.labels == 2) == (changed == 2)).all()
    assert ((kept.labels == 3) == (_labels(3) == 3)).all()


def test_contradicting_parts_are_refused_with_their_reason(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    _send(context, volume, tmp_path, _only(_labels(2), 2), Verb.PICK)
    _send(context, volume, tmp_path, _only(_labels(3), 2), Verb.PICK)
    state, rows = _settled(context)
    assert state == CaseState.AWAITING_SELECTION
    assert [row.code for row in rows] == ["ambiguous-selection"] * 2
    with context.database.transaction() as session:
        assert session.query(WorkItem).filter_by(kind=WorkKind.NOTICES).one().open, "told in the study"


def test_a_part_that_comes_too_late_is_refused(context: Context, volume: Volume, tmp_path: Path) -> None:
    _send(context, volume, tmp_path, _only(_labels(2), 2), Verb.PICK)
    _send(context, volume, tmp_path, _labels(4), Verb.PICK)
    state, rows = _settled(context)
    assert state == CaseState.REFINING
    assert [(row.outcome, row.code) for row in rows] == [
        (SelectionOutcome.REFUSED, "round-closed"),
        (SelectionOutcome.EFFECTIVE, ""),
    ]


def test_a_part_that_cannot_be_read_is_refused_and_stops_no_other(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    _send(context, volume, tmp_path, _only(_labels(2), 2), Verb.PICK)
    with context.database.transaction() as session:
        context.store.absolute(session.query(Selection).one().artifact).unlink()
    _send(context, volume, tmp_path, _only(_labels(3), 3), Verb.ACCEPT)
    state, rows = _settled(context)
    assert [(row.outcome, row.code) for row in rows] == [
        (SelectionOutcome.REFUSED, "part-unreadable"),
        (SelectionOutcome.EFFECTIVE, ""),
    ]
    assert state == CaseState.ACCEPTED
    assert answer_with_parts(context) == 0, "it is given up"
