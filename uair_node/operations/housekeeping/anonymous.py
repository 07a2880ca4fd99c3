"""Make DICOM objects anonymous: without values that identify a person, a place or a time.

The export keeps elements of an allow-list (`kept_elements`): geometry, pixels, coded concepts, our own words.
All other elements are left out, including private elements. The export is stricter than the Basic Profile of
PS3.15 E.1 with Retain Device Identity switched off. It is made for support and not for research, because most
elements of a header are removed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

import numpy as np
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SegmentationStorage,
)

from dicom_config import codes
from dicom_config.errors import InputError
from uair_node.dicom.codestreams import require_matching_codestreams
from uair_node.operations.housekeeping.kept_elements import (
    CHECKS,
    CODE_SEQUENCES,
    SEQUENCES,
    UIDS,
    known_code,
    segment_label,
)

UNREADABLE = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, NotImplementedError)
"""Exceptions that pydicom raises if a value does not have the form of its VR."""
_DEEPEST = 8
_METHOD = "UAIR export: geometry, pixels and coded concepts kept"
_METHOD_WITHOUT_PIXELS = "UAIR export: geometry and coded concepts kept"

_ACQUIRED = frozenset(
    {
        CTImageStorage, EnhancedCTImageStorage, MRImageStorage, EnhancedMRImageStorage,
        PositronEmissionTomographyImageStorage, SegmentationStorage,
    }
)  # fmt: skip
"""SOP Classes whose pixels are measured or computed.

Objects of other classes can also contain screens, scanned documents and photographs.
"""
_SCREENS = ("SCREEN", "DOSE", "REPORT")
"""Texts in the Image Type of CT and MR objects that are pictures of text."""


class Pseudonyms:
    """Pseudonyms for UIDs.

    Within an export, equal UIDs get equal pseudonyms. Another export has different pseudonyms.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def uid(self, old: str) -> str:
        """Return the pseudonym of a UID. A UID that the DICOM standard defines is returned unchanged."""
        if not old or UID(old, validation_mode=config.IGNORE).name != old:
            return old
        digest = hmac.new(self._key, old.encode(), hashlib.sha256).digest()
        return f"2.25.{int.from_bytes(digest[:15], 'big')}"

    def dataset(self, source: Dataset, depth: int = 0) -> Dataset:
        """Return the kept elements of a data set, and the kept elements in its sequences."""
        kept = Dataset()
        for tag in sorted(source.keys()):
            keyword = keyword_for_tag(tag)  # private and unknown elements have no keyword
            if keyword in CHECKS:
                _keep_checked(kept, source, tag)
            elif keyword in UIDS:
                values = [self.uid(str(value)) for value in _values(source, tag, "UI")]
                _add(kept, tag, "UI", values)
            elif keyword in SEQUENCES and depth < _DEEPEST:
                items = [self.dataset(item, depth + 1) for item in _values(source, tag, "SQ")]
                kept.add_new(tag, "SQ", items)
            elif keyword in CODE_SEQUENCES:
                items = [item for item in map(_coded, _values(source, tag, "SQ")) if item]
                if items:
                    kept.add_new(tag, "SQ", items)
        if "SegmentNumber" in kept:
            _name_segment(kept, source)
        return kept

    def file(self, source: Dataset) -> Dataset:
        """Return a complete anonymous object, uncompressed. Pixel Data that cannot be decoded is left out.

        Raises
        ------
        InputError
            ``burned-in-annotation``: the pixels may show a name.
        """
        with config.disable_value_validation():  # warnings would print values
            _refuse_burned_in(source)
            kept = self._object(source)
        kept.file_meta = FileMetaDataset()
        kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        kept.file_meta.MediaStorageSOPClassUID = UID(kept.SOPClassUID)
        kept.file_meta.MediaStorageSOPInstanceUID = UID(kept.SOPInstanceUID)
        return kept

    def _object(self, source: Dataset) -> Dataset:
        _decompress(source)
        kept = self.dataset(source)
        if "PixelData" in source:
            _keep_pixels(kept, source)
        kept.PatientName, kept.PatientID = "ANONYMOUS", "ANONYMOUS"
        kept.PatientIdentityRemoved = "YES"
        kept.DeidentificationMethod = _METHOD if "PixelData" in kept else _METHOD_WITHOUT_PIXELS
        return kept


def _refuse_burned_in(source: Dataset) -> None:
    """Raise ``burned-in-annotation`` if pixels may show text (PS3.3 C.7.6.1, Burned In Annotation)."""
    stated = [
        _text(source, keyword)
        for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures")
        if keyword in source
    ]
    is_screen = any(word in _text(source, "ImageType") for word in _SCREENS)
    is_measured = source.get("SOPClassUID") in _ACQUIRED and not is_screen
    cleared = stated[:1] == ["NO"] or is_measured
    if cleared and all(value in ("", "NO") for value in stated):
        return
    raise InputError(
        "burned-in-annotation",
        "The pixels of an image may show a name: Burned In Annotation is not NO, or it is a picture of text.",
        "Erase the text, set Burned In Annotation to NO, send the series again, and export the new case.",
    )


