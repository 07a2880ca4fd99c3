"""References of returned objects, as written by libraries, by hand and by no sane program."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage

from dicom_config.codes import SelectionClass
from dicom_config.errors import InputError
from tests.support.selections import (
    bare_document,
    container_item,
    evidence_only_key_object,
    instance_header,
    key_object,
    measurement_report,
    new_uid,
    reference_item,
)
from uair_node.dicom.readers import hash_patient_id, read_selection

KOS = SelectionClass.KEY_OBJECT_SELECTION
STUDY = new_uid()
REPORTS = [
    SelectionClass.ENHANCED_SR,
    SelectionClass.COMPREHENSIVE_SR,
    SelectionClass.COMPREHENSIVE_3D_SR,
]


def code_of(dataset: Dataset) -> str:
    with pytest.raises(InputError) as caught:
        read_selection(dataset)
    assert caught.value.sentence
    assert caught.value.remedy
    return caught.value.code


def reread(dataset: Dataset) -> Dataset:
    """Pass through bytes, since what a peer sent is decoded on access."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


@pytest.fixture
def seg() -> Dataset:
    return instance_header(study_instance_uid=STUDY)


@pytest.fixture
def slice_() -> Dataset:
    return instance_header(CTImageStorage, study_instance_uid=STUDY)


def test_key_object_names_its_instances_in_order(seg: Dataset, slice_: Dataset) -> None:
    document = key_object([seg, slice_])
    reading = read_selection(reread(document))
    assert reading.mechanism == "key-object"
    assert reading.sop_instance_uid == document.SOPInstanceUID
    assert reading.sop_class_uid == KOS
    assert reading.study_instance_uid == STUDY
    assert reading.references == (seg.SOPInstanceUID, slice_.SOPInstanceUID)
    assert set(reading.series_references) == {seg.SeriesInstanceUID, slice_.SeriesInstanceUID}
    assert reading.title == codes.DCM.OfInterest
    assert reading.patient_id_hash == hash_patient_id("P-1")
    assert reading.frame_of_reference_uid == ""
    assert set(reading.source_references) == set(reading.references)


def test_key_object_title_is_kept(seg: Dataset) -> None:
    """A rejection note (IHE IOCM) must be told from a pick."""
    title = codes.DCM.RejectedForQualityReasons
    assert read_selection(key_object([seg], title)).title == title


def test_evidence_counts_where_the_content_names_nothing(seg: Dataset) -> None:
    reading = read_selection(reread(evidence_only_key_object([seg])))
    assert reading.references == (seg.SOPInstanceUID,)
    assert reading.series_references == (seg.SeriesInstanceUID,)


def test_content_wins_over_evidence(seg: Dataset, slice_: Dataset) -> None:
    """The reader selected one; the viewer listed the whole study as evidence."""
    document = key_object([seg])
    document.CurrentRequestedProcedureEvidenceSequence = key_object(
        [seg, slice_]
    ).CurrentRequestedProcedureEvidenceSequence
    assert read_selection(document).references == (seg.SOPInstanceUID,)


def test_the_same_instance_twice_is_one_reference() -> None:
    uid = new_uid()
    document = bare_document(KOS, [reference_item(uid), reference_item(uid, "IMAGE")])
    assert read_selection(document).references == (uid,)


@pytest.mark.parametrize("sop_class", REPORTS)
def test_measurement_report_names_segmentation_and_source(
    seg: Dataset, slice_: Dataset, sop_class: str
) -> None:
    reading = read_selection(reread(measurement_report(seg, slice_, sop_class)))
    assert reading.mechanism == "sr"
    assert reading.sop_class_uid == sop_class
    assert reading.references == (seg.SOPInstanceUID, slice_.SOPInstanceUID)
    assert reading.title is not None
    assert reading.title.value == "126000"


@pytest.mark.parametrize("value_type", ["IMAGE", "COMPOSITE"])
def test_report_references_are_found_at_any_depth_in_document_order(value_type: str) -> None:
    first, second, third = new_uid(), new_uid(), new_uid()
    nested = container_item(container_item(reference_item(first, value_type)), reference_item(second))
    below_reference = reference_item(third)
    below_reference.ContentSequence = [reference_item(first)]
    document = bare_document(SelectionClass.COMPREHENSIVE_SR, [nested, below_reference])
    assert read_selection(document).references == (first, second, third)


@pytest.mark.parametrize("numbers", [(1,), (1, 2, 3)])
def test_segment_numbers_of_a_file_are_read(numbers: tuple[int, ...]) -> None:
    uid, file = new_uid(), BytesIO()
    item = reference_item(uid)
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = list(numbers)
    document = bare_document(SelectionClass.COMPREHENSIVE_3D_SR, [item])
    document.save_as(file, implicit_vr=False, little_endian=True)
    read = pydicom.dcmread(BytesIO(file.getvalue()), force=True)
    assert read_selection(read).segments == {uid: numbers}


def test_report_evidence_alone_is_no_selection(seg: Dataset, slice_: Dataset) -> None:
    """A report's evidence lists all that was looked at."""
    report = measurement_report(seg, slice_)
    report.ContentSequence = [container_item()]
    assert code_of(report) == "selection-without-reference"


