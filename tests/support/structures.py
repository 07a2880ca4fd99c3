"""RT Structure Sets as planning systems export them, which tests send to the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from skimage.measure import find_contours

from uair_node.dicom.volume import Volume

Polygon = Sequence[tuple[float, float]]
"""Row and column on the grid of a slice; a pixel's centre has whole numbers."""


@dataclass(frozen=True)
class Roi:
    """A region: name, contours (slice, polygon), RT ROI Interpreted Type, type of its contours, code."""

    name: str
    contours: Sequence[tuple[float, Polygon]]
    interpreted: str = ""
    kind: str = "CLOSED_PLANAR"
    code: tuple[str, str, str] | None = None


def outlines(mask: np.ndarray, slices: Iterable[int] | None = None) -> list[tuple[float, Polygon]]:
    """Return the contours of a mask ``(Z, Y, X)``; holes are contours of their own."""
    ks = range(len(mask)) if slices is None else slices
    return [
        (k, [(float(row) - 1, float(column) - 1) for row, column in ring[:-1]])
        for k in ks
        for ring in find_contours(np.pad(mask[k], 1).astype(float), 0.5)
    ]


@dataclass(frozen=True)
class Dialect:
    """The differences of planning systems, field by field.

    Attributes
    ----------
    names_images
        Whether each contour names its image (Contour Image Sequence).
    numbers_contours
        Whether each contour has a Contour Number (3006,0048).
    decimals
        Decimals of coordinates in mm.
    root, observation
        Attributes of the object, and of each item of the RT ROI Observations Sequence.
    """

    names_images: bool = True
    numbers_contours: bool = False
    decimals: int = 3
    root: Mapping[str, Any] = field(default_factory=dict)
    observation: Mapping[str, Any] = field(default_factory=dict)


PLAIN = Dialect()


def structure_set(volume: Volume, header: Dataset, rois: Sequence[Roi], dialect: Dialect = PLAIN) -> Dataset:
    """Write a structure set on a series; `header` is one of its images."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = header.StudyInstanceUID, generate_uid()
    made.PatientID, made.PatientName = header.get("PatientID", ""), header.get("PatientName", "")
    made.Modality, made.Manufacturer = "RTSTRUCT", "Other"
    made.StructureSetLabel = "PLAN"
    for keyword, value in dialect.root.items():
        setattr(made, keyword, value)
    space = volume.frame_of_reference_uid
    made.ReferencedFrameOfReferenceSequence = [_space(volume, header, space)]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for number, roi in enumerate(rois, 1):
        made.StructureSetROISequence.append(
            _item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=space,
                ROIName=roi.name,
                ROIGenerationAlgorithm="",
            )
        )
        drawn = _item(ROIDisplayColor=[255, 0, 0], ReferencedROINumber=number)
        if roi.contours:
            drawn.ContourSequence = [
                _contour(volume, roi.kind, k, polygon, dialect, n)
                for n, (k, polygon) in enumerate(roi.contours, 1)
            ]
        made.ROIContourSequence.append(drawn)
        seen = _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIInterpretedType=roi.interpreted,
            **{"ROIInterpreter": "", **dialect.observation},
        )
        if roi.code:
            value, scheme, meaning = roi.code
            seen.RTROIIdentificationCodeSequence = [
                _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
            ]
        made.RTROIObservationsSequence.append(seen)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return made


def _space(volume: Volume, header: Dataset, space: str) -> Dataset:
    images = [_image(volume, k) for k in range(len(volume.slices))]
    series = _item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=space, RTReferencedStudySequence=[study])


def _image(volume: Volume, k: int) -> Dataset:
    source = volume.slices[k]
    image = _item(
        ReferencedSOPClassUID=source.sop_class_uid, ReferencedSOPInstanceUID=source.sop_instance_uid
    )
    if source.frame is not None:
        image.ReferencedFrameNumber = source.frame
    return image


def _contour(volume: Volume, kind: str, k: float, polygon: Polygon, dialect: Dialect, number: int) -> Dataset:
    index = np.array([(k, row, column, 1.0) for row, column in polygon]).reshape(-1, 4)
    points = (index @ volume.affine.T)[:, :3]
    contour = _item(
        ContourGeometricType=kind,
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.{dialect.decimals}f}" for value in points.ravel()],
    )
    if dialect.numbers_contours:
        contour.ContourNumber = number
    if dialect.names_images and float(k).is_integer() and 0 <= k < len(volume.slices):
        contour.ContourImageSequence = [_image(volume, int(k))]
    return contour


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
