"""Enhanced CT (PS3.3 A.38): the slices of a single-frame series as frames of multi-frame instances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from uair_node.results.uids import result_uid

_TAKEN_OVER = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "Modality",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
)
_ACQUIRED = "20260105093000"
PER_FRAME_RESCALE = (2.0, 0.5)
"""Rescale Slope of even and odd frames if each frame has its own."""


def write_enhanced_ct(
    folder: Path,
    slices: Sequence[Path],
    *,
    instances: int = 1,
    own_planes: bool = False,
    own_rescale: bool = False,
    transfer_syntax: str = "",
    **attributes: Any,
) -> list[Path]:
    """Write Enhanced CT instances of the slices of a single-frame series.

    Parameters
    ----------
    instances
        Number of instances. Slices go to the instances in turn, so each instance has gaps that others fill.
    own_planes
        Whether each frame's own functional groups have orientation and spacing, instead of the shared groups.
    own_rescale
        Whether slopes alternate from frame to frame, instead of one shared slope. The HU are the same.
    transfer_syntax
        The transfer syntax of the pixels; uncompressed if empty.
    attributes
        Attributes of each instance's root.
    """
    sources = [pydicom.dcmread(path) for path in slices]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(instances):
        image = _image(sources[number::instances], number, own_planes=own_planes, own_rescale=own_rescale)
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        if transfer_syntax:
            image.compress(transfer_syntax)
        paths.append(folder / f"enhanced_{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def _image(sources: Sequence[Dataset], number: int, *, own_planes: bool, own_rescale: bool) -> Dataset:
    first = sources[0]
    image = Dataset()
    for keyword in _TAKEN_OVER:
        if keyword in first:
            image[keyword] = first[keyword]
    image.SOPClassUID = EnhancedCTImageStorage
    image.SOPInstanceUID = result_uid(first.SeriesInstanceUID, "enhanced", number)
    image.InstanceNumber = number + 1
    _describe_equipment(image)
    _describe_image(image, len(sources))
    shared = Dataset()
    for keyword, item in _shared_groups(first).items():
        setattr(shared, keyword, [item])
    frames, planes = [], []
    for k, source in enumerate(sources):
        frame = _frame(source, k, [*image.DimensionIndexSequence])
        slope = PER_FRAME_RESCALE[k % 2] if own_rescale else 1.0
        planes.append(np.rint((source.pixel_array - 1024.0 - _INTERCEPT) / slope).astype("<i2"))
        (shared if not own_rescale else frame).PixelValueTransformationSequence = [_rescale(slope)]
        (shared if not own_planes else frame).PlaneOrientationSequence = [
            _taken(source, "ImageOrientationPatient")
        ]
        (shared if not own_planes else frame).PixelMeasuresSequence = [
            _taken(source, "PixelSpacing", "SliceThickness")
        ]
        frames.append(frame)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    image.PixelData = b"".join(plane.tobytes() for plane in planes)
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return image


_INTERCEPT = -24.0


def _rescale(slope: float) -> Dataset:
    item = Dataset()
    item.RescaleIntercept, item.RescaleSlope, item.RescaleType = _INTERCEPT, slope, "HU"
    return item


def _taken(source: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = source[keyword]
    return item


def _describe_equipment(image: Dataset) -> None:
    image.PatientPosition = "HFS"
    image.Manufacturer, image.ManufacturerModelName = "UAIR tests", "Phantom"
    image.DeviceSerialNumber, image.SoftwareVersions = "1", "1"


def _describe_image(image: Dataset, frames: int) -> None:
    """Set the modules Multi-frame Functional Groups, Dimension, Enhanced CT Image, Image Pixel."""
    image.ContentDate, image.ContentTime = _ACQUIRED[:8], _ACQUIRED[8:]
    image.NumberOfFrames = frames
    image.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    image.PixelPresentation, image.VolumetricProperties = "MONOCHROME", "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"
    image.AcquisitionNumber, image.AcquisitionDateTime, image.AcquisitionDuration = 1, _ACQUIRED, 5.0
    image.ContentQualification, image.ImageComments = "RESEARCH", ""
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.PresentationLUTShape = "IDENTITY"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.AcquisitionContextSequence = []
    organization = Dataset()
    organization.DimensionOrganizationUID = result_uid(image.SOPInstanceUID, "dimensions")
    image.DimensionOrganizationSequence = [organization]
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer, index.FunctionalGroupPointer = 0x00200032, 0x00209113
    image.DimensionIndexSequence = [index]


def _frame(source: Dataset, k: int, dimensions: Sequence[Dataset]) -> Dataset:
    frame, content = Dataset(), Dataset()
    content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = _ACQUIRED
    content.FrameAcquisitionDuration, content.FrameAcquisitionNumber = 100.0, 1
    content.DimensionIndexValues = [k + 1] * len(dimensions)
    frame.FrameContentSequence = [content]
    frame.PlanePositionSequence = [_taken(source, "ImagePositionPatient")]
    return frame


def _shared_groups(source: Dataset) -> dict[str, Dataset]:
    kind = Dataset()
    kind.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    kind.PixelPresentation, kind.VolumetricProperties = "MONOCHROME", "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    anatomy, region = Dataset(), Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "818983003", "SCT", "Abdomen"
    anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [region], "U"
    reconstruction = Dataset()
    reconstruction.ReconstructionAlgorithm, reconstruction.ConvolutionKernel = "FILTER_BACK_PROJ", "B30f"
    reconstruction.ConvolutionKernelGroup, reconstruction.ReconstructionDiameter = "SOFT_TISSUE", 400.0
    reconstruction.ReconstructionPixelSpacing = source.PixelSpacing
    reconstruction.ReconstructionAngle, reconstruction.ImageFilter = 360.0, "NONE"
    event = Dataset()
    event.IrradiationEventUID = result_uid(source.SeriesInstanceUID, "irradiation")
    return {
        "IrradiationEventIdentificationSequence": event,
        "CTImageFrameTypeSequence": kind,
        "FrameAnatomySequence": anatomy,
        "CTReconstructionSequence": reconstruction,
    }