def _text(source: Dataset, keyword: str) -> str:
    """Return an element's values as upper-case text; ``?`` if the element cannot be read."""
    try:
        value = source.get(keyword)
    except UNREADABLE:
        return "?"
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    values = value if isinstance(value, (list, MultiValue)) else [value or ""]
    return "\\".join(map(str, values)).strip(" \0").upper()


def _values(source: Dataset, tag: BaseTag, *vrs: str) -> list[Any]:
    """Return an element's values; an empty list if it cannot be read or its VR is not in `vrs`."""
    try:
        element = source[tag]
        value, vr = element.value, element.VR
    except UNREADABLE:
        return []
    if vr not in vrs or value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, MultiValue)) or vr == "SQ" else [value]


def _keep_checked(kept: Dataset, source: Dataset, tag: BaseTag) -> None:
    standard = dictionary_VR(tag)
    vrs = standard.split(" or ")
    values = _values(source, tag, standard, *vrs)
    vr = vrs[0]
    if "SS" in vrs:  # PS3.5 6.2: Pixel Representation decides
        vr = "SS" if kept.get("PixelRepresentation") == 1 else "US"
        values = [_short(value, vr) for value in values]
    try:
        checked = CHECKS[keyword_for_tag(tag)](values)
    except UNREADABLE:
        return
    _add(kept, tag, vr, checked)


def _short(value: Any, vr: str) -> Any:
    """Return a value as a number if pydicom left it as bytes, because the VR is implicit."""
    if isinstance(value, bytes) and len(value) == 2:
        return int.from_bytes(value, "little", signed=vr == "SS")
    return value


def _add(kept: Dataset, tag: BaseTag, vr: str, values: list[Any]) -> None:
    if values:
        kept.add_new(tag, vr, values if len(values) > 1 else values[0])


def _coded(source: Dataset) -> Dataset | None:
    """Return a Code Sequence item with the meaning that the standard defines; None for an unknown code."""
    try:
        code = known_code(source)
    except UNREADABLE:
        return None
    if code is None:
        return None
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = codes.long_string(code.meaning)
    return item


def _name_segment(kept: Dataset, source: Dataset) -> None:
    """Write the texts of a segment (PS3.3 C.8.20.4) in our own words."""
    (label, *_) = [*map(str, _values(source, Tag("SegmentLabel"), "LO")), ""]
    kept.SegmentLabel = segment_label(label, int(kept.SegmentNumber))
    kept.SegmentAlgorithmName = codes.MANUFACTURER
    if "TrackingUID" in kept:
        kept.TrackingID = kept.SegmentLabel


def _keep_pixels(kept: Dataset, source: Dataset) -> None:
    """Copy only the samples of Pixel Data, without unused bits and without bytes after the last sample."""
    is_big = source.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    try:
        samples = (
            int(kept.Rows)
            * int(kept.Columns)
            * int(kept.SamplesPerPixel)
            * int(kept.get("NumberOfFrames", 1))
        )
        content = _bits(source.PixelData, samples) if kept.BitsAllocated == 1 else None
        if content is None:
            content = _samples(source.PixelData, samples, kept, ">" if is_big else "<")
            kept.HighBit = kept.BitsStored - 1
    except UNREADABLE:
        return
    kept.add_new("PixelData", "OW" if kept.BitsAllocated > 8 else "OB", content + b"\0" * (len(content) % 2))


def _bits(data: bytes, count: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8, (count + 7) // 8), count=count, bitorder="little")
    return np.packbits(bits, bitorder="little").tobytes()


def _samples(data: bytes, count: int, kept: Dataset, order: str) -> bytes:
    """Return samples in little endian. Unused bits are zero or the sign, as PS3.5 8.1.1 requires."""
    width = int(kept.BitsAllocated)
    stored = np.frombuffer(data, f"{order}u{width // 8}", count).astype(f"<u{width // 8}")
    above = width - 1 - int(kept.HighBit)
    unused = width - int(kept.BitsStored)
    if not 0 <= above <= unused < width:
        raise ValueError("bits stored and high bit contradict each other")
    shifted = np.left_shift(stored, above)
    if kept.get("PixelRepresentation") == 1:
        shifted = shifted.view(f"<i{width // 8}")
    return np.right_shift(shifted, unused).tobytes()


def _decompress(source: Dataset) -> None:
    """Decode the pixels in place. Pixels that cannot be decoded are removed."""
    if not source.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in source:
        return
    try:
        require_matching_codestreams(source)
        source.decompress()
    except Exception:  # decoders raise any exception on damaged or unsupported streams
        del source.PixelData
