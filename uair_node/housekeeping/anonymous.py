"""DICOM objects without what tells a person, a place or a time.

Not a list of what to remove but of what to keep: geometry, pixels, coded concepts, our own words. Whatever a
scanner or a PACS adds, private elements among it, is left out. Stricter than the Basic Profile of PS3.15 E.1
with Retain Device Identity switched off, and good for support, not for research: most of a header is gone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from uair_node.codestreams import require_matching_codestreams

_KEPT_GROUPS = frozenset({0x0020, 0x0028, 0x0062, 0x5200})
"""Relationship, image presentation, segmentation, functional groups: their numbers, codes, sequences."""

_KEPT_NUMBERS = frozenset(
    {"DS", "IS", "US", "SS", "UL", "SL", "FD", "FL", "AT", "CS", "UI", "SQ", "OB", "OW"}
)

_KEPT = frozenset(
    {
        "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID", "SeriesInstanceUID",
        "ReferencedSeriesSequence", "ReferencedInstanceSequence", "ReferencedSOPClassUID",
        "ReferencedSOPInstanceUID", "SourceImageSequence", "DerivationImageSequence",
        "DerivationCodeSequence", "PurposeOfReferenceCodeSequence", "SpatialLocationsPreserved",
        "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion",
        "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt", "KVP", "PatientPosition",
        "SegmentLabel", "SegmentDescription", "TrackingID", "PixelData",
    }
)  # fmt: skip
_STANDARD_ROOT = "1.2.840.10008."

_METHOD = "UAIR export: geometry, pixels and coded concepts kept"
_METHOD_WITHOUT_PIXELS = "UAIR export: geometry and coded concepts kept"


class Pseudonyms:
    """New UIDs for old ones: the same for the same within one export, unrelated in another."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def uid(self, old: str) -> str:
        """Return a UID's pseudonym; what the standard defines stays."""
        if not old or old.startswith(_STANDARD_ROOT):
            return old
        digest = hmac.new(self._key, old.encode(), hashlib.sha256).digest()
        return f"2.25.{int.from_bytes(digest[:15], 'big')}"

    def dataset(self, source: Dataset) -> Dataset:
        """Return what is kept of a data set, its sequences too."""
        kept = Dataset()
        for element in source:
            if not _is_kept(element.tag.group, element.keyword, element.VR):
                continue
            if element.VR == "SQ":
                setattr(kept, element.keyword, [self.dataset(item) for item in element.value])
            elif element.VR == "UI":
                values = [element.value] if isinstance(element.value, str) else list(element.value)
                setattr(kept, element.keyword, [self.uid(str(one)) for one in values])
            else:
                kept.add(element)
        return kept

    def file(self, source: Dataset) -> Dataset:
        """Return a whole object, ready to be saved, uncompressed; without pixels that do not decode."""
        decoded = _decompress(source)
        kept = self.dataset(source)
        kept.PatientName, kept.PatientID = "ANONYMOUS", "ANONYMOUS"
        kept.PatientIdentityRemoved = "YES"
        kept.DeidentificationMethod = _METHOD if decoded else _METHOD_WITHOUT_PIXELS
        kept.file_meta = FileMetaDataset()
        kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        kept.file_meta.MediaStorageSOPClassUID = UID(kept.SOPClassUID)
        kept.file_meta.MediaStorageSOPInstanceUID = UID(kept.SOPInstanceUID)
        return kept


def _is_kept(group: int, keyword: str, vr: str) -> bool:
    # Private and unknown elements have no keyword.
    return bool(keyword) and (keyword in _KEPT or (group in _KEPT_GROUPS and vr in _KEPT_NUMBERS))


def _decompress(source: Dataset) -> bool:
    """Decode the pixels in place; False, and no pixels any more, where they do not decode."""
    if not source.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in source:
        return True
    try:
        require_matching_codestreams(source)
        source.decompress()
    except Exception:  # decoders raise what they like on damaged or unsupported streams
        del source.PixelData
        return False
    return True
