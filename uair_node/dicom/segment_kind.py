"""What a segment of somebody else's SEG shows: the organ, a lesion of it, something else, or untold.

Owns the codes and words by which writers tell it. Codes decide before words: a segment whose code names
another structure is that structure, whatever its label says. The anatomic region of a segment counts as a
code. Knows no voxels: where neither codes nor words tell, `uair_node.dicom.segment_targets` compares
places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.modalities.profile import LIVER, Organ

_SCT = dictionary.SCT
_LIVER_CODES = (
    LIVER.code,
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
"""What viewers write when nobody chose a term."""
_WIDER_REGIONS = (
    Code("818981001", "SCT", "Abdomen"),
    Code("818982008", "SCT", "Abdomen and Pelvis"),
    Code("113345001", "SCT", "Abdomen"),
    Code("80581009", "SCT", "Upper abdomen"),
    Code("303270005", "SCT", "Liver and biliary structure"),
    Code("38266002", "SCT", "Entire body"),
    Code("22943007", "SCT", "Trunk"),
)
"""Regions that hold the organ and other structures: they tell nothing."""
_CATEGORIES_OF_THINGS = (
    Code("260787004", "SCT", "Physical object"),
    Code("105590001", "SCT", "Substance"),
    Code("91720002", "SCT", "Body substance"),
    Code("246464006", "SCT", "Function"),
)
_REGIONS = ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence")
_STANDARD_SCHEMES = ("SCT", "SRT", "DCM", "FMA", "RADLEX", "UMLS", "NCIt")
_SRT_NAMES = ("SNM3", "99SDM")
"""Older designators of SRT (PS3.16 8)."""

_LESION_WORDS = re.compile(
    r"lesion|läsion|lésion|lesión|lesão|tumou?r|tumeur|tumore|metast|métast|nodul|knoten|herd\b|cyst|kyste"
    r"|zyste|quiste|cisti\b|neoplas|carcinom|karzinom|adenom|h[ae]+mangiom|hémangiom|angiom|abs[cz]es|abcès"
    r"|malign|cancer|krebs|\bmass(?:e|a)?\b|\bhccs?\b|\bicc\b|\bcrlm\b|\bfnh\b|\bgtv\w*"
)
_LIVER_WORDS = re.compile(
    r"\bliver\b|\bleber(?!ve|ge|ar|pf|seg|lap)|\bfoie\b|\bh[ií]gado\b|\bf[eé]gato\b|\bhepar\b|h[eé]pati[ckqt]"
    r"|\bepatic|\bleverw?\b|\bwątroba\b|\bkaraciğer\b|肝"
)
_WITH_OR_WITHOUT = re.compile(
    r"\b(?:with(?:out)?|minus|excluding|including|ohne|mit|sans|avec|sin|con|senza)\b.*(?:lesion|läs|lés|t[ui]mo|tumeur)"
    r"|\bnon tumo"
)
_PART_WORDS = re.compile(
    r"\blobes?\b|\blob[uo]\w*\b|lappen|couinaud|caudate|caudatus|segment|\bhilum\b|\bhilus\b"
)
_UNNUMBERED_SEGMENT = re.compile(r"segment(?:ation|ierung|ación|azione)?\W*\w{0,4}")
_OTHER_STEMS = (
    "vessel vascul gefäß gefaess gefäss vaisseau vaso vein veine vene vena venen venous venös arter "
    "aorta cava portal portae pfortader ivc thromb stent catheter katheter needle drain clip coil "
    "spleen splen milz bazo kidney renal niere rein rinon riñon riñón rene nephr adrenal nebenniere "
    "surrén stomach gastr magen estomac estóma stomaco pancrea pankrea páncrea duoden duodén bowel "
    "intestin darm colon kolon rectum bladder gallbladder gallen blase vésicule vesícula colecist "
    "cistifel bile biliar biliär cholecyst ductus duct lymph ganglio lung lunge pulmon poumon heart "
    "herz cardia coeur corazón bone knochen rib rippe vertebra wirbel spine muscle muskel psoas skin "
    "haut body körper esophag oesophag ösophag speiseröhre trachea bronch prostat uterus ovar brain "
    "hirn thyroid breast mamma ascites aszites fluid background hintergrund artifact artefact artefakt "
    "diaphragm zwerchfell peritone omentum mesenter pleura abdomen rate ptv ctv "
)
"""Beginnings of words for other structures in the languages of the sites, separated by spaces."""
_OTHER_WORDS = re.compile(rf"(?:\b|(?<=leber))(?:{'|'.join(_OTHER_STEMS.split())})")
_ALWAYS_OTHER = re.compile(r"thromb|\bptv|\bctv|stent|background|hintergrund|art[ei]fa[ck]t")
_SHOWN_WORDS = re.compile(
    r"segment(?:ation|s)?|lesions?|tumou?rs?|cysts?|mass|left|right|links|rechts|gauche|droite?|upper|lower|common|inferior"
    r"|superior|and|with|without|of|the|und|et|i|ii|iii|iv|v|vi|vii|viii|[a-d]|\d{1,3}|hepatic|lobe|artery|arteries"
)


class SegmentKind(StrEnum):
    """What a segment shows."""

    ORGAN = "organ"
    LESION = "lesion"
    OTHER = "other"
    UNTOLD = "untold"


def kind_of(segment: Dataset, organ: Organ) -> SegmentKind:
    """Tell what an item of the Segment Sequence (PS3.3 C.8.20.2) shows, without its voxels.

    1. The anatomic region: another one than `organ`, or than what holds it, makes it something else.
    2. The coded property type: the organ, a lesion, or something else. A side or a part as its modifier
       makes the organ a part of it, hence something else.
    3. Where the type is one of those that tell nothing ("Tissue"): the category, then the words of the label.

    Codes of a scheme that is not a standard one count as words, by their meaning.
    """
    regions = [
        *_coded(segment, "AnatomicRegionSequence"),
        *_coded(segment, "PrimaryAnatomicStructureSequence"),
    ]
    if any(_is_elsewhere(code, organ) for code in regions):
        return SegmentKind.OTHER
    words = _kind_of_words(str(segment.get("SegmentLabel", "")), organ)
    kinds = [_kind_of_type(code, organ) for code in property_types(segment)]
    kind = next((kind for kind in kinds if kind is not SegmentKind.UNTOLD), SegmentKind.UNTOLD)
    if kind is SegmentKind.ORGAN and _has_part_as_modifier(segment):
        return SegmentKind.OTHER
    if kind is SegmentKind.LESION and not regions and words is SegmentKind.OTHER and _tells_lesion(segment):
        return SegmentKind.OTHER  # "kidney cyst", coded as a cyst without a region
    if kind is not SegmentKind.UNTOLD:
        return kind
    if any(
        _among(code, _CATEGORIES_OF_THINGS)
        for code in _coded(segment, "SegmentedPropertyCategoryCodeSequence")
    ):
        return SegmentKind.OTHER
    if words is SegmentKind.UNTOLD and regions and _ORGAN_UNNAMED in property_types(segment):
        return SegmentKind.ORGAN
    return words


def property_types(segment: Dataset) -> list[Code]:
    """Return the coded property types of a segment, and the modifiers that make it a lesion."""
    found = _coded(segment, "SegmentedPropertyTypeCodeSequence")
    return [*found, *(code for code in _modifiers(segment) if _among(code, _LESION_CODES))]


def speak_of(number: int, segment: Dataset, organ: Organ) -> str:
    """Name a segment: its number, and its label where each word of it is one of anatomy or counting.

    Any other label may hold free text, hence a person's name; it is not repeated.
    """
    label = " ".join(str(segment.get("SegmentLabel", "")).split())
    words = _plain(label).split()
    if words and len(label) <= 48 and label.isascii() and all(_may_be_shown(word, organ) for word in words):
        return f'segment {number} "{label}"'
    return f"segment {number}"


def _may_be_shown(word: str, organ: Organ) -> bool:
    if _SHOWN_WORDS.fullmatch(word) or word == organ.name.casefold():
        return True
    stems = sorted((stem for stem in _OTHER_STEMS.split() if word.startswith(stem)), key=len)
    return (bool(stems) and len(word) <= len(stems[-1]) + 3) or bool(_LIVER_WORDS.fullmatch(word))


def _kind_of_type(code: Code, organ: Organ) -> SegmentKind:
    if _is_organ(code, organ):
        return SegmentKind.ORGAN
    if _among(code, _LESION_CODES):
        return SegmentKind.LESION
    if _among(code, _UNTELLING_CODES):
        return SegmentKind.UNTOLD
    by_meaning = _kind_of_words(code.meaning, organ)
    if code.scheme_designator not in _STANDARD_SCHEMES:
        return by_meaning
    # Hundreds of codes name a kind of lesion; none but those above names the organ.
    return SegmentKind.LESION if by_meaning is SegmentKind.LESION else SegmentKind.OTHER


def _kind_of_words(words: str, organ: Organ) -> SegmentKind:
    plain = _plain(words)
    names_organ = bool(_organ_words(organ).search(plain))
    names_lesion = bool(_LESION_WORDS.search(plain))
    if _ALWAYS_OTHER.search(plain):
        return SegmentKind.OTHER
    others = _OTHER_WORDS.search(_organ_words(organ).sub(" ", plain))
    if names_lesion:
        if names_organ and _WITH_OR_WITHOUT.search(plain):
            return SegmentKind.ORGAN  # "liver with lesions", "liver without tumour"
        if others and not names_organ:  # a metastasis of the breast, or in it?
            return SegmentKind.UNTOLD if "etast" in plain else SegmentKind.OTHER
        return SegmentKind.LESION
    if others:
        return SegmentKind.OTHER
    if names_organ or plain.startswith("leber"):
        return SegmentKind.OTHER if _PART_WORDS.search(plain) else SegmentKind.ORGAN
    if _PART_WORDS.search(plain) and not _UNNUMBERED_SEGMENT.fullmatch(plain):
        return SegmentKind.OTHER
    return SegmentKind.UNTOLD


def _organ_words(organ: Organ) -> re.Pattern[str]:
    return _LIVER_WORDS if organ == LIVER else re.compile(rf"\b{re.escape(organ.name.casefold())}\b")


def _plain(words: str) -> str:
    """Return words in lower case with one space between them, as "liver_vessels" and "LiverVessels" are."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)
    return " ".join(re.sub(r"[\W_]+", " ", split).casefold().split())


