"""One answer that takes targets from different candidates: who says it how, and what it takes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.cases import candidate_uid, publish_round, ready_case
from tests.support.selections import instance_header, key_object, segments_key_object, segments_report
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.dicom.readers import read_selection
from uair_node.selection.service import Evidence, select_by_number, select_by_object
from uair_node.storage.artifacts import (
    StoredCandidate,
    TargetParts,
    load_candidates,
    save_candidates,
    taken,
)

STUDY = "1.2"


def _candidate(case: Case, k: int) -> Dataset:
    return instance_header(study_instance_uid=STUDY, sop_instance_uid=candidate_uid(case, 1, k))


def _say(database: Database, verb: Verb, parts: list[tuple[int, int]], *, report: bool) -> Selection:
    """Name segments (candidate, number) of a round whose SEGs are liver, lesion 1, lesion 2."""
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        named = [(_candidate(case, k), number) for k, number in parts]
        source = instance_header(CTImageStorage, study_instance_uid=STUDY)
        document = segments_report(named, source) if report else segments_key_object(named)
        buffer = BytesIO()
        document.save_as(buffer, enforce_file_format=True)
        reading = read_selection(dcmread(BytesIO(buffer.getvalue())))
        row = select_by_object(session, Evidence(verb, reading.mechanism), reading)
        accepted = case.state == CaseState.ACCEPTED
        assert accepted == (verb == Verb.ACCEPT and row.outcome == SelectionOutcome.EFFECTIVE)
        return row


@pytest.mark.parametrize("report", [True, False], ids=["sr", "key-object"])
@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([(2, 2), (3, 3)], ReaderChoice(2, {3: 3})),
        ([(3, 1), (2, 2)], ReaderChoice(3, {2: 2})),
        ([(4, 2), (4, 3)], ReaderChoice(4)),
        ([(4, 1)], ReaderChoice(4)),
        ([(1, 1), (4, 2), (4, 3)], ReaderChoice(1, {2: 4, 3: 4})),
    ],
)
def test_segments_of_several_candidates_are_one_answer(
    database: Database, parts: list[tuple[int, int]], answer: ReaderChoice, report: bool
) -> None:
    row = _say(database, Verb.PICK, parts, report=report)
    assert (row.outcome, row.answer) == (SelectionOutcome.EFFECTIVE, answer)


@pytest.mark.parametrize("report", [True, False], ids=["sr", "key-object"])
@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([(2, 2), (3, 2)], "ambiguous-selection"),
        ([(2, 1), (3, 1), (3, 2)], "ambiguous-selection"),
        ([(2, 4)], "no-such-segment"),
        ([(2, 0)], "no-such-segment"),
    ],
)
def test_one_target_of_two_candidates_is_refused(
    database: Database, parts: list[tuple[int, int]], code: str, report: bool
) -> None:
    row = _say(database, Verb.ACCEPT, parts, report=report)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, code)


def test_a_whole_candidate_with_a_lesion_of_another(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        document = key_object([_candidate(case, 3), _candidate(case, 1)])
        items = [item for item in document.ContentSequence if "ReferencedSOPSequence" in item]
        items[1].ReferencedSOPSequence[0].ReferencedSegmentNumber = 3
        row = select_by_object(session, Evidence(Verb.ACCEPT, "key-object"), read_selection(document))
        assert row.answer == ReaderChoice(3, {3: 1})
        assert "lesion 2 of candidate 1" in case.transitions[-1].reason


def test_none_fits_needs_no_single_candidate(database: Database) -> None:
    assert _say(database, Verb.REJECT, [(2, 2), (3, 2)], report=True).answer == ReaderChoice(None)


def _offered() -> list[StoredCandidate]:
    """Four candidates in a row of voxels: the liver grows with k, lesion 1 too, lesion 2 only in 1 and 2."""
    found = []
    for k in (1, 2, 3, 4):
        labels = np.zeros((1, 1, 12), np.uint8)
        labels[..., : 6 + k] = 1
        labels[..., 1 : 1 + k] = 2
        if k < 3:
            labels[..., 5 : 5 + k] = 3
        found.append(StoredCandidate(k, labels, "character"))
    return found


def _row(answer: ReaderChoice) -> str:
    return "".join(map(str, taken(_offered(), answer).labels.ravel()))


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        (ReaderChoice(1), "121113100000"),
        (ReaderChoice(1, {2: 3}), "122213100000"),
        (ReaderChoice(4, {3: 1}), "122223111100"),
        (ReaderChoice(1, {3: 4}), "121111100000"),
        (ReaderChoice(4, {2: 1, 3: 2}), "121113311100"),
        (ReaderChoice(4, {1: 1}), "122221100000"),
    ],
)
def test_what_an_answer_takes(answer: ReaderChoice, row: str) -> None:
    assert _row(answer) == row


def test_the_combination_says_what_it_is() -> None:
    assert taken(_offered(), ReaderChoice(4, {3: 1})).character == "candidate 4, lesion 2 of candidate 1"
    assert taken(_offered(), ReaderChoice(4)).character == "character"


def _offered_in_parts() -> list[StoredCandidate]:
    """The same four; lesion 1 has an upper part, voxels 0 to 3, and a lower part, the other voxels."""
    parts = TargetParts(("upper", "lower"), np.array([[0.5, 0.5, 2.5], [0.5, 0.5, 5.5]]), np.ones(3))
    return [replace(candidate, parts={2: parts}) for candidate in _offered()]


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        (ReaderChoice(1, {}, {(2, "upper"): 3}), "122213100000"),
        (ReaderChoice(4, {}, {(2, "upper"): 1}), "121111111100"),
        (ReaderChoice(4, {}, {(2, "lower"): 1}), "122211111100"),
        (ReaderChoice(1, {2: 4}, {(2, "lower"): 1}), "122213100000"),
        (ReaderChoice(4, {}, {(2, "front"): 1}), "122221111100"),
    ],
)
def test_what_an_answer_with_parts_takes(answer: ReaderChoice, row: str) -> None:
    """The largest remaining piece of lesion 1 counts."""
    assert "".join(map(str, taken(_offered_in_parts(), answer).labels.ravel())) == row


def test_a_voxel_belongs_to_the_nearest_centre_in_millimetres() -> None:
    centres = np.array([[2.0, 0.5, 0.5], [0.5, 0.5, 8.5]])
    region = np.ones((2, 1, 8), bool)
    region[1, 0, 7] = False
    for spacing, upper in ((np.array([5.0, 1.0, 1.0]), [1, 6]), (np.array([1.0, 1.0, 5.0]), [4, 5])):
        parts = TargetParts(("upper", "left"), centres, spacing)
        assert parts.within(region, "upper").sum(axis=(1, 2)).tolist() == upper
        assert (parts.within(region, "upper") ^ parts.within(region, "left") == region).all()
        moved = replace(parts, centres=centres + np.array([10.0, 20.0, 30.0]))
        box = (slice(10, 12), slice(20, 21), slice(30, 38))
        assert (moved.within(region, "left", box) == parts.within(region, "left")).all()
    assert not parts.within(region, "front").any()


def test_parts_are_stored_with_the_candidates(tmp_path: Path) -> None:
    save_candidates(tmp_path / "four.npz", _offered_in_parts())
    answer = ReaderChoice(1, {}, {(2, "upper"): 3})
    wanted = taken(_offered_in_parts(), answer)
    np.testing.assert_array_equal(taken(load_candidates(tmp_path / "four.npz"), answer).labels, wanted.labels)
    save_candidates(tmp_path / "plain.npz", _offered())
    assert load_candidates(tmp_path / "plain.npz")[0].parts == {}


def test_an_answer_with_parts_is_kept_as_it_was_said(database: Database) -> None:
    said = ReaderChoice(2, {3: 1}, {(2, "upper"): 4, (3, "left"): 3})
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        assert case.current_round is not None
        case.current_round.parts = {"2": ["upper", "lower"], "3": ["left"]}
        select_by_number(session, Evidence(Verb.PICK, "console"), case, said)
    with database.transaction() as session:
        (row,) = session.query(Selection).all()
        assert row.answer == said
        assert row.words == (
            "candidate 2, lesion 2 of candidate 1, upper part of lesion 1 of candidate 4, "
            "left part of lesion 2 of candidate 3"
        )


@pytest.mark.parametrize(
    ("part", "k", "code", "remedy"),
    [
        ((2, "left"), 1, "no-such-part", "upper, lower"),
        ((3, "upper"), 1, "no-such-part", "the whole target"),
        ((2, "upper"), 9, "no-such-candidate", "1 to 4"),
        ((2, "upper"), 4, "no-such-part", "only candidates that contain lesion 1"),
    ],
)
def test_an_answer_for_a_part_that_is_not_there_is_refused(
    database: Database, part: tuple[int, str], k: int, code: str, remedy: str
) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        round_ = case.current_round
        assert round_ is not None
        round_.parts = {"2": ["upper", "lower"]}
        round_.candidates[3].targets = [1, 3]
        with pytest.raises(InputError) as refused:
            select_by_number(session, Evidence(Verb.PICK, "console"), case, ReaderChoice(1, {}, {part: k}))
        assert refused.value.code == code
        assert remedy in refused.value.remedy
        assert case.state == CaseState.AWAITING_SELECTION
