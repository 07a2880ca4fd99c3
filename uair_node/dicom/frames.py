"""Describe each frame of a multi-frame image as if it were a single-frame image.

This module copies functional groups (PS3.3 C.7.6.16) to the attributes that CT Image Storage has at its root.
So code that reads headers does not depend on the SOP class. This module refuses no image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_CONTRAST, _ADMINISTRATION = "ContrastBolusAgentSequence", "ContrastAdministrationProfileSequence"
_MAPPING = "RealWorldValueMappingSequence"

_GROUPS: dict[str, dict[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
    "PixelValueTransformationSequence": {
        "RescaleIntercept": "RescaleIntercept",
        "RescaleSlope": "RescaleSlope",
        "RescaleType": "RescaleType",
    },
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "CTXRayDetailsSequence": {"KVP": "KVP"},
    "FrameContentSequence": {
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "TemporalPositionIndex": "TemporalPositionIndex",
        "StackID": "StackID",
    },
}
"""Functional group (PS3.3 C.7.6.16.2, C.8.15.3) -> its attributes, and their single-frame names."""

_NOT_OF_A_FRAME = frozenset(Tag(keyword) for keyword in (_SHARED, _PER_FRAME, _CONTRAST, "PixelData"))
_UNREADABLE = (ValueError, TypeError, NotImplementedError)
"""Exceptions of pydicom for values that do not have the form of their VR."""


@dataclass(frozen=True)
class Frame:
    """One frame, or a single-frame image.

    Attributes
    ----------
    number
        Frame number from 1, as in Referenced Frame Number; None for a single-frame image.
    header
        The frame's attributes, by their single-frame names.
    """

    number: int | None
    header: Dataset


def read_frames(source: Path | BinaryIO, keywords: Iterable[str]) -> list[Frame]:
    """Read some attributes of each frame of a DICOM file, without its pixels.

    The function raises pydicom's exceptions.
    """
    tags = [Tag(keyword) for keyword in (*keywords, _SHARED, _PER_FRAME, _CONTRAST)]
    return describe_frames(pydicom.dcmread(source, stop_before_pixels=True, specific_tags=tags))


def is_of_the_disk(error: Exception) -> bool:
    """Return whether reading failed because of disk or memory, not because of the file's content.

    If a sequence ends too early, then pydicom raises an OSError, too, but without an error number.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def describe_frames(image: Dataset) -> list[Frame]:
    """Return the frames of an image, each with the root's attributes and those of its functional groups.

    A frame's own functional group has priority over the shared group (PS3.3 C.7.6.16.1). Each returned frame
    has Number of Frames 1. If the number of descriptions differs from the number of frames, then the whole
    image is returned as frame 1.
    """
    own = image.get(_PER_FRAME)
    if not own:
        return [Frame(None, image)]
    if len(own) != int(image.get("NumberOfFrames") or 1):
        return [Frame(1, image)]
    shared, root = _first(image, _SHARED), _root(image)
    return [Frame(number, _header(image, root, groups, shared)) for number, groups in enumerate(own, 1)]


def _root(image: Dataset) -> Dataset:
    """Return the attributes that all frames have in common."""
    root = Dataset()
    for tag in image.keys() - _NOT_OF_A_FRAME:
        try:
            root[tag] = image[tag]
        except _UNREADABLE:
            continue  # counts as absent, as in a single-frame image
    agent = _first(image, _CONTRAST)
    _take(root, "ContrastBolusAgent", _value(agent, "CodeMeaning"))
    _take(root, "ContrastBolusStartTime", _value(_first(agent, _ADMINISTRATION), "ContrastBolusStartTime"))
    _take(root, "NumberOfFrames", 1)
    return root


def _header(image: Dataset, root: Dataset, own: Dataset, shared: Dataset) -> Dataset:
    header = Dataset()
    header.update(root)
    header.file_meta = image.file_meta
    for group, names in _GROUPS.items():
        item = _first(own, group) or _first(shared, group)
        for keyword, name in names.items():
            _take(header, name, _value(item, keyword))
    mappings = _value(own, _MAPPING) or _value(shared, _MAPPING)
    if mappings:
        _take(header, _MAPPING, mappings)
    acquired = _value(_first(own, "FrameContentSequence"), "FrameAcquisitionDateTime")
    _take(header, "AcquisitionTime", str(acquired)[8:] if acquired else None)  # after YYYYMMDD (PS3.5 6.2)
    return header


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence, or an empty data set."""
    items = _value(dataset, keyword)
    return items[0] if items else Dataset()


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except _UNREADABLE:
        return None


def _take(header: Dataset, keyword: str, value: Any) -> None:
    if value is not None:
        header.add_new(Tag(keyword), dictionary_VR(keyword), value)  # a new element: frames share others
