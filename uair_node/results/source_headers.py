"""Read the headers of a case's source slices for the writers of results.

This module decides which attributes results copy from the source series, and replaces missing or invalid
values. It reads no pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM, format_number_as_ds

from uair_node.dicom.frames import read_frames
from uair_node.dicom.volume import Volume
from uair_node.results.zone import KEYWORD, utc_offset

# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, possibly empty.
_STUDY_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# All attributes that results copy. Real headers contain many more attributes of patient and study. An archive
# does not file objects by these, and many of them are invalid: ages of two characters, empty reference
# sequences, weights in words.
_TAKEN_OVER = (
    *_STUDY_TYPE_2,
    "SpecificCharacterSet",
    KEYWORD,
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfPatientID",
    "SeriesInstanceUID",
    "PositionReferenceIndicator",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_SHARED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_PLANE = ("ImageOrientationPatient", "PixelSpacing", "SliceThickness")


def _sex(value: Any) -> None:
    if value not in ("", "M", "F", "O"):
        raise ValueError("not a Patient's Sex (PS3.3 C.7.1.1)")


# Invalid values of these attributes become empty. Identifiers are copied unchanged, in any form, because
# another Patient ID would file the result under another patient.
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "PatientBirthDate": DA,
    "StudyDate": DA,
    "StudyTime": TM,
    "PatientSex": _sex,
}


def source_headers(volume: Volume) -> list[Dataset]:
    """Read the headers of `volume`'s slices, completed so that objects can be derived from them.

    Returns
    -------
    list of Dataset
        A header for each slice, in axis-0 order. The first header has the attributes of patient, study and
        series that results copy. All further headers have only identity and position. Frames of the same
        image share its UID.

        Attributes of patient and study that are missing or invalid are empty. If the Frame of Reference UID,
        orientation, spacing or position is missing, then the header has the value that the volume assumed. If
        the time zone is missing, then the header has this machine's zone. All headers have the same
        orientation and spacing, because the gate found them equal in all slices within its tolerance.
    """
    frames = {
        (path, frame.number): frame.header
        for path in dict.fromkeys(slice_.path for slice_ in volume.slices)
        for frame in read_frames(path, (*_TAKEN_OVER, *_PLANE, "ImagePositionPatient", "NumberOfFrames"))
    }
    sources = [frames[slice_.path, slice_.frame] for slice_ in volume.slices]
    first = _study(sources[0])
    _describe_plane(first, sources[0], volume)
    headers = [first]
    for _ in volume.slices[1:]:
        header = Dataset()
        for keyword in _SHARED:
            header[keyword] = first[keyword]
        headers.append(header)
    for k, (slice_, source, header) in enumerate(zip(volume.slices, sources, headers, strict=True)):
        header.SOPInstanceUID = slice_.sop_instance_uid
        header.SOPClassUID = slice_.sop_class_uid
        # The slice's own position has priority, because viewers match frames to slices by this position.
        computed = volume.affine[:3, 3] + k * volume.affine[:3, 0]
        header.ImagePositionPatient = _decimal(source.get("ImagePositionPatient") or computed)
    return headers


def _study(source: Dataset) -> Dataset:
    header = Dataset()
    for keyword in _TAKEN_OVER:
        if keyword in source:
            header[keyword] = source[keyword]
    for keyword in _STUDY_TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword, check in _CHECKS.items():
        try:
            check(header[keyword].value)
        except (ValueError, TypeError):
            setattr(header, keyword, "")
    setattr(header, KEYWORD, utc_offset(header))
    return header


def _describe_plane(header: Dataset, source: Dataset, volume: Volume) -> None:
    header.FrameOfReferenceUID = volume.frame_of_reference_uid
    header.Rows, header.Columns = volume.shape[1:]
    slice_mm, row_mm, column_mm = volume.spacing_mm
    # Image Orientation names first the direction in which the column index grows (PS3.3 C.7.6.2.1.1).
    assumed = np.concatenate([volume.affine[:3, 2] / column_mm, volume.affine[:3, 1] / row_mm])
    header.ImageOrientationPatient = _decimal(source.get("ImageOrientationPatient") or assumed)
    header.PixelSpacing = _decimal(source.get("PixelSpacing") or (row_mm, column_mm))
    (header.SliceThickness,) = _decimal([source.get("SliceThickness") or slice_mm])
    # The measured value, because the value in the header is often wrong.
    (header.SpacingBetweenSlices,) = _decimal([slice_mm])


def _decimal(values: Sequence[Any] | np.ndarray[Any, Any]) -> list[str]:
    """Return numbers as DS texts of at most 16 characters (PS3.5 6.2). Some sources exceed that length."""
    return [format_number_as_ds(float(value)) for value in values]
