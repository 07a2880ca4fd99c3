"""Each thing that a reader may send and that cannot be used: refused, recorded at its case, reason shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_config.codes import SelectionClass
from dicom_config.model import Verb
from tests.support.edited import LIVER, returned, segment
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.selections import (
    bare_document,
    container_item,
    instance_header,
    key_object,
    measurement_report,
    new_uid,
)
from tests.support.series import good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import ResultKind, SelectionOutcome, WorkKind
from uair_node.operations import reports


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        yield made


def _study(offered: OfferedCase) -> str:
    return str(offered.candidate(1).StudyInstanceUID)


def _unknown_uid(offered: OfferedCase) -> Dataset:
    return key_object([instance_header(study_instance_uid=_study(offered), patient_id="PHANTOM-1")])


def _other_patient(offered: OfferedCase) -> Dataset:
    document = key_object([offered.candidate(2)])
    document.PatientID = "SOMEBODY-ELSE"
    return document


def _two_at_once(offered: OfferedCase) -> Dataset:
    return key_object([offered.candidate(2), offered.candidate(3)])


def _drawn(offered: OfferedCase, labels: np.ndarray) -> Dataset:
    return returned([dcmread(path) for path in offered.paths], (labels > 0).astype(np.uint8), [LIVER])


def _empty_seg(offered: OfferedCase) -> Dataset:
    seg = _drawn(offered, candidate_labels(1))
    seg.PixelData = bytes(len(seg.PixelData))
    return seg


def _on_other_images(offered: OfferedCase, frame_of_reference_uid: str) -> Dataset:
    """A SEG on another series of the same study."""
    folder = offered.context.store.root.parent / "other"
    paths = good_series(
        folder, study_instance_uid=_study(offered), frame_of_reference_uid=frame_of_reference_uid
    )
    return returned([dcmread(path) for path in paths], (candidate_labels(1) > 0).astype(np.uint8), [LIVER])


def _other_frame_of_reference(offered: OfferedCase) -> Dataset:
    return _on_other_images(offered, new_uid())


def _other_phase(offered: OfferedCase) -> Dataset:
    return _on_other_images(offered, str(offered.volume.frame_of_reference_uid))


def _sr_without_reference(offered: OfferedCase) -> Dataset:
    report = measurement_report(offered.candidate(1), dcmread(offered.paths[0]))
    report.ContentSequence = [container_item()]
    return report


def _neither_liver_nor_lesion(offered: OfferedCase) -> Dataset:
    labels = np.zeros_like(candidate_labels(1))
    labels[0, 0:2, 0:2] = 1
    return returned([dcmread(path) for path in offered.paths], labels, [segment(1, "Spleen")])


REFUSED: dict[str, tuple[str, Callable[[OfferedCase], Dataset]]] = {
    "unknown UID": ("unknown-reference", _unknown_uid),
    "other patient": ("other-patient", _other_patient),
    "two different candidates at once": ("ambiguous-selection", _two_at_once),
    "empty SEG": ("edited-empty", _empty_seg),
    "SEG on another frame of reference": ("edited-other-frame-of-reference", _other_frame_of_reference),
    "SEG on another phase": ("edited-other-series", _other_phase),
    "SEG of another organ": ("edited-unrecognised", _neither_liver_nor_lesion),
    "SR without reference": ("selection-without-reference", _sr_without_reference),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("verb", [Verb.PICK, Verb.ACCEPT])
def test_it_is_refused_at_its_case_with_the_reason_shown(offered: OfferedCase, what: str, verb: Verb) -> None:
    code, make = REFUSED[what]
    document = make(offered)
    before = offered.case()
    row = offered.send(document, verb)
    assert (row.outcome, row.code, row.case_id) == (SelectionOutcome.REFUSED, code, before.id)
    assert offered.case().state == before.state == CaseState.AWAITING_SELECTION
    with offered.context.database.transaction() as session:
        shown = reports.detail(session, reports.get_case(session, before.id))["selections"][-1]
    assert (shown["code"], shown["sentence"]) == (code, row.sentence)
    assert row.sentence
    assert row.remedy
    assert "PHANTOM" not in row.sentence + row.remedy


def test_our_own_set_forwarded_back_starts_nothing_and_says_so(offered: OfferedCase) -> None:
    offered.work(WorkKind.PAGES)
    own = [*offered.results(ResultKind.CANDIDATE), *offered.results(ResultKind.PAGE)]
    for result in own:
        assert offered.send_file(offered.path(result)) is None
    assert offered.case().state == CaseState.AWAITING_SELECTION
    with offered.context.database.transaction() as session:
        shown = reports.detail(session, reports.get_case(session, offered.case().id))
    assert shown["own_objects_returned"] == len(own) == 9
    assert shown["due"] == []


@pytest.mark.parametrize("kind", [ResultKind.FINAL, ResultKind.FINAL_PAGE, ResultKind.REPORT])
def test_what_a_case_ended_with_picks_nothing(offered: OfferedCase, kind: ResultKind) -> None:
    offered.send(offered.candidate(1), Verb.ACCEPT)
    offered.work(WorkKind.FINISH)
    (result,) = offered.results(kind)
    row = offered.send_file(offered.path(result), Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "own-object")


def test_an_edit_of_a_closed_case_says_that_it_is_closed(offered: OfferedCase) -> None:
    edited = _drawn(offered, candidate_labels(2))
    offered.send(offered.candidate(1), Verb.ACCEPT)
    row = offered.send(edited, Verb.PICK)
    assert (row.code, row.case_id) == ("case-closed", offered.case().id)
    assert "accepted" in row.sentence


def test_an_edited_part_of_the_answered_round_is_held_while_the_next_is_computed(
    offered: OfferedCase,
) -> None:
    edited = _drawn(offered, candidate_labels(2))
    offered.send(offered.candidate(1), Verb.PICK)
    row = offered.send(edited, Verb.PICK)
    assert (row.outcome, row.code, row.round_number) == (SelectionOutcome.HELD, "", 1)
    assert offered.case().state == CaseState.REFINING


def test_a_patient_id_is_compared_only_where_both_have_one(offered: OfferedCase) -> None:
    document = key_object([offered.candidate(2)])
    document.PatientID = ""
    assert offered.send(document, Verb.PICK).outcome == SelectionOutcome.EFFECTIVE


def test_what_belongs_to_no_case_is_recorded_alone(offered: OfferedCase) -> None:
    row = offered.send(_with_file_meta(bare_document(SelectionClass.COMPREHENSIVE_SR)), Verb.PICK)
    assert (row.code, row.case_id) == ("selection-without-reference", None)


def _with_file_meta(document: Dataset) -> Dataset:
    made = key_object([instance_header()])
    document.file_meta = made.file_meta
    document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    document.StudyInstanceUID, document.SeriesInstanceUID = new_uid(), new_uid()
    return document
