"""Read the header of a slice without its pixels.

A slice is an instance, or a frame of a multi-frame instance. This module decides which attributes are read,
and how tolerantly. A value that is absent, empty or malformed reads as None or as an empty string. The gate
decides whether that is a fault.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_config.errors import InputError
from uair_node.dicom.frames import Frame, is_of_the_disk, read_frames
from uair_node.dicom.hounsfield import name_other_values

_KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "AccessionNumber",
    "Modality",
    "StudyDate",
    "AcquisitionTime",
    "SeriesDescription",
    "ProtocolName",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "SliceThickness",
    "ConvolutionKernel",
    "ScanningSequence",
    "EchoTime",
    "RepetitionTime",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "RealWorldValueMappingSequence",
    "AcquisitionNumber",
    "ImagesInAcquisition",
    "InstanceNumber",
    "ContentTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "StackID",
    "KVP",
    "AcquisitionDateTime",
    "IrradiationEventUID",
    "TriggerTime",
)


class SliceHeader(BaseModel):
    """The attributes of a slice that intake uses. A slice is an instance, or a frame of an instance.

    `repr` leaves out patient-related values, so that a logged record does not show them.

    Attributes
    ----------
    frame
        Frame number in a multi-frame image, from 1; None for a single-frame image.
    position_mm
        Image Position (Patient): LPS of the first voxel's centre, or None.
    orientation
        Image Orientation (Patient): unit direction of increasing column index, then of increasing row index,
        or None.
    pixel_spacing_mm
        (between rows, between columns), or None.
    frames
        Number of Frames; 1 where the attribute is absent, and for each frame of an image that describes its
        frames one by one.
    contrast_start, acquisition_time
        Values of VR TM. The time between the two shows the contrast phase. If Acquisition Time is absent,
        then the time of Acquisition DateTime is used.
    has_rescale
        Whether Rescale Slope (not 0) and Rescale Intercept are both present.
    not_hounsfield
        The reason why the values are not Hounsfield units; empty if they may be.
    temporal_position
        Temporal Position Index, or Temporal Position Identifier.
    instance_number
        Instance Number, by which viewers order images.
    images_in_acquisition
        Images in Acquisition: the number of images that the scanner acquired.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    frame: int | None = None
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    frame_of_reference_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    frames: int = 1
    pixel_spacing_mm: tuple[float, float] | None = None
    position_mm: tuple[float, float, float] | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    has_rescale: bool = False
    not_hounsfield: str = ""
    acquisition_number: int | None = None
    temporal_position: int | None = None
    stack_id: str = ""
    content_time: str = Field("", repr=False)
    kvp: float | None = None
    irradiation_event: str = ""
    trigger_time_ms: float | None = None
    instance_number: int | None = None
    images_in_acquisition: int | None = None
    series_number: int | None = None
    series_description: str = Field("", repr=False)
    protocol_name: str = Field("", repr=False)
    kernel: str = ""
    contrast_agent: str = Field("", repr=False)
    contrast_start: str = Field("", repr=False)
    acquisition_time: str = Field("", repr=False)
    slice_thickness_mm: float | None = None
    scanning_sequence: tuple[str, ...] = ()
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    study_date: str = Field("", repr=False)
    accession_number: str = Field("", repr=False)
    patient_id: str = Field("", repr=False)


def read_slices(source: Path | BinaryIO) -> list[SliceHeader]:
    """Read the headers of a DICOM file (PS3.10): one header, or one for each frame of a multi-frame image.

    Raises
    ------
    InputError
        ``not-dicom``: the file is not DICOM, is damaged, or lacks SOP Class UID or SOP Instance UID.
    """
    try:
        return [_header_of(frame) for frame in read_frames(source, _KEYWORDS)]
    except InvalidDicomError:
        raise _not_dicom() from None
    except Exception as error:
        if is_of_the_disk(error):
            raise
        # Damaged files make pydicom raise anything from struct.error to RecursionError.
        raise _not_dicom() from error


def read_headers(paths: Iterable[Path]) -> list[SliceHeader]:
    """Read the headers of several files, in their order. The function raises the errors of `read_slices`."""
    return [header for path in paths for header in read_slices(path)]


