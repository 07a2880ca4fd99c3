"""The measurement report of an accepted segmentation: Comprehensive SR, TID 1500 (PS3.16).

Owns the report's content tree. The numbers are those of `measurements`; it must not know how labels are made
nor where the report goes.

Comprehensive SR, not its 3D sibling: nothing in it needs 3D coordinates, and more archives and viewers take
it. Measurement groups:

- the whole organ (TID 1501): volume with lesions, number of lesions, lesion burden; refers to the whole
  segmentation object, since the union of all its segments is what was measured;
- the liver's segment (TID 1411): volume and mean density of what it holds, the liver without lesions;
- each lesion's segment (TID 1411): volume, diameters with the slice on which they were taken, mean density,
  under the lesion's own Tracking UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code

from dicom_config import codes
from uair_node.results.measurements import LesionMeasurements, Measurements, measure
from uair_node.results.provenance import Provenance, settle, shared_arguments
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid
from uair_node.volume import SourceSlice, Volume


@dataclass(frozen=True)
class ReportRequest:
    """Everything a report says beyond its numbers and its source.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic ones (`uids.result_uid`).
    k
        The accepted candidate, 1..4.
    provenance
        Where it comes from.
    """

    sop_instance_uid: str
    series_instance_uid: str
    k: int
    provenance: Provenance


def write_report(
    volume: Volume, labels: NDArray[np.uint8], segmentation: Dataset, request: ReportRequest
) -> Dataset:
    """Make the measurement report of a final segmentation.

    Parameters
    ----------
    volume
        The source series with its pixels (`read_series`).
    labels
        ``(Z, Y, X)`` uint8 on the source grid, those that `segmentation` was made from.
    segmentation
        What `seg.write_seg` returned, or the same read from its file; its pixels are not needed.

    Raises
    ------
    ValueError
        When `labels` is not on the source grid, or `segmentation` has no segment for a lesion in it.
    """
    measured = measure(volume.array, labels, volume.spacing_mm)
    headers = source_headers(volume)
    instances: dict[str, Dataset] = {}
    for header in headers:
        instances.setdefault(header.SOPInstanceUID, header)  # frames share theirs
    content = _Content(measured, volume.slices, headers, segmentation, request).report()
    provenance = request.provenance
    report = ComprehensiveSR(
        evidence=[*instances.values(), segmentation],
        content=content,
        series_instance_uid=request.series_instance_uid,
        series_number=codes.companion_number(codes.Companion.REPORT, provenance.round),
        series_description=codes.companion_description(
            codes.Companion.REPORT, provenance.round, f"C{request.k} measurements"
        ),
        sop_instance_uid=request.sop_instance_uid,
        instance_number=1,
        # Nobody has verified it, and a research result stays preliminary.
        is_complete=True,
        **shared_arguments(provenance),
    )
    return settle(report, provenance, headers[0])


class _Content:
    """The content tree of one report."""

    def __init__(
        self,
        measured: Measurements,
        slices: Sequence[SourceSlice],
        headers: Sequence[Dataset],
        segmentation: Dataset,
        request: ReportRequest,
    ) -> None:
        self._measured, self._headers, self._request = measured, headers, request
        self._slices = slices
        self._segmentation = segmentation
        self._segments = list(segmentation.SegmentSequence)

    def report(self) -> MeasurementReport:
        """Return the root of the tree."""
        groups = [self._organ()]
        parenchyma = self._parenchyma()
        if parenchyma:
            groups.append(parenchyma)
        groups += [self._lesion(lesion) for lesion in self._measured.lesions]
        return MeasurementReport(
            observation_context=ObservationContext(observer_device_context=self._device()),
            procedure_reported=codes.CT_PROCEDURE,
            imaging_measurements=groups,
            title=standard.DCM.ImagingMeasurementReport,
        )

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

    def _organ(self) -> MeasurementsAndQualitativeEvaluations:
        measured = self._measured
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._own_tracking("liver with lesions"),
            finding_type=CodedConcept.from_code(codes.LIVER),
            finding_category=CodedConcept.from_code(codes.ANATOMICAL_STRUCTURE),
            algorithm_id=self._algorithm(),
            source_images=[
                SourceImageForMeasurementGroup(
                    self._segmentation.SOPClassUID, self._segmentation.SOPInstanceUID
                )
            ],
            measurements=[
                _number(codes.VOLUME, measured.liver_ml, 3, codes.MILLILITRE),
                _number(codes.NUMBER_OF_LESIONS, len(measured.lesions), 0, codes.LESIONS),
                _number(codes.LESION_BURDEN, measured.burden_percent, 2, codes.PERCENT),
            ],
        )

    def _parenchyma(self) -> VolumetricROIMeasurementsAndQualitativeEvaluations | None:
        measured = self._measured
        if measured.parenchyma_hu is None:
            return None
        segment = next(one for one in self._segments if "TrackingUID" not in one)
        return self._roi(
            segment,
            self._own_tracking("liver without lesions"),
            finding=(codes.LIVER, codes.ANATOMICAL_STRUCTURE),
            measurements=[
                _number(codes.VOLUME, measured.parenchyma_ml, 3, codes.MILLILITRE),
                _mean_density(measured.parenchyma_hu),
            ],
        )

    def _lesion(self, lesion: LesionMeasurements) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
        segment = self._segment_of(lesion.number)
        diameters = lesion.diameters
        slice_ = self._slices[diameters.slice_index]
        return self._roi(
            segment,
            TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
            finding=(codes.LESION, codes.MORPHOLOGICALLY_ABNORMAL),
            finding_sites=[FindingSite(CodedConcept.from_code(codes.LIVER))],
            measurements=[
                _number(codes.VOLUME, lesion.volume_ml, 3, codes.MILLILITRE),
                _length(codes.LONG_AXIS, diameters.long_mm, slice_),
                _length(codes.SHORT_AXIS, diameters.short_mm, slice_),
                _mean_density(lesion.mean_hu),
            ],
        )

    def _roi(
        self,
        segment: Dataset,
        tracking: TrackingIdentifier,
        *,
        finding: tuple[Code, Code],
        measurements: Sequence[Measurement],
        finding_sites: Sequence[FindingSite] | None = None,
    ) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_segment=ReferencedSegment(
                sop_class_uid=self._segmentation.SOPClassUID,
                sop_instance_uid=self._segmentation.SOPInstanceUID,
                segment_number=int(segment.SegmentNumber),
                source_series=SourceSeriesForSegmentation(self._headers[0].SeriesInstanceUID),
            ),
            finding_type=CodedConcept.from_code(finding[0]),
            finding_category=CodedConcept.from_code(finding[1]),
            finding_sites=finding_sites,
            algorithm_id=self._algorithm(),
            measurements=measurements,
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
                codes.DISCLAIMER,
            ],
        )


def _number(name: Code, value: float, decimals: int, unit: Code) -> Measurement:
    return Measurement(name=name, value=round(value, decimals), unit=unit)


def _mean_density(hu: float) -> Measurement:
    return Measurement(
        name=codes.ATTENUATION, value=round(hu, 2), unit=codes.HOUNSFIELD_UNIT, derivation=codes.MEAN
    )


def _length(name: Code, mm: float, slice_: SourceSlice) -> Measurement:
    # TID 1411 has no room for the line itself, only for the slice that it lies on.
    frames = None if slice_.frame is None else [slice_.frame]
    image = SourceImageForMeasurement(slice_.sop_class_uid, slice_.sop_instance_uid, frames)
    return Measurement(name=name, value=round(mm, 2), unit=codes.MILLIMETRE, referenced_images=[image])
