"""Studies and answers with objects of other classes: none is refused at negotiation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    MPEG4HP41,
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    VideoEndoscopicImageStorage,
)
from pynetdicom import AE
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind

from dicom_config.model import NodeSection
from tests.support.intake import context_in
from tests.support.offered import OfferedCase, offered_case
from tests.support.selections import new_uid
from tests.support.series import good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, SelectionOutcome
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.responses import KEEP_RESPONSES
from uair_node.network.scp import DicomListener
from uair_node.network.store_status import StoreStatus
from uair_node.results.notices import pending_notices

pytestmark = pytest.mark.integration

PRIVATE = "1.3.12.2.1107.5.9.1"
KEPT, LEFT_OUT = StoreStatus.SUCCESS, StoreStatus.ELEMENTS_DISCARDED


@contextmanager
def listening(context: Context) -> Iterator[DicomListener]:
    listener = DicomListener(NodeSection(port=0), Inbox(context).receive)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def other_object(sop_class: str, study: str, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Return an object without pixels, as scanners and viewers store beside images."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, new_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, new_uid()
    dataset.PatientID, dataset.SeriesDescription = "P-1", "other"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def push(port: int, called: str, datasets: Sequence[Dataset]) -> list[int]:
    """Send objects over one association that proposes each pair of class and syntax; return the statuses."""
    entity = AE("SENDER")
    pairs = {(str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)) for dataset in datasets}
    for sop_class, syntax in sorted(pairs):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=[KEEP_RESPONSES])
    assert association.is_established
    assert not association.rejected_contexts
    statuses = [association.send_c_store(dataset).Status for dataset in datasets]
    association.release()
    return statuses


def cases(context: Context) -> list[tuple[CaseState, int, str]]:
    with context.database.transaction() as session:
        every = session.query(Case).order_by(Case.instance_count.desc()).all()
        return [(case.state, case.instance_count, case.code) for case in every]


@pytest.mark.parametrize("sop_class", [PRIVATE, "1.2.840.10008.5.1.4.1.1.99999", EncapsulatedPDFStorage])
def test_a_study_with_an_object_of_another_class_arrives_whole(
    tmp_path: Path, database_url: str, sop_class: str
) -> None:
    slices = [dcmread(path) for path in good_series(tmp_path / "ct")]
    half = len(slices) // 2
    other = other_object(sop_class, slices[0].StudyInstanceUID)
    with context_in(tmp_path / "data", database_url) as context, listening(context) as listener:
        statuses = push(listener.port, "UAIR", [*slices[:half], other, *slices[half:]])
        assert statuses == [KEPT] * (len(slices) + 1)
        time.sleep(0.05)  # the quiet period of these tests
        assemble(context)
        whole, alone = cases(context)
        assert whole == (CaseState.READY, len(slices), "")
        assert alone == (CaseState.REJECTED, 1, "other-modality")


def test_what_cannot_be_decoded_is_taken_too(tmp_path: Path, database_url: str) -> None:
    video = other_object(VideoEndoscopicImageStorage, new_uid(), MPEG4HP41)
    with context_in(tmp_path / "data", database_url) as context, listening(context) as listener:
        assert push(listener.port, "UAIR", [video]) == [KEPT]


def test_a_syntax_that_can_be_decoded_is_preferred(tmp_path: Path, database_url: str) -> None:
    with context_in(tmp_path / "data", database_url) as context, listening(context) as listener:
        entity = AE("SENDER")
        entity.add_requested_context(CTImageStorage, [MPEG4HP41, ExplicitVRLittleEndian])
        entity.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
        association = entity.associate("127.0.0.1", listener.port, ae_title="UAIR")
        (accepted,) = association.accepted_contexts
        association.release()
    assert accepted.transfer_syntax == [ExplicitVRLittleEndian]


@pytest.mark.parametrize("intake", [{"other_objects": "drop"}, {"other_objects_bytes": 100}])
def test_other_objects_are_left_out_as_configured(
    tmp_path: Path, database_url: str, intake: dict[str, object]
) -> None:
    waits = {"quiet_s": 0.01, "max_wait_s": 60, "partial_edit_wait_s": 0.01, "min_free_bytes": 0}
    with context_in(tmp_path / "data", database_url, intake=waits | intake) as context:
        with listening(context) as listener:
            statuses = push(listener.port, "UAIR", [other_object(PRIVATE, new_uid())])
        assert statuses == [LEFT_OUT]
        with context.database.transaction() as session:
            assert session.query(Instance).count() == 0
        assert list(context.store.spool.rglob("*.dcm")) == []


def test_the_budget_counts_what_is_kept_already(tmp_path: Path, database_url: str) -> None:
    waits = {"quiet_s": 0.01, "max_wait_s": 60, "partial_edit_wait_s": 0.01, "min_free_bytes": 0}
    intake = waits | {"other_objects_bytes": 1500}
    objects = [other_object(PRIVATE, new_uid()) for _ in range(4)]
    with context_in(tmp_path / "data", database_url, intake=intake) as context:
        with listening(context) as listener:
            first = push(listener.port, "UAIR", objects)
        with listening(context) as listener:
            again = push(listener.port, "UAIR", [other_object(PRIVATE, new_uid())])
    assert first[0] == KEPT
    assert first[-1] == LEFT_OUT
    assert again == [LEFT_OUT]


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        yield made


@pytest.mark.parametrize("called", ["UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT"])
@pytest.mark.parametrize(
    "sop_class",
    [
        BasicTextSRStorage,
        EncapsulatedPDFStorage,
        PRIVATE,
    ],
)
def test_an_answer_of_another_class_is_refused_and_told(
    offered: OfferedCase, called: str, sop_class: str
) -> None:
    answer = other_object(sop_class, offered.case().study_instance_uid)
    with listening(offered.context) as listener:
        assert push(listener.port, called, [answer]) == [KEPT]
    (row,) = offered.selections()
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "selection-not-supported")
    assert row.case_id == offered.case().id
    with offered.context.database.transaction() as session:
        (notice,) = pending_notices(session, session.query(Case).one(), offered.context.settings)
    assert notice.heading == "Round 1: not used"
    assert row.sentence in notice.text
    assert offered.case().state == CaseState.AWAITING_SELECTION


def test_a_whole_study_sent_to_a_verb_is_refused_once_and_its_pick_counts(offered: OfferedCase) -> None:
    slices = [dcmread(path) for path in offered.paths]
    document = other_object(EncapsulatedPDFStorage, offered.case().study_instance_uid)
    with listening(offered.context) as listener:
        statuses = push(listener.port, "UAIR_PICK", [*slices, document, offered.candidate(3)])
        assert statuses == [KEPT] * (len(slices) + 2)
        refused, picked = offered.selections()
        assert (refused.outcome, refused.code) == (SelectionOutcome.REFUSED, "selection-not-supported")
        assert (picked.outcome, picked.answer.words) == (SelectionOutcome.EFFECTIVE, "candidate 3")
        push(listener.port, "UAIR_PICK", [document])
    codes = [selection.code for selection in offered.selections()]
    assert codes == ["selection-not-supported", "", "selection-not-supported"]