def segmentation(**attributes: Any) -> Dataset:
    dataset = bare_document(SelectionClass.SEGMENTATION)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def referenced_instance(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = uid
    return item


@pytest.mark.parametrize("sop_class", [SelectionClass.SEGMENTATION, SelectionClass.LABEL_MAP_SEGMENTATION])
def test_segmentation_names_itself_and_keeps_its_sources(sop_class: SelectionClass) -> None:
    series = Dataset()
    series.SeriesInstanceUID = new_uid()
    slices = [new_uid(), new_uid()]
    series.ReferencedInstanceSequence = [referenced_instance(uid) for uid in slices]
    seg = segmentation(
        SOPClassUID=sop_class,
        ReferencedSeriesSequence=[series],
        FrameOfReferenceUID="1.2.3",
        PatientID=" P-1",
    )
    reading = read_selection(seg)
    assert reading.mechanism == "seg"
    assert reading.references == (seg.SOPInstanceUID,)
    assert reading.source_references == tuple(slices)
    assert reading.series_references == (series.SeriesInstanceUID,)
    assert reading.frame_of_reference_uid == "1.2.3"
    assert reading.patient_id_hash == hash_patient_id("P-1")
    assert reading.title is None


def test_segmentation_sources_are_taken_from_frames_where_no_series_is_listed() -> None:
    uids = [new_uid(), new_uid()]
    frames = []
    for uid in [*uids, uids[0]]:
        derivation, frame = Dataset(), Dataset()
        derivation.SourceImageSequence = [referenced_instance(uid)]
        frame.DerivationImageSequence = [derivation]
        frames.append(frame)
    assert read_selection(segmentation(PerFrameFunctionalGroupsSequence=frames)).source_references == tuple(
        uids
    )


def test_segmentation_sources_may_stand_at_its_root_only() -> None:
    uid = new_uid()
    reading = read_selection(segmentation(SourceImageSequence=[referenced_instance(uid)]))
    assert reading.source_references == (uid,)


def test_patient_hash_can_be_compared_but_not_read() -> None:
    assert hash_patient_id("P-1") == hash_patient_id(" P-1 ")
    assert hash_patient_id("P-1") != hash_patient_id("P-2")
    assert "P-1" not in hash_patient_id("P-1")
    assert hash_patient_id("  ") == ""


@pytest.mark.parametrize("sop_class", [CTImageStorage, "1.2.840.10008.5.1.4.1.1.104.1", "1.2.3"])
def test_other_objects_are_no_selections(sop_class: str) -> None:
    assert code_of(instance_header(sop_class)) == "selection-not-supported"


@pytest.mark.parametrize("sop_class", [KOS, *REPORTS])
@pytest.mark.parametrize("content", [[], [container_item()]], ids=["no tree", "empty tree"])
def test_documents_that_name_nothing(sop_class: str, content: Any) -> None:
    assert code_of(bare_document(sop_class, content)) == "selection-without-reference"


def test_empty_sequences_name_nothing() -> None:
    document = bare_document(KOS)
    document.ContentSequence = []
    document.CurrentRequestedProcedureEvidenceSequence = []
    assert code_of(document) == "selection-without-reference"


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_an_object_without_identity_is_unreadable(keyword: str) -> None:
    document = bare_document(KOS, [reference_item(new_uid())])
    delattr(document, keyword)
    assert code_of(document) == "selection-unreadable"


def test_a_reference_without_uid_is_unreadable() -> None:
    item = reference_item(new_uid())
    del item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert code_of(bare_document(KOS, [item])) == "selection-unreadable"


@pytest.mark.parametrize("value", ["Mustermann^Erika", "1." * 40 + "1", ["1.2", "1.3"], "1..2"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_a_reference_that_is_no_uid_is_unreadable(value: Any) -> None:
    """The sentence does not quote what stood there: it may be anything, a name included."""
    item = reference_item(new_uid())
    reference = item.ReferencedSOPSequence[0]
    reference[0x00081155] = DataElement(0x00081155, "UI", value, already_converted=True)
    with pytest.raises(InputError) as caught:
        read_selection(bare_document(KOS, [item]))
    assert caught.value.code == "selection-unreadable"
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize("keyword", ["ContentSequence", "CurrentRequestedProcedureEvidenceSequence"])
@pytest.mark.parametrize(("vr", "value"), [("LO", "text"), ("OB", b"\1\2"), ("US", 7)])
def test_a_sequence_of_another_vr_is_unreadable(keyword: str, vr: str, value: Any) -> None:
    document = bare_document(KOS)
    tag = Tag(keyword)
    document[tag] = DataElement(tag, vr, value)
    assert code_of(document) == "selection-unreadable"


def test_undecodable_bytes_in_a_sequence_are_unreadable() -> None:
    document = bare_document(KOS)
    tag = Tag("ContentSequence")
    document[tag] = RawDataElement(tag, "SQ", 6, b"\xde\xad\xbe\xef\0\1", 0, False, True)
    assert code_of(document) == "selection-unreadable"


def test_a_content_tree_deeper_than_the_stack_is_read() -> None:
    """Nested in bytes, where no writer of ours could: decoding and walking must not recurse."""
    uid = new_uid()
    raw = encoded(reference_item(uid))
    for _ in range(3000):
        raw = sequence_element(raw)
    document = bare_document(KOS)
    buffer = DicomBytesIO(encoded(document) + raw)
    parsed = pydicom.dcmread(buffer, force=True)
    assert read_selection(parsed).references == (uid,)


def encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def sequence_element(item: bytes) -> bytes:
    """Wrap an item's bytes in a Content Sequence of one item, implicit VR little endian, explicit lengths."""
    body = b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    return b"\x40\x00\x30\xa7" + len(body).to_bytes(4, "little") + body