def _tells_lesion(segment: Dataset) -> bool:
    return bool(_LESION_WORDS.search(_plain(str(segment.get("SegmentLabel", "")))))


def _is_organ(code: Code, organ: Organ) -> bool:
    return _among(code, _LIVER_CODES if organ == LIVER else (organ.code,))


def _is_elsewhere(code: Code, organ: Organ) -> bool:
    if _is_organ(code, organ) or _among(code, (*_WIDER_REGIONS, *_UNTELLING_CODES)):
        return False
    if organ == LIVER and _among(code, _LIVER_PARTS):
        return False
    meaning = _plain(code.meaning)
    others = bool(_OTHER_WORDS.search(_organ_words(organ).sub(" ", meaning)))
    if _organ_words(organ).search(meaning):  # "Right lobe of liver", in any scheme
        return others
    return others or code.scheme_designator in _STANDARD_SCHEMES


def _has_part_as_modifier(segment: Dataset) -> bool:
    sides = (_SCT.Left, _SCT.Right)
    return any(
        _among(code, sides) or _PART_WORDS.search(_plain(code.meaning)) for code in _modifiers(segment)
    )


def _modifiers(segment: Dataset) -> Iterator[Code]:
    for item in segment.get("SegmentedPropertyTypeCodeSequence") or ():
        yield from _coded(item, "SegmentedPropertyTypeModifierCodeSequence")


def _coded(dataset: Dataset, keyword: str) -> list[Code]:
    """Return the codes of a sequence (PS3.3 8.8); an item without a value or a scheme tells nothing."""
    found = []
    for item in dataset.get(keyword) or ():
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
        scheme = str(item.get("CodingSchemeDesignator") or "").strip()
        if value and scheme:
            scheme = "SRT" if scheme in _SRT_NAMES else scheme
            found.append(Code(str(value).strip(), scheme, str(item.get("CodeMeaning") or "")))
    return found


def _among(code: Code, known: Sequence[Code]) -> bool:
    """Tell whether a code is one of `known`; retired SRT codes equal their SCT successors."""
    return any(code == other for other in known)
