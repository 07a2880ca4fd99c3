"""Decide which DICOM elements an export keeps, and which of their values.

The allow-list names single elements, never groups or value representations. A value stays only if a check
accepts it. Accepted values are numbers within bounds, defined terms, codes of the standard, and colours of
our segments. No check accepts free text, so no text of a scanner, a PACS or a person stays. UIDs and
sequences are listed here. `uair_node.operations.housekeeping.anonymous` replaces UIDs and reads sequences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag
from pydicom.valuerep import DSfloat

from dicom_config import codes
from dicom_config.modalities import PROFILES

Check = Callable[[Sequence[Any]], list[Any]]
"""A function that returns the values to write. It raises ValueError if the values must be removed."""

_LARGEST = 100_000.0
"""The largest accepted number: coordinate in mm, rescaled value or slice counter.

IDs and dates are mostly larger numbers.
"""
_SMALLEST = 1e-9


def _decimals(*counts: int) -> Check:
    def check(values: Sequence[Any]) -> list[Any]:
        numbers = [float(value) for value in values]
        if len(numbers) not in counts or not all(map(_is_plausible, numbers)):
            raise ValueError("not a number that an image has")
        return [DSfloat(number, auto_format=True) for number in numbers]

    return check


def _is_plausible(number: float) -> bool:
    return number == 0.0 or (math.isfinite(number) and _SMALLEST <= abs(number) <= _LARGEST)


def _integers(least: int, most: int, longest: int = 1) -> Check:
    def check(values: Sequence[Any]) -> list[Any]:
        numbers = [int(value) for value in values]
        if len(numbers) > longest or not all(least <= number <= most for number in numbers):
            raise ValueError("not a number that an image has")
        return numbers

    return check


def _terms(*defined: str, other: str = "") -> Check:
    """Return a check that keeps defined terms (PS3.3).

    `other` replaces all other values. If `other` is empty, then all other values are refused.
    """

    def check(values: Sequence[Any]) -> list[Any]:
        found = [value if value in defined else other for value in map(str, values)]
        if not all(found):
            raise ValueError("not a defined term")
        return found

    return check


def _tags(values: Sequence[Any]) -> list[Any]:
    tags = [BaseTag(value) for value in values]
    if not all(map(dictionary_has_tag, tags)):
        raise ValueError("not an element of the standard")
    return list(tags)


def _colour(values: Sequence[Any]) -> list[Any]:
    ours = {codes.LIVER_COLOUR.cielab, *(colour.cielab for colour in codes.LESION_COLOURS)}
    if tuple(values) not in ours:
        raise ValueError("not one of our colours")
    return list(values)


_COUNTER = _integers(0, 99_999)
_SHORT = _integers(0, 0xFFFF)
_BITS = _integers(0, 32)
_IMAGE_TYPE = _terms(
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "VOLUME", "NONE", "MIXED",
    "REFORMATTED", "MPR", "AVERAGE", "MAX_IP", "MIN_IP", "RESAMPLED", "M", "P", "R", "I", "WATER", "FAT",
    "IN_PHASE", "OUT_OF_PHASE", "NORM", "DIS2D", "DIS3D", other="OTHER",
)  # fmt: skip

CHECKS: dict[str, Check] = {
    # Kind of the image (PS3.3 C.7.6.1, C.8.16).
    "Modality": _terms("CT", "MR", "PT", "SEG"),
    "ImageType": _IMAGE_TYPE,
    "FrameType": _IMAGE_TYPE,
    "BurnedInAnnotation": _terms("NO"),
    "PatientPosition": _terms("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"),
    "LossyImageCompression": _terms("00", "01"),
    "SpatialLocationsPreserved": _terms("YES", "NO", "REORIENTED_ONLY"),
    "PixelPresentation": _terms("MONOCHROME", "COLOR", "MIXED", "TRUE_COLOR"),
    "VolumetricProperties": _terms("VOLUME", "SAMPLED", "DISTORTED", "MIXED"),
    "VolumeBasedCalculationTechnique": _terms("NONE", "MPR", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "MIXED"),
    # Position of the image in mm, LPS (PS3.3 C.7.6.2, C.7.6.16.2).
    "ImagePositionPatient": _decimals(3),
    "ImageOrientationPatient": _decimals(6),
    "PixelSpacing": _decimals(2),
    "SliceThickness": _decimals(1),
    "SpacingBetweenSlices": _decimals(1),
    "SliceLocation": _decimals(1),
    "GantryDetectorTilt": _decimals(1),
    "KVP": _decimals(1),
    # Order of the image in its series.
    "SeriesNumber": _COUNTER,
    "AcquisitionNumber": _COUNTER,
    "InstanceNumber": _COUNTER,
    "NumberOfFrames": _COUNTER,
    "TemporalPositionIdentifier": _COUNTER,
    "NumberOfTemporalPositions": _COUNTER,
    "TemporalPositionIndex": _COUNTER,
    "StackID": _terms("1"),
    "InStackPositionNumber": _COUNTER,
    "DimensionOrganizationType": _terms("3D", "3D_TEMPORAL", "TILED_FULL", "TILED_SPARSE"),
    "DimensionIndexValues": _integers(0, 99_999, longest=8),
    "DimensionIndexPointer": _tags,
    "FunctionalGroupPointer": _tags,
    "ReferencedFrameNumber": _integers(1, 99_999, longest=99_999),
    # Pixels (PS3.3 C.7.6.3) and their meaning (C.11.1, C.11.2).
    "SamplesPerPixel": _integers(1, 4),
    "PhotometricInterpretation": _terms("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL"),
    "PlanarConfiguration": _integers(0, 1),
    "Rows": _SHORT,
    "Columns": _SHORT,
    "BitsAllocated": _BITS,
    "BitsStored": _BITS,
    "HighBit": _BITS,
    "PixelRepresentation": _integers(0, 1),
    "PixelPaddingValue": _integers(-0x8000, 0xFFFF),
    "RescaleIntercept": _decimals(1),
    "RescaleSlope": _decimals(1),
    "RescaleType": _terms("HU", "US", "OD", "MGML", "NONE"),
    "WindowCenter": _decimals(1, 2, 3, 4),
    "WindowWidth": _decimals(1, 2, 3, 4),
    # Segments (PS3.3 C.8.20).
    "SegmentationType": _terms("BINARY", "FRACTIONAL", "LABELMAP"),
    "SegmentationFractionalType": _terms("PROBABILITY", "OCCUPANCY"),
    "MaximumFractionalValue": _SHORT,
    "SegmentsOverlap": _terms("YES", "NO", "UNDEFINED"),
    "SegmentNumber": _SHORT,
    "SegmentAlgorithmType": _terms("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"),
    "ReferencedSegmentNumber": _SHORT,
    "RecommendedDisplayCIELabValue": _colour,
}

UIDS = frozenset(
    {
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
        "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "DimensionOrganizationUID", "ConcatenationUID",
        "TrackingUID",
    }
)  # fmt: skip

CODE_SEQUENCES = frozenset(
    {
        "DerivationCodeSequence", "PurposeOfReferenceCodeSequence", "AnatomicRegionSequence",
        "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence",
    }
)  # fmt: skip

SEQUENCES = frozenset(
    {
        "ReferencedSeriesSequence", "ReferencedInstanceSequence", "SourceImageSequence",
        "DerivationImageSequence", "DimensionOrganizationSequence", "DimensionIndexSequence",
        "SegmentSequence", "SegmentIdentificationSequence", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "FrameContentSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
        "PixelValueTransformationSequence", "FrameVOILUTSequence", "CTImageFrameTypeSequence",
        "MRImageFrameTypeSequence",
    }
)  # fmt: skip

_OWN_CODES = (codes.LIVER, codes.LESION, codes.ANATOMICAL_STRUCTURE, codes.MORPHOLOGICALLY_ABNORMAL)


@cache
def _known_codes() -> dict[tuple[str, str], Code]:
    found = [*standard.DCM.concepts.values(), *standard.SCT.concepts.values(), *_OWN_CODES]
    return {(code.value, code.scheme_designator): code for code in found}


def known_code(item: Dataset) -> Code | None:
    """Return the code of a Code Sequence item with the standard's meaning; None for an unknown code."""
    key = str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))
    return _known_codes().get(key)


_OWN_LABEL = re.compile(
    "|".join(
        [
            *(re.escape(profile.organ.name.capitalize()) for profile in PROFILES.values()),
            r"Lesion [1-9]\d?\d?",
        ]
    ),
    re.ASCII,
)


def segment_label(label: str, number: int) -> str:
    """Return a Segment Label if it is a label of ours; otherwise return a label with the segment's number."""
    return label if _OWN_LABEL.fullmatch(label) else f"Segment {number}"
