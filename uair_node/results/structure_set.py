"""Write the RT Structure Set of an accepted segmentation, for planning systems (PS3.3 A.19).

This module does not depend on the origin of the labels, the destination of the object, or the state of its
case. No library writes contours in this form. rt-utils traces along the centres of the outer pixels, which
removes half a pixel at each side. It also writes holes as separate parts.

Choices:

- Implicit VR little endian. The points of a large contour exceed the 64 KiB of an explicit DS (PS3.5 7.1.2).
- The organ's region includes its lesions, as in regions that planners draw. A lesion's interpreted type is
  empty, because GTV would state more than the node has measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ImplicitVRLittleEndian

from dicom_config import codes
from dicom_config.modalities.profile import Organ
from uair_node.dicom.volume import FloatArray, Volume
from uair_node.results.contour_tracing import trace
from uair_node.results.provenance import Provenance
from uair_node.results.references import refer, refer_to_instances
from uair_node.results.source_headers import source_headers
from uair_node.results.zone import KEYWORD, in_zone
from uair_node.storage.artifacts import label_values

_LIVER_LABEL = 1
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""A retired SOP Class that planning systems expect in RT Referenced Study Sequence (PS3.3 C.8.8.5).
"""
_OF_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "AccessionNumber",
    "SpecificCharacterSet",
    KEYWORD,
)


@dataclass(frozen=True)
class StructuresRequest:
    """The content of a structure set beyond contours and source. The same request gives the same bytes.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic UIDs (`uids.result_uid`).
    k, character
        The accepted candidate and its character.
    provenance
        The origin of the object.
    """

    sop_instance_uid: str
    series_instance_uid: str
    k: int
    character: str
    provenance: Provenance


@dataclass(frozen=True)
class _Roi:
    """A region of interest of the structure set. `mask` is ``(Z, Y, X)`` on the source grid."""

    number: int
    name: str
    mask: NDArray[np.bool_]
    colour: codes.Colour
    code: Code
    interpreted: str


def write_structure_set(volume: Volume, labels: NDArray[np.uint8], request: StructuresRequest) -> Dataset:
    """Make the RT Structure Set of `labels`.

    Parameters
    ----------
    volume
        The source series. The function reads the headers of its files, but not its pixels.
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n.
    """
    headers = source_headers(volume)
    rois = list(_rois(labels, volume.profile.organ))
    made = _described(volume, headers[0], request)
    grid = _Grid(volume, headers)
    made.StructureSetROISequence = [_named(roi, volume, request) for roi in rois]
    made.ROIContourSequence = [grid.drawn(roi) for roi in rois]
    made.RTROIObservationsSequence = [_observed(roi) for roi in rois]
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _rois(labels: NDArray[np.uint8], organ: Organ) -> Iterator[_Roi]:
    colour = codes.LIVER_COLOUR
    yield _Roi(1, organ.name.capitalize(), labels >= _LIVER_LABEL, colour, organ.code, "ORGAN")
    for value in label_values(labels):
        if value > _LIVER_LABEL:
            lesion = value - _LIVER_LABEL
            name, colour = f"Lesion {lesion}", codes.lesion_colour(lesion)
            yield _Roi(value, name, labels == value, colour, codes.LESION, "")


def _described(volume: Volume, header: Dataset, request: StructuresRequest) -> Dataset:
    provenance = request.provenance
    made, moment = Dataset(), in_zone(provenance.content_datetime, header)
    for keyword in _OF_STUDY:
        if keyword in header:
            made[keyword] = header[keyword]
    made.SOPClassUID, made.SOPInstanceUID = codes.SelectionClass.RT_STRUCTURE_SET, request.sop_instance_uid
    made.SeriesInstanceUID, made.Modality = request.series_instance_uid, "RTSTRUCT"
    made.SeriesNumber = codes.companion_number(codes.Companion.RTSTRUCT, provenance.round)
    made.SeriesDescription = codes.companion_description(
        codes.Companion.RTSTRUCT, provenance.round, f"final, {request.character}"
    )
    made.InstanceNumber, made.OperatorsName = 1, ""
    made.Manufacturer, made.ManufacturerModelName = (
        codes.MANUFACTURER,
        codes.long_string(provenance.model_name),
    )
    made.SoftwareVersions = codes.long_string(provenance.software_version)
    made.DeviceSerialNumber = provenance.model_digest[:16]
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = day, time
    made.SeriesDate, made.SeriesTime = day, time
    made.StructureSetDate, made.StructureSetTime = day, time
    made.StructureSetLabel = codes.content_label(provenance.round, request.k, final=True)
    made.StructureSetDescription = (
        f"{codes.long_string(request.character)}; {codes.DISCLAIMER.lower()}; "
        f"model {provenance.model_digest}; "
        f"round {provenance.round}, candidate {request.k}; case {provenance.case_digest}"
    )
    made.FrameOfReferenceUID = volume.frame_of_reference_uid
    made.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
    made.ReferencedFrameOfReferenceSequence = [_space(volume, header)]
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return made


def _space(volume: Volume, header: Dataset) -> Dataset:
    series = _item(
        SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=refer_to_instances(volume.slices)
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=volume.frame_of_reference_uid, RTReferencedStudySequence=[study])


def _named(roi: _Roi, volume: Volume, request: StructuresRequest) -> Dataset:
    return _item(
        ROINumber=roi.number,
        ReferencedFrameOfReferenceUID=volume.frame_of_reference_uid,
        ROIName=roi.name,
        ROIVolume=f"{roi.mask.sum() * np.prod(volume.spacing_mm) / 1000.0:.3f}",
        ROIGenerationAlgorithm="SEMIAUTOMATIC",
        ROIGenerationDescription=codes.long_string(f"{request.provenance.model_name}, a reader's choice"),
    )


def _observed(roi: _Roi) -> Dataset:
    return _item(
        ObservationNumber=roi.number,
        ReferencedROINumber=roi.number,
        ROIObservationLabel=roi.name,
        RTROIIdentificationCodeSequence=[
            _item(
                CodeValue=roi.code.value,
                CodingSchemeDesignator=roi.code.scheme_designator,
                CodeMeaning=roi.code.meaning,
            )
        ],
        RTROIInterpretedType=roi.interpreted,
        ROIInterpreter="",
    )


class _Grid:
    """The positions of rows and columns of each slice in LPS mm."""

    def __init__(self, volume: Volume, headers: Sequence[Dataset]) -> None:
        self._slices = volume.slices
        # Each slice has its own position, because the distances between slices may vary a little.
        self._origins: FloatArray = np.array([header.ImagePositionPatient for header in headers], np.float64)
        self._steps = volume.affine[:3, 1:3].T

    def drawn(self, roi: _Roi) -> Dataset:
        """Return the item of the ROI Contour Sequence for a region."""
        slices = np.flatnonzero(roi.mask.any(axis=(1, 2))).tolist()
        rings = [(k, ring) for k in slices for ring in trace(roi.mask[k])]
        contours = [self._contour(k, ring, number) for number, (k, ring) in enumerate(rings, 1)]
        return _item(
            ROIDisplayColor=list(roi.colour.rgb), ContourSequence=contours, ReferencedROINumber=roi.number
        )

    def _contour(self, k: int, ring: FloatArray, number: int) -> Dataset:
        points = self._origins[k] + ring @ self._steps
        return _item(
            ContourNumber=number,
            ContourImageSequence=[refer(Dataset(), self._slices[k])],
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(points),
            ContourData=[f"{value:.3f}" for value in points.ravel()],
        )


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
