"""The measurement report of an accepted segmentation: Comprehensive 3D SR, TID 1500 (PS3.16).

This module builds the report's content tree. The numbers come from `findings`. This module does not depend on
the origin of the labels or the destination of the report.

IHE AI Results requires the class Comprehensive 3D SR. The measurement groups are:

- the whole organ (TID 1411). The group has the volume with lesions, the number of lesions and the lesion
  burden. It refers to all segments, because their union was measured. If there is an earlier study, the group
  also has the sums of target diameters and the response categories;
- the liver's segment (TID 1411). The group has volume and mean density of the liver without lesions;
- each lesion's segment (TID 1411), under the lesion's own Tracking UID. The group has volume, diameters and
  their slice, density, shape, and the earlier lesion;
- each lesion that an earlier study had and this study lacks (TID 1411). The group refers to the lesion's
  segment in the earlier final segmentation. If that segmentation is unknown, then the group uses TID 1501.

Warnings about the series are comments among the qualitative evaluations of the report. An interval is written
as the upper and the lower range of uncertainty of its number, in the number's unit (TID 310).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_config import change_codes, codes
from uair_node.dicom.volume import Volume
from uair_node.findings.follow_up import Fate, FollowUp, Link
from uair_node.findings.record import NOMINAL, Findings, LesionFindings
from uair_node.results.provenance import Provenance, make_reproducible, shared_arguments
from uair_node.results.report_measurements import (
    change_of,
    earlier_measurements,
    measurements_of,
    responses_of,
    sums_of_diameters,
)
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid


@dataclass(frozen=True)
class ReportRequest:
    """The content of a report beyond its numbers and its source.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic UIDs (`uids.result_uid`).
    k
        The accepted candidate, 1..4.
    provenance
        The origin of the report.
    warnings
        Sentences about possible faults of the series.
    """

    sop_instance_uid: str
    series_instance_uid: str
    k: int
    provenance: Provenance
    warnings: tuple[str, ...] = ()


def write_report(
    volume: Volume, findings: Findings, segmentation: Dataset, request: ReportRequest
) -> Dataset:
    """Make the measurement report of a final segmentation.

    Parameters
    ----------
    volume
        The source series.
    findings
        The measurements of the labels from which `segmentation` was made.
    segmentation
        The object of `seg.write_seg`, or the object read from its file. Its pixels are not needed.

    Raises
    ------
    ValueError
        `segmentation` has no segment for a lesion.
    """
    headers = source_headers(volume)
    instances: dict[str, Dataset] = {}
    for header in headers:
        instances.setdefault(header.SOPInstanceUID, header)  # frames of an instance share its UID
    content = _Content(findings, volume, headers, segmentation, request).report()
    provenance = request.provenance
    report = Comprehensive3DSR(
        evidence=[*instances.values(), segmentation, *_earlier_evidence(findings.follow_up)],
        content=content,
        series_instance_uid=request.series_instance_uid,
        series_number=codes.companion_number(codes.Companion.REPORT, provenance.round),
        series_description=codes.companion_description(
            codes.Companion.REPORT, provenance.round, f"C{request.k} measurements"
        ),
        sop_instance_uid=request.sop_instance_uid,
        instance_number=1,
        # No person has verified the report. A research result stays preliminary.
        is_complete=True,
        **shared_arguments(provenance, headers[0]),
    )
    return make_reproducible(report, provenance, headers[0])


class _Content:
    """The content tree of one report."""

    def __init__(
        self,
        findings: Findings,
        volume: Volume,
        headers: Sequence[Dataset],
        segmentation: Dataset,
        request: ReportRequest,
    ) -> None:
        self._findings, self._headers, self._request = findings, headers, request
        self._slices, self._profile = volume.slices, volume.profile
        self._quantities, self._organ = findings.quantities, volume.profile.organ
        self._segmentation = segmentation
        self._segments = list(segmentation.SegmentSequence)

    def report(self) -> MeasurementReport:
        """Return the root of the content tree."""
        groups = [self._whole()]
        parenchyma = self._parenchyma()
        if parenchyma:
            groups.append(parenchyma)
        groups += [self._lesion(lesion) for lesion in self._findings.lesions]
        groups += [self._vanished(link) for link in self._links if link.fate == Fate.VANISHED]
        report = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=self._device()),
            procedure_reported=self._profile.procedure,
            imaging_measurements=groups,
            title=standard.DCM.ImagingMeasurementReport,
        )
        if self._request.warnings:
            report[0].ContentSequence.append(self._warnings())
        return report

    def _warnings(self) -> ContainerContentItem:
        """Return the warnings as text items of TID 1500, row 12. highdicom does not support that row."""
        container = ContainerContentItem(
            name=codes.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
        )
        container.ContentSequence = ContentSequence(
            TextContentItem(
                name=standard.DCM.Comment, value=warning, relationship_type=RelationshipTypeValues.CONTAINS
            )
            for warning in self._request.warnings
        )
        return container

    def _device(self) -> ObserverContext:
        provenance = self._request.provenance
        return ObserverContext(
            observer_type=standard.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=result_uid("device", provenance.model_digest, provenance.software_version),
                name=codes.MANUFACTURER,
                manufacturer_name=codes.MANUFACTURER,
                model_name=codes.long_string(provenance.model_name),
                serial_number=provenance.model_digest[:16],
            ),
        )

    @property
    def _links(self) -> Sequence[Link]:
        follow_up = self._findings.follow_up
        return follow_up.links if follow_up else ()

    def _whole(self) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
        follow_up = self._findings.follow_up
        more = sums_of_diameters(follow_up) if follow_up else []
        return self._roi(
            self._segments,  # their union was measured
            self._own_tracking(f"{self._organ.name} with lesions"),
            finding=(self._organ.code, codes.ANATOMICAL_STRUCTURE),
            measurements=[*measurements_of(self._quantities.liver, self._findings.liver), *more],
            evaluations=responses_of(follow_up) if follow_up else (),
        )

    def _parenchyma(self) -> VolumetricROIMeasurementsAndQualitativeEvaluations | None:
        values = self._findings.parenchyma
        if f"parenchyma_{self._findings.unit.suffix}" not in values:
            return None
        segment = next(described for described in self._segments if "TrackingUID" not in described)
        return self._roi(
            [segment],
            self._own_tracking(f"{self._organ.name} without lesions"),
            finding=(self._organ.code, codes.ANATOMICAL_STRUCTURE),
            measurements=measurements_of(self._quantities.parenchyma, values),
        )

    def _lesion(self, lesion: LesionFindings) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
        segment = self._segment_of(lesion.number)
        slice_ = self._slices[lesion.slice_index]
        measurements, said = measurements_of(self._quantities.lesion, lesion.values, slice_), []
        for link in self._links:
            if link.tracking_uid == lesion.tracking_uid:
                measurements += earlier_measurements(link)
                said += [change_of(link), *self._role(link)]
        return self._roi(
            [segment],
            TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
            finding=(codes.LESION, codes.MORPHOLOGICALLY_ABNORMAL),
            finding_sites=[FindingSite(CodedConcept.from_code(self._organ.code))],
            measurements=measurements,
            evaluations=said,
        )

    def _vanished(
        self, link: Link
    ) -> MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations:
        shared: dict[str, Any] = {
            "tracking_identifier": TrackingIdentifier(link.tracking_uid, "UAIR lesion before"),
            "finding_type": CodedConcept.from_code(codes.LESION),
            "finding_category": CodedConcept.from_code(codes.MORPHOLOGICALLY_ABNORMAL),
            "finding_sites": [FindingSite(CodedConcept.from_code(self._organ.code))],
            "algorithm_id": self._algorithm(),
            "measurements": earlier_measurements(link),
            "qualitative_evaluations": [change_of(link), *self._role(link)],
        }
        referenced = _earlier_segment(self._findings.follow_up, link)
        if referenced is None:
            return MeasurementsAndQualitativeEvaluations(**shared)
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=referenced, **shared)

    def _role(self, link: Link) -> list[QualitativeEvaluation]:
        follow_up = self._findings.follow_up
        if follow_up is None or link.tracking_uid not in follow_up.targets:
            return []
        return [QualitativeEvaluation(change_codes.ROLE, change_codes.TARGET)]

    def _roi(
        self,
        segments: Sequence[Dataset],
        tracking: TrackingIdentifier,
        *,
        finding: tuple[Code, Code],
        measurements: Sequence[Measurement],
        finding_sites: Sequence[FindingSite] | None = None,
        evaluations: Sequence[QualitativeEvaluation] = (),
    ) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_segment=ReferencedSegment(
                sop_class_uid=self._segmentation.SOPClassUID,
                sop_instance_uid=self._segmentation.SOPInstanceUID,
                segment_number=[int(segment.SegmentNumber) for segment in segments],  # VM 1-n
                source_series=SourceSeriesForSegmentation(self._headers[0].SeriesInstanceUID),
            ),
            finding_type=CodedConcept.from_code(finding[0]),
            finding_category=CodedConcept.from_code(finding[1]),
            finding_sites=finding_sites,
            algorithm_id=self._algorithm(),
            measurements=measurements,
            qualitative_evaluations=evaluations or None,
        )

    def _segment_of(self, lesion: int) -> Dataset:
        for segment in self._segments:
            if segment.SegmentLabel == f"Lesion {lesion}":
                return segment
        raise ValueError(f"the segmentation has no segment for lesion {lesion}")

    def _own_tracking(self, what: str) -> TrackingIdentifier:
        uid = result_uid(self._request.provenance.case_digest, what)
        return TrackingIdentifier(uid=uid, identifier=f"UAIR {what}")

    def _algorithm(self) -> AlgorithmIdentification:
        provenance = self._request.provenance
        return AlgorithmIdentification(
            name=codes.long_string(provenance.model_name),
            version=provenance.model_digest,
            parameters=[
                f"round={provenance.round}",
                f"candidate={self._request.k}",
                f"software={codes.long_string(provenance.software_version)}",
                f"case={provenance.case_digest}",
                f"intervals={NOMINAL:.0%} nominal",
                codes.DISCLAIMER,
            ],
        )


def _earlier_segment(follow_up: FollowUp | None, link: Link) -> ReferencedSegment | None:
    """Return the segment of a vanished lesion in the earlier study; None if it is unknown."""
    if follow_up is None or follow_up.earlier is None or link.tracking_uid not in follow_up.earlier.segments:
        return None
    return ReferencedSegment(
        sop_class_uid=UID(codes.SelectionClass.SEGMENTATION),
        sop_instance_uid=follow_up.earlier.sop_instance_uid,
        segment_number=follow_up.earlier.segments[link.tracking_uid],
        source_series=SourceSeriesForSegmentation(follow_up.prior_series_uid),
    )


def _earlier_evidence(follow_up: FollowUp | None) -> list[Dataset]:
    """Return the header of the earlier segmentation if the report refers to it; otherwise an empty list.

    The header is evidence from another study.
    """
    if follow_up is None or follow_up.earlier is None:
        return []
    vanished = {link.tracking_uid for link in follow_up.links if link.fate == Fate.VANISHED}
    if not vanished & follow_up.earlier.segments.keys():
        return []
    header = Dataset()
    header.SOPClassUID = UID(codes.SelectionClass.SEGMENTATION)
    header.SOPInstanceUID = follow_up.earlier.sop_instance_uid
    header.StudyInstanceUID = follow_up.earlier.study_uid
    header.SeriesInstanceUID = follow_up.earlier.series_uid
    return [header]
