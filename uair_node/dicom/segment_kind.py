"""The structure that a segment of a foreign SEG shows: organ, lesion, another structure, or unknown.

This module has the codes that writers use; `uair_node.dicom.segment_words` has the words. Codes decide before
words: if a code names another structure, then the label does not matter. The anatomic region of a segment
counts as a code. Voxels are not read here. If neither codes nor words decide, then
`uair_node.dicom.segment_targets` compares places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.modalities.profile import LIVER, Organ
from uair_node.dicom.segment_words import (
    SegmentKind,
    kind_of_words,
    may_be_shown,
    names_lesion,
    names_other,
    names_part,
    names_wider_region,
    organ_words,
    plain,
)

_SCT = dictionary.SCT
_LIVER_CODES = (
    LIVER.code,
    Code("181268008", "SCT", "Entire liver"),
    Code("7197", "FMA", "Liver"),
    Code("RID58", "RADLEX", "Liver"),
    Code("C0023884", "UMLS", "Liver"),
    Code("C12392", "NCIt", "Liver"),
)
_LIVER_PARTS = (
    _SCT.CouinaudHepaticSegmentI,
    _SCT.CouinaudHepaticSegmentII,
    _SCT.CouinaudHepaticSegmentIII,
    _SCT.CouinaudHepaticSegmentIV,
    _SCT.CouinaudHepaticSegmentV,
    _SCT.CouinaudHepaticSegmentVI,
    _SCT.CouinaudHepaticSegmentVII,
    _SCT.CouinaudHepaticSegmentVIII,
)
_LESION_CODES = (
    codes.LESION,
    _SCT.Neoplasm,
    _SCT.NeoplasmPrimary,
    _SCT.NeoplasmSecondary,
    _SCT.Metastasis,
    _SCT.Mass,
    _SCT.Nodule,
    _SCT.Cyst,
    Code("RID38780", "RADLEX", "lesion"),
    Code("C0221198", "UMLS", "Lesion"),
    Code("C0027651", "UMLS", "Neoplasm"),
    Code("C3824", "NCIt", "Lesion"),
    Code("C3262", "NCIt", "Neoplasm"),
)
_ORGAN_UNNAMED = Code("113343008", "SCT", "Body organ")
_UNTELLING_CODES = (
    Code("85756007", "SCT", "Tissue"),
    Code("87784001", "SCT", "Soft tissue"),
    codes.ANATOMICAL_STRUCTURE,
    codes.MORPHOLOGICALLY_ABNORMAL,
    _ORGAN_UNNAMED,
    Code("123037004", "SCT", "Body structure"),
    Code("261665006", "SCT", "Unknown"),
    Code("111099", "DCM", "Selected region"),
)
"""Codes that viewers write when the user chose no term."""
_WIDER_REGIONS = (
    Code("818981001", "SCT", "Abdomen"),
    Code("818982008", "SCT", "Abdomen and Pelvis"),
    Code("113345001", "SCT", "Abdomen"),
    Code("80581009", "SCT", "Upper abdomen"),
    Code("303270005", "SCT", "Liver and biliary structure"),
    Code("38266002", "SCT", "Entire body"),
    Code("22943007", "SCT", "Trunk"),
)
"""Regions that contain the organ and other structures. They do not decide what a segment is."""
_CATEGORIES_OF_THINGS = (
    codes.PHYSICAL_OBJECT,
    Code("105590001", "SCT", "Substance"),
    Code("91720002", "SCT", "Body substance"),
    Code("246464006", "SCT", "Function"),
)
_REGIONS = {
    "AnatomicRegionSequence": "AnatomicRegionModifierSequence",
    "PrimaryAnatomicStructureSequence": "PrimaryAnatomicStructureModifierSequence",
}
"""Sequence that names a region -> the sequence in its items that names a part of the region."""
_STANDARD_SCHEMES = ("SCT", "SRT", "DCM", "FMA", "RADLEX", "UMLS", "NCIt")
_SRT_NAMES = ("SNM3", "99SDM")
"""Older designators of the coding scheme SRT (PS3.16 8)."""


def kind_of(segment: Dataset, organ: Organ) -> SegmentKind:
    """Return the structure of an item of the Segment Sequence (PS3.3 C.8.20.2), without its voxels.

    1. The anatomic region: if it is neither `organ` nor a region around `organ`, then the segment is another
    structure.
    2. The coded property type: the organ, a lesion, or something else. If the modifier of type or region is a
    side or a part, then the segment is another structure: a part of the organ. If the modifier is a lesion,
    then the segment is a lesion.
    3. If the type is unspecific ("Tissue"), then the category decides, then the words of the label.

    Codes of a private scheme count as words: their meaning is read.
    """
    regions = [code for keyword in _REGIONS for code in _coded(segment, keyword)]
    if any(_is_elsewhere(code, organ) for code in regions):
        return SegmentKind.OTHER
    words = kind_of_words(_label(segment), organ)
    kind = _kind_of_types(segment, organ)
    if kind is SegmentKind.UNSPECIFIED and any(
        _among(code, _CATEGORIES_OF_THINGS)
        for code in _coded(segment, "SegmentedPropertyCategoryCodeSequence")
    ):
        return SegmentKind.OTHER
    in_organ = any(_is_organ(code, organ) for code in regions)
    if kind is words is SegmentKind.UNSPECIFIED and in_organ and _ORGAN_UNNAMED in property_types(segment):
        kind = SegmentKind.ORGAN
    if kind is SegmentKind.ORGAN and _has_part_as_modifier(segment):
        return SegmentKind.OTHER
    if (
        kind is SegmentKind.LESION
        and not regions
        and words is SegmentKind.OTHER
        and names_lesion(_label(segment))
    ):
        return SegmentKind.OTHER  # "kidney cyst", coded as a cyst without a region
    return words if kind is SegmentKind.UNSPECIFIED else kind


def property_types(segment: Dataset) -> list[Code]:
    """Return the coded property types of a segment, and the modifiers that make it a lesion."""
    found = _coded(segment, "SegmentedPropertyTypeCodeSequence")
    return [*found, *(code for code in _modifiers(segment) if _among(code, _LESION_CODES))]


def speak_of(number: int, segment: Dataset, organ: Organ, noun: str = "segment") -> str:
    """Return a name for a segment: `noun`, number, and its label if all words are anatomical or numbers.

    Any other label may contain a person's name and is left out.
    """
    label = " ".join(_label(segment).split())
    words = plain(label).split()
    if words and len(label) <= 48 and label.isascii() and all(may_be_shown(word, organ) for word in words):
        return f'{noun} {number} "{label}"'
    return f"{noun} {number}"


def _label(segment: Dataset) -> str:
    return str(segment.get("SegmentLabel") or "")


def _kind_of_types(segment: Dataset, organ: Organ) -> SegmentKind:
    """Return the structure of the first known property type. Organ and lesion together mean a lesion."""
    kinds = [_kind_of_type(code, organ) for code in property_types(segment)]
    known = [kind for kind in kinds if kind is not SegmentKind.UNSPECIFIED]
    if known[:1] == [SegmentKind.ORGAN] and SegmentKind.LESION in known:
        return SegmentKind.LESION
    return known[0] if known else SegmentKind.UNSPECIFIED


def _kind_of_type(code: Code, organ: Organ) -> SegmentKind:
    if _is_organ(code, organ):
        return SegmentKind.ORGAN
    if _among(code, _LESION_CODES):
        return SegmentKind.LESION
    if _among(code, _UNTELLING_CODES):
        return SegmentKind.UNSPECIFIED
    by_meaning = kind_of_words(code.meaning, organ)
    if code.scheme_designator not in _STANDARD_SCHEMES:
        return by_meaning
    # Hundreds of codes name a kind of lesion. Only the codes above name the organ.
    return SegmentKind.LESION if by_meaning is SegmentKind.LESION else SegmentKind.OTHER


def _is_organ(code: Code, organ: Organ) -> bool:
    return _among(code, _LIVER_CODES if organ == LIVER else (organ.code,))


def _is_elsewhere(code: Code, organ: Organ) -> bool:
    if _is_organ(code, organ) or _among(code, (*_WIDER_REGIONS, *_UNTELLING_CODES)):
        return False
    if organ == LIVER and _among(code, _LIVER_PARTS):
        return False
    if names_wider_region(code.meaning):
        return False
    others = names_other(code.meaning, organ)
    if organ_words(organ).search(plain(code.meaning)):  # "Right lobe of liver", in any scheme
        return others
    return others or code.scheme_designator in _STANDARD_SCHEMES


def _has_part_as_modifier(segment: Dataset) -> bool:
    places = [
        code
        for keyword, modifier in _REGIONS.items()
        for item in segment.get(keyword) or ()
        for code in _coded(item, modifier)
    ]
    return any(
        _among(code, (_SCT.Left, _SCT.Right)) or names_part(code.meaning)
        for code in [*places, *_modifiers(segment)]
    )


def _modifiers(segment: Dataset) -> Iterator[Code]:
    for item in segment.get("SegmentedPropertyTypeCodeSequence") or ():
        yield from _coded(item, "SegmentedPropertyTypeModifierCodeSequence")


def _coded(dataset: Dataset, keyword: str) -> list[Code]:
    """Return the codes of a sequence (PS3.3 8.8). Items without a value or a scheme are left out."""
    found = []
    for item in dataset.get(keyword) or ():
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
        scheme = str(item.get("CodingSchemeDesignator") or "").strip()
        if value and scheme:
            scheme = "SRT" if scheme in _SRT_NAMES else scheme
            found.append(Code(str(value).strip(), scheme, str(item.get("CodeMeaning") or "")))
    return found


def _among(code: Code, known: Sequence[Code]) -> bool:
    """Return whether a code is one of `known`. Retired SRT codes equal the SCT codes that replaced them."""
    return any(code == other for other in known)
