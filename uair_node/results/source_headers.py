"""Headers of a case's source slices, as the writers of results need them.

Owns what is taken over from a source series, and what stands in where its headers are imperfect. Reads no
pixels and decides nothing about the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import DA, TM, format_number_as_ds

from uair_node.volume import SourceSlice, Volume

# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, possibly empty.
_TYPE_2 = (
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


def _sex(value: Any) -> None:
    if value not in ("", "M", "F", "O"):
        raise ValueError("not a Patient's Sex (PS3.3 C.7.1.1)")


# Real scanners and anonymizers write other things here; an object of ours must not inherit an invalid value.
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
        One for each slice, in axis-0 order. The first has every attribute that its file has above the
        pixels, the others only what identifies and places them. Attributes of patient and study that are
        missing or invalid are empty; a missing Frame of Reference UID, orientation, spacing or position is
        the one that the volume assumed. All slices share orientation and spacing to the last digit: the
        gate has found them equal within its tolerance.
    """
    first = pydicom.dcmread(volume.slices[0].path, stop_before_pixels=True)
    _complete_study(first)
    _complete_plane(first, volume)
    headers: list[Dataset] = [first]
    for source in volume.slices[1:]:
        headers.append(_identified(source, first))
    for k, (source, header) in enumerate(zip(volume.slices, headers, strict=True)):
        header.SOPInstanceUID = source.sop_instance_uid
        header.SOPClassUID = source.sop_class_uid
        header.ImagePositionPatient = _position(source, volume, k)
    return headers


def _complete_study(header: Dataset) -> None:
    for keyword in _TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword, check in _CHECKS.items():
        try:
            check(header[keyword].value)
        except (ValueError, TypeError):
            setattr(header, keyword, "")


def _complete_plane(header: Dataset, volume: Volume) -> None:
    header.FrameOfReferenceUID = volume.frame_of_reference_uid
    header.Rows, header.Columns = volume.shape[1:]
    row_axis, column_axis = volume.affine[:3, 1], volume.affine[:3, 2]
    if not header.get("ImageOrientationPatient"):
        # Image Orientation names first the direction in which the column index grows (PS3.3 C.7.6.2.1.1).
        cosines = [axis / np.linalg.norm(axis) for axis in (column_axis, row_axis)]
        header.ImageOrientationPatient = _decimal(np.concatenate(cosines))
    else:
        header.ImageOrientationPatient = _decimal(header.ImageOrientationPatient)
    spacing = header.get("PixelSpacing") or [np.linalg.norm(axis) for axis in (row_axis, column_axis)]
    header.PixelSpacing = _decimal(spacing)


def _identified(source: SourceSlice, first: Dataset) -> Dataset:
    header = Dataset()
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "Rows",
        "Columns",
        "ImageOrientationPatient",
        "PixelSpacing",
    ):
        header[keyword] = first[keyword]
    return header


def _position(source: SourceSlice, volume: Volume, k: int) -> list[str]:
    """Prefer the slice's own position: viewers match frames to slices by it."""
    tags = [Tag("ImagePositionPatient")]
    header = pydicom.dcmread(source.path, stop_before_pixels=True, specific_tags=tags)
    stated = header.get("ImagePositionPatient")
    return _decimal(stated or volume.affine[:3, 3] + k * volume.affine[:3, 0])


def _decimal(values: Sequence[Any] | np.ndarray[Any, Any]) -> list[str]:
    """Write numbers as DS of at most 16 characters (PS3.5 6.2); some sources exceed that."""
    return [format_number_as_ds(float(value)) for value in values]
