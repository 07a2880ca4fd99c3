"""One answer that takes targets from different candidates: who says it how, and what it takes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_config.model import Verb
from tests.support.cases import candidate_uid, publish_round, ready_case
from tests.support.selections import instance_header, key_object, segments_key_object, segments_report
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.dicom.readers import read_selection
from uair_node.selection.service import Evidence, select_by_object
from uair_node.storage.artifacts import StoredCandidate, taken

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
