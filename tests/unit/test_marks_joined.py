"""Marks that join an earlier answer to their round, and marks that come with the end of a case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from dicom_config.model import Verb
from tests.support.marked import Drawn, marked_report
from tests.support.missed import MISSED, ON_LESION, MissedCase, missed_case, understood
from tests.support.selections import instance_header, key_object, reference_item
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, SelectionOutcome, WorkItem, WorkKind
from uair_node.dicom.volume import Volume
from uair_node.results.notices import pending_notices
from uair_node.results.round_inputs import read_round_inputs
from uair_node.work.performer import Claim

ELSEWHERE = ((5.0, 15.0), (8.0, 18.0))
JOINED, EFFECTIVE, REPLACED = SelectionOutcome.JOINED, SelectionOutcome.EFFECTIVE, SelectionOutcome.REPLACED
CANDIDATE_3 = "2.25.1.1.3"


def _outcomes(missed: MissedCase) -> list[SelectionOutcome]:
    return [row.outcome for row in missed.selections()]


def _notices(missed: MissedCase) -> list[str]:
    with missed.context.database.transaction() as session:
        case = session.query(Case).one()
        return [
            f"{notice.heading}. {notice.text}"
            for notice in pending_notices(session, case, missed.context.settings)
        ]


def _pick(missed: MissedCase, k: int) -> Dataset:
    image = missed.image(0)
    return key_object(
        [
            instance_header(
                study_instance_uid=image.StudyInstanceUID,
                sop_instance_uid=f"2.25.1.1.{k}",
                patient_id=image.PatientID,
            )
        ]
    )


def _drop(missed: MissedCase) -> Drawn:
    return missed.line(*ON_LESION, k=7, label="no lesion")


def _naming(report: Dataset, sop_instance_uid: str = CANDIDATE_3) -> Dataset:
    report.ContentSequence.append(reference_item(sop_instance_uid))
    return report


def test_three_reports_of_one_round_are_one_answer(missed: MissedCase) -> None:
    missed.send(marked_report([missed.line(*MISSED)]))
    missed.send(marked_report([missed.line(*ELSEWHERE, k=4)]))
    row = missed.send(marked_report([_drop(missed)]))
    marks = understood(row)
    assert [(lesion.value, lesion.new) for lesion in marks.lesions] == [(4, True), (5, True)]
    assert (marks.dropped, marks.picked) == ((2,), False)
    assert _outcomes(missed) == [JOINED, JOINED, EFFECTIVE]
    assert missed.case().state == CaseState.REFINING
    assert row.sentence == (
        "Lesion 3 added from your measurement of 4 mm; lesion 4 added from your measurement of 3 mm; "
        "lesion 1 dropped. Your earlier answer to this round stays."
    )
    (notice,) = _notices(missed)
    assert notice == f"Round 1: your marks received. Round 2 is computed next. {row.sentence}"


def test_a_report_that_repeats_the_earlier_marks_adds_the_new_alone(missed: MissedCase) -> None:
    missed.send(marked_report([missed.line(*MISSED)]))
    row = missed.send(marked_report([missed.line(*MISSED), missed.line(*ELSEWHERE, k=4)]))
    assert [len(lesion.marks) for lesion in understood(row).lesions] == [1, 1]
    row = missed.send(marked_report([missed.line(*MISSED)]))
    assert row is not None
    assert row.outcome == SelectionOutcome.REPEATED


@pytest.mark.parametrize("how", ["tracking", "uid", "predecessor"])
def test_a_new_version_replaces_the_marks_of_the_old(missed: MissedCase, how: str) -> None:
    first = marked_report([missed.line(*MISSED)])
    missed.send(first)
    second = marked_report([missed.line(MISSED[0], (14.0, 15.0))])
    if how == "tracking":
        _tracking(second).UID = _tracking(first).UID
    elif how == "uid":
        second.SOPInstanceUID = first.SOPInstanceUID
        second.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    else:
        second.PredecessorDocumentsSequence = Items([_study_of(first)])
    (lesion,) = understood(missed.send(second)).lesions
    assert [mark.points for mark in lesion.marks] == [((9.5, 13.0, 11.0), (9.5, 15.0, 14.0))]


def _tracking(report: Dataset) -> Dataset:
    pending = list(report.ContentSequence)
    while pending:
        item = pending.pop()
        if item.ConceptNameCodeSequence[0].CodeValue == "112040":
            return item
        pending += item.get("ContentSequence") or ()
    raise AssertionError("no Tracking Unique Identifier")


def _study_of(report: Dataset) -> Dataset:
    study, series, instance = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = report.SOPClassUID
    instance.ReferencedSOPInstanceUID = report.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = report.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = report.StudyInstanceUID, [series]
    return study


@pytest.mark.parametrize("first", ["lesion", "drop"])
def test_reports_that_contradict_each_other_are_refused(missed: MissedCase, first: str) -> None:
    lesion, drop = missed.line(*ON_LESION, k=7), _drop(missed)
    missed.send(marked_report([lesion if first == "lesion" else drop]))
    row = missed.send(marked_report([drop if first == "lesion" else lesion]))
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "marks-contradict")
    # What the remedy names works: a pick replaces all marks.
    row = missed.send(_pick(missed, 3))
    assert row is not None
    assert (row.outcome, row.picked, row.marks) == (EFFECTIVE, 3, None)
    assert _outcomes(missed)[0] == REPLACED


def test_reports_at_one_moment_all_count(
    tmp_path: Path, missed_original: tuple[Path, Volume], database_url: str
) -> None:
    """On SQLite and on PostgreSQL."""
    with missed_case(tmp_path, missed_original[1], database_url=database_url) as missed:
        drawn = [missed.line(*MISSED), missed.line(*ELSEWHERE, k=4), _drop(missed)]
        paths = [tmp_path / f"report-{n}.dcm" for n in range(len(drawn))]
        for path, mark in zip(paths, drawn, strict=True):
            marked_report([mark]).save_as(path, enforce_file_format=True)
        together = Barrier(len(drawn))

        def send(path: Path) -> None:
            together.wait()
            missed.send_file(path)

        with ThreadPoolExecutor(len(drawn)) as readers:
            list(readers.map(send, paths))
        (row,) = [row for row in missed.selections() if row.outcome == EFFECTIVE]
        marks = understood(row)
        assert ([lesion.new for lesion in marks.lesions], marks.dropped) == ([True, True], (2,))
        assert sorted(_outcomes(missed)) == [EFFECTIVE, JOINED, JOINED]


def test_a_drop_of_a_lesion_that_an_earlier_report_added_is_refused(missed: MissedCase) -> None:
    missed.send(marked_report([missed.line(*MISSED)]))
    row = missed.send(marked_report([missed.line(*MISSED, label="drop")]))
    assert row is not None
    assert row.code == "marks-contradict"


def test_marks_join_a_pick_and_a_later_pick_replaces_them(missed: MissedCase) -> None:
    picked = _pick(missed, 3)
    missed.send(picked)
    row = missed.send(marked_report([missed.line(*MISSED)]))
    assert (row.picked, understood(row).picked) == (3, True)
    assert _outcomes(missed) == [JOINED, EFFECTIVE]
    other = _pick(missed, 2)
    missed.send(other)
    assert _outcomes(missed) == [JOINED, REPLACED, EFFECTIVE]
    assert any(
        "To add your marks to the later answer, send them again." in notice for notice in _notices(missed)
    )
    # That remedy works.
    report = marked_report([missed.line(*MISSED)])
    row = missed.send(report)
    assert (row.picked, len(understood(row).lesions)) == (2, 1)


def test_unusable_marks_leave_the_earlier_answer_as_it_is(missed: MissedCase) -> None:
    missed.send(marked_report([missed.line(*MISSED)]))
    row = missed.send(marked_report([missed.line(*MISSED, k=0)]))
    assert row is not None
    assert row.code == "mark-outside-organ"
    assert _outcomes(missed) == [EFFECTIVE, SelectionOutcome.REFUSED]


def _accepted(missed: MissedCase) -> np.ndarray:
    """The label volume that the case ends with."""
    with missed.context.database.transaction() as session:
        item = session.query(WorkItem).filter_by(kind=WorkKind.FINISH).one()
        claim = Claim(item.id, item.kind, "case", item.case_id, 1, 1, "test:1")
    return read_round_inputs(missed.context, claim).accepted().labels


def test_a_case_ends_with_a_candidate_without_the_lesion_that_is_dropped(missed: MissedCase) -> None:
    row = missed.send(_naming(marked_report([_drop(missed)])), Verb.ACCEPT)
    marks = understood(row)
    assert (row.picked, marks.dropped, marks.lesions) == (3, (2,), ())
    assert row.sentence == "Lesion 1 dropped."
    assert missed.case().state == CaseState.ACCEPTED
    assert np.unique(_accepted(missed)).tolist() == [0, 1]


def test_a_drop_alone_accepts_nothing_while_four_are_offered(missed: MissedCase) -> None:
    row = missed.send(marked_report([_drop(missed)]), Verb.ACCEPT)
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "mark-needs-candidate")
    understood(missed.send(marked_report([_drop(missed)])))


def test_a_new_lesion_beside_a_candidate_does_not_end_the_case(missed: MissedCase) -> None:
    row = missed.send(_naming(marked_report([missed.line(*MISSED), _drop(missed)])), Verb.ACCEPT)
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "mark-needs-pick")


def test_the_size_of_a_lesion_does_not_follow_at_the_end(missed: MissedCase) -> None:
    row = missed.send(_naming(marked_report([missed.line(*ON_LESION, k=7)])), Verb.ACCEPT)
    assert row is not None
    assert (row.outcome, row.marks) == (EFFECTIVE, None)
    assert row.sentence == "Left out: 1 mark (an acceptance uses only marks that drop a lesion)."
