"""Returned objects as viewers write them: Key Object Selections and Structured Reports.

highdicom makes the well-formed objects. `bare_document` makes content trees that highdicom would not write.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceImageForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage

from dicom_config.codes import SelectionClass

REPORT_CLASSES = {
    SelectionClass.ENHANCED_SR: EnhancedSR,
    SelectionClass.COMPREHENSIVE_SR: ComprehensiveSR,
    SelectionClass.COMPREHENSIVE_3D_SR: Comprehensive3DSR,
}


def new_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def instance_header(
    sop_class_uid: str = SelectionClass.SEGMENTATION,
    *,
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
    patient_id: str = "P-1",
) -> Dataset:
    """Return the attributes of an instance that a document with a reference to it copies."""
    header = Dataset()
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = sop_instance_uid or new_uid()
    header.StudyInstanceUID = study_instance_uid or new_uid()
    header.SeriesInstanceUID = series_instance_uid or new_uid()
    header.PatientID = patient_id
    header.PatientName = "TEST^READER"
    header.PatientBirthDate = header.PatientSex = ""
    header.StudyID = header.StudyDate = header.StudyTime = header.AccessionNumber = ""
    header.Modality = "CT" if sop_class_uid == CTImageStorage else "SEG"
    header.Rows = header.Columns = 4
    return header


def key_object(instances: Sequence[Dataset], title: Code = codes.DCM.OfInterest) -> Dataset:
    """Return a Key Object Selection that names `instances`, which lie in one study."""
    return KeyObjectSelectionDocument(
        evidence=instances,
        content=KeyObjectSelection(document_title=title, referenced_objects=instances),
        series_instance_uid=new_uid(),
        series_number=1,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer="viewer",
    )


def evidence_only_key_object(instances: Sequence[Dataset]) -> Dataset:
    """Return a Key Object Selection whose content names no instance, as a viewer wrote it."""
    document = key_object(instances)
    for item in list(document.ContentSequence):
        if "ReferencedSOPSequence" in item:
            document.ContentSequence.remove(item)
    return document


def segments_key_object(parts: Sequence[tuple[Dataset, int]]) -> Dataset:
    """Return a Key Object Selection that names single segments (PS3.3 C.17.2, Referenced Segment Number)."""
    document = key_object([instance for instance, _ in parts])
    references = [item.ReferencedSOPSequence[0] for item in document.ContentSequence if _names(item)]
    for reference, (_, number) in zip(references, parts, strict=True):
        reference.ReferencedSegmentNumber = number
    return document


def _names(item: Dataset) -> bool:
    return "ReferencedSOPSequence" in item


def measurement_report(
    segmentation: Dataset,
    source: Dataset,
    sop_class: SelectionClass = SelectionClass.COMPREHENSIVE_SR,
) -> Dataset:
    """Return a TID 1500 report with one measurement group on segment 1 of `segmentation`."""
    return segments_report([(segmentation, 1)], source, sop_class)


def segments_report(
    parts: Sequence[tuple[Dataset, int]],
    source: Dataset,
    sop_class: SelectionClass = SelectionClass.COMPREHENSIVE_SR,
) -> Dataset:
    """Return a TID 1500 report with a measurement group on each of `parts` (segmentation, segment number)."""
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(uid=new_uid()),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("77477000", "SCT", "CT"),
        imaging_measurements=[_group(segmentation, number, source) for segmentation, number in parts],
    )
    return REPORT_CLASSES[sop_class](
        evidence=[*{str(part.SOPInstanceUID): part for part, _ in parts}.values(), source],
        content=report[0],
        series_instance_uid=new_uid(),
        series_number=1,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer="viewer",
    )


def _group(
    segmentation: Dataset, number: int, source: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=new_uid(), identifier="lesion 1"),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_images=[
                SourceImageForSegmentation(
                    referenced_sop_class_uid=source.SOPClassUID,
                    referenced_sop_instance_uid=source.SOPInstanceUID,
                )
            ],
        ),
        finding_type=codes.SCT.Lesion,
    )


def bare_document(sop_class_uid: str, content: Sequence[Dataset] = ()) -> Dataset:
    """Return a document with only its identity and a content tree."""
    document = Dataset()
    document.SOPClassUID = sop_class_uid
    document.SOPInstanceUID = new_uid()
    if content:
        document.ContentSequence = list(content)
    return document


def reference_item(sop_instance_uid: str, value_type: str = "COMPOSITE") -> Dataset:
    """Return a content item that names an instance."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = SelectionClass.SEGMENTATION
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    item = Dataset()
    item.ValueType = value_type
    item.RelationshipType = "CONTAINS"
    item.ReferencedSOPSequence = [reference]
    return item


def container_item(*children: Dataset) -> Dataset:
    """Return a container with `children`."""
    item = Dataset()
    item.ValueType = "CONTAINER"
    item.RelationshipType = "CONTAINS"
    if children:
        item.ContentSequence = list(children)
    return item