def _header_of(frame: Frame) -> SliceHeader:
    dataset = frame.header
    spacing, position = _floats(dataset, "PixelSpacing", 2), _floats(dataset, "ImagePositionPatient", 3)
    slope = _float(dataset, "RescaleSlope")
    return SliceHeader(
        sop_instance_uid=_required(dataset, "SOPInstanceUID"),
        sop_class_uid=_required(dataset, "SOPClassUID"),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        series_instance_uid=_text(dataset, "SeriesInstanceUID"),
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID"),
        modality=_text(dataset, "Modality"),
        image_type=_texts(dataset, "ImageType"),
        rows=_size(dataset, "Rows"),
        columns=_size(dataset, "Columns"),
        frame=frame.number,
        frames=_integer(dataset, "NumberOfFrames") or 1,
        pixel_spacing_mm=spacing,
        position_mm=position,
        orientation=_floats(dataset, "ImageOrientationPatient", 6),
        has_rescale=bool(slope) and _float(dataset, "RescaleIntercept") is not None,
        not_hounsfield=name_other_values(
            _text(dataset, "RescaleType"), _texts(dataset, "ImageType"), _mapped_units(dataset)
        ),
        acquisition_number=_integer(dataset, "AcquisitionNumber"),
        temporal_position=_first_integer(dataset, "TemporalPositionIndex", "TemporalPositionIdentifier"),
        stack_id=_text(dataset, "StackID"),
        content_time=_text(dataset, "ContentTime"),
        kvp=_float(dataset, "KVP"),
        irradiation_event=_text(dataset, "IrradiationEventUID"),
        trigger_time_ms=_float(dataset, "TriggerTime"),
        instance_number=_integer(dataset, "InstanceNumber"),
        images_in_acquisition=_integer(dataset, "ImagesInAcquisition"),
        series_number=_integer(dataset, "SeriesNumber"),
        series_description=_text(dataset, "SeriesDescription"),
        protocol_name=_text(dataset, "ProtocolName"),
        kernel="/".join(_texts(dataset, "ConvolutionKernel")),
        contrast_agent=_text(dataset, "ContrastBolusAgent"),
        contrast_start=_text(dataset, "ContrastBolusStartTime"),
        # DT begins with YYYYMMDD (PS3.5 6.2).
        acquisition_time=_text(dataset, "AcquisitionTime") or _text(dataset, "AcquisitionDateTime")[8:],
        slice_thickness_mm=_float(dataset, "SliceThickness"),
        scanning_sequence=_texts(dataset, "ScanningSequence"),
        echo_time_ms=_float(dataset, "EchoTime"),
        repetition_time_ms=_float(dataset, "RepetitionTime"),
        study_date=_text(dataset, "StudyDate"),
        accession_number=_text(dataset, "AccessionNumber"),
        patient_id=_text(dataset, "PatientID"),
    )


def assumed_frame_of_reference_uid(series_instance_uid: str) -> str:
    """Return the Frame of Reference UID that is assumed for a series without this UID (PS3.5 B.2).

    The same series always gets the same UID.
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_instance_uid}/frame-of-reference').int}"


def _not_dicom() -> InputError:
    return InputError(
        "not-dicom",
        "This is not a readable DICOM file.",
        "Send the file again; if that fails, export it again.",
    )


def _value(dataset: Dataset, keyword: str) -> Any:
    """Return a value; None if it is absent or cannot be converted to its VR."""
    try:
        return dataset.get(keyword)
    except (ValueError, TypeError, NotImplementedError):
        return None


def _required(dataset: Dataset, keyword: str) -> str:
    text = _text(dataset, keyword)
    if not text:
        raise _not_dicom()
    return text


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(dataset, keyword)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value)


def _integer(dataset: Dataset, keyword: str) -> int | None:
    value = _value(dataset, keyword)
    try:
        return int(value)
    except (ValueError, TypeError):
        return None


def _first_integer(dataset: Dataset, *keywords: str) -> int | None:
    found = (_integer(dataset, keyword) for keyword in keywords)
    return next((number for number in found if number is not None), None)


def _mapped_units(dataset: Dataset) -> tuple[str, ...]:
    """Return the UCUM codes of the units in Real World Value Mapping Sequence (PS3.3 C.7.6.16.2.11)."""
    mappings = _value(dataset, "RealWorldValueMappingSequence") or ()
    units = (unit for item in mappings for unit in _value(item, "MeasurementUnitsCodeSequence") or ())
    return tuple(_text(unit, "CodeValue") for unit in units)


def _size(dataset: Dataset, keyword: str) -> int:
    """Return a number of rows or columns; 0 if it is absent or does not fit the VR US."""
    number = _integer(dataset, keyword) or 0
    return number if 0 < number < 1 << 16 else 0


def _float(dataset: Dataset, keyword: str) -> float | None:
    numbers = _floats(dataset, keyword, 1)
    return float(numbers[0]) if numbers else None


def _floats(dataset: Dataset, keyword: str, count: int) -> Any:
    """Return a tuple of `count` numbers; None if a number is missing or not finite."""
    value = _value(dataset, keyword)
    try:
        numbers = tuple(float(part) for part in (value if count > 1 else (value,)))
    except (ValueError, TypeError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
