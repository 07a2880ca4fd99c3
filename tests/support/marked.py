"""Reports with marks, written by highdicom: measurements on images (TID 1501) and regions (TID 1410)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    ImageRegion3D,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tests.support.edited import reread
from tests.support.selections import new_uid


@dataclass(frozen=True)
class Drawn:
    """One graphic, on `image` (column, row) or in the image's frame of reference (x, y, z mm).

    `finding` and `site` are codes. With `region`, the graphic is an image region instead of a measurement.
    """

    graphic_type: str
    points: Sequence[Sequence[float]]
    image: Dataset
    label: str = "measurement"
    finding: Code | None = None
    site: Code | None = None
    region: bool = False

    @property
    def spatial(self) -> bool:
        return len(self.points[0]) == 3


def marked_report(drawn: Sequence[Drawn], *, evidence: Sequence[Dataset] = ()) -> Dataset:
    """Return a Comprehensive 3D SR (TID 1500) with a measurement group for each graphic."""
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(uid=new_uid()),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("77477000", "SCT", "CT"),
        imaging_measurements=[_group(mark) for mark in drawn],
    )
    images = {str(image.SOPInstanceUID): image for image in (*evidence, *(mark.image for mark in drawn))}
    return reread(
        Comprehensive3DSR(
            evidence=list(images.values()),
            content=report[0],
            series_instance_uid=new_uid(),
            series_number=1,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer="viewer",
        )
    )


def _group(drawn: Drawn) -> Dataset:
    about = {
        "tracking_identifier": TrackingIdentifier(uid=new_uid(), identifier=drawn.label),
        "finding_type": drawn.finding,
        "finding_sites": [FindingSite(drawn.site)] if drawn.site else None,
    }
    points = np.asarray(drawn.points, float)
    if drawn.region:
        return PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=(
                ImageRegion3D(drawn.graphic_type, points, drawn.image.FrameOfReferenceUID)
                if drawn.spatial
                else ImageRegion(drawn.graphic_type, points, _image(drawn, SourceImageForRegion))
            ),
            **about,
        )
    coordinates = (
        CoordinatesForMeasurement3D(drawn.graphic_type, points, drawn.image.FrameOfReferenceUID)
        if drawn.spatial
        else CoordinatesForMeasurement(drawn.graphic_type, points, _image(drawn, SourceImageForRegion))
    )
    length = Measurement(
        name=codes.SCT.Length,
        value=float(np.linalg.norm(points[-1] - points[0])),
        unit=codes.UCUM.Millimeter,
        referenced_coordinates=[coordinates],
    )
    return MeasurementsAndQualitativeEvaluations(
        measurements=[length], source_images=[_image(drawn, SourceImageForMeasurementGroup)], **about
    )


def _image(drawn: Drawn, kind: type) -> Dataset:
    return kind(drawn.image.SOPClassUID, drawn.image.SOPInstanceUID)


def graphics_of(report: Dataset) -> list[Dataset]:
    """Return the SCOORD and SCOORD3D items of a report, in document order."""
    found, pending = [], list(report.ContentSequence)
    while pending:
        item = pending.pop(0)
        if item.ValueType in ("SCOORD", "SCOORD3D"):
            found.append(item)
        pending = [*(item.get("ContentSequence") or ()), *pending]
    return found
