"""Classify a segment's label or a code's meaning: organ, lesion or another structure.

The functions take texts in the languages of the sites. A text names the organ only if all its other words are
known to be harmless. "Liver (AI)" is the liver, "Liver surface" is not, and "Liver x" may be.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from dicom_config.modalities.profile import LIVER, Organ


class SegmentKind(StrEnum):
    """The structure that a segment shows.

    Attributes
    ----------
    PERHAPS_ORGAN
        The label has the organ's name and unknown words. The position of the segment's voxels decides
        whether the segment is the organ. The segment is never a lesion.
    """

    ORGAN = "organ"
    LESION = "lesion"
    OTHER = "other"
    PERHAPS_ORGAN = "perhaps organ"
    UNSPECIFIED = "unspecified"


_LETTERS = str.maketrans({"ł": "l", "ø": "o", "ı": "i", "đ": "d", "æ": "ae", "œ": "oe"})

# All patterns below are for the words that `plain` returns: lower case, no accents, one space between words.
_LIVER_WORDS = re.compile(
    r"\bliver\b|\bleber(?!ve|ge|ar|pf|hil|seg|lap)|\bfoie\b|\bhigado\b|\bfigado\b|\bf[ei]gato\b|\bhepar\b"
    r"|\bhepati[ckqt]|\bepatic|\blever\b|\bleverw\b|\bwatroba\b|\bkaraciger\b|^maj$|\bjatra\b|\bjetra\b|\bmaksa\b"
    r"|\blifur\b|\bficat\b|\bпечен\w*|\bηπαρ\b|\bσυκωτι\b|肝[臓脏臟]?|\b간\b|\bكبد\b|ตบ"
)
_LESION_WORDS = re.compile(
    r"lesion|laesion|lasion|lesao|tumou?r|tumeur|tumore|metast|\bmets?\b|nodul|knoten|herd\b|cyst|kyste|zyste"
    r"|quiste|\bcist[ie]\b|\bkist\b|torbiel|neoplas|nowotwor|carcinom|karzinom|adenom|angiom|abs[cz]es|abces"
    r"|malign|cancer|krebs|\bmass(?:e|a)?\b|\bmasa\b|\bhccs?\b|\bi ?cca?\b|cholangio\w*|\bcrlm\b|\bfnh\b"
    r"|\bgtv\w*|raumforder|geschwulst|sarcom|lymphom|hamartom|granulom|blastom|melanom|hyperplas|hydatid"
    r"|echinoc|\bli ?rads\b|\blr ?(?:[1-5m]|tiv)\b|svulst|kasvain|nador|daganat|\bguz|przerzut|lozisk"
    r"|опухол|метастаз|\bкист|腫瘍|腫瘤|肿瘤|病灶|病変|病变|結節|结节|転移|转移|嚢胞|囊肿|癌|종양|병변|전이|결절"
)
_BILIARY_LESIONS = re.compile(r"(?:gallengang|biliar|bile duct)\w* ?\w*(?:karzin|carcin|aden|cyst|hamart)\w*")
"""Names of liver lesions that contain the name of another structure."""
_AFTER_WITH = re.compile(
    r"\b(?:with(?:out)?|w o|wo|minus|plus|incl\w*|excl\w*|except|and|ohne|mit|und|sans|avec|et|sin|con"
    r"|senza|met(?= \D)|zonder|y|e)\b"
)
_NEXT_TO = re.compile(
    r"\b(?:near|adjacent|next to|close to|beside|abutting|neben|nahe|proche|pres|cerca|vicino)\b.*"
)
_NOT_TUMOROUS = re.compile(r"\bnon tumo\w*|\btumou?r free\b|\btumorfrei\w*")
_PART_WORDS = re.compile(r"\blobes?\b|\blob[uo]\w*\b|lappen|couinaud|caudate|caudatus|\bhilum\b|\bhilus\b")
_NUMBERED_PART = re.compile(
    r"segment\w* (?:[1-8]|[iv]+)(?: ?[ab])?\b|\bs(?:eg)? ?(?:[1-8]|[iv]+)(?: ?[ab])?\b"
)
_HARMLESS_WORDS = re.compile(
    r"whole|entire|total(?:is)?|full|complete|healthy|normal|gesamt\w*|ganze?|gesunde?s?|entier|sain|hele?|heel"
    r"|parench\w*|tissue|gewebe|structure|organ|anatomy|of|the|in|le|la|el|il|der|die|das|volume|vol|mask|maske"
    r"|label|seg|segment(?:ation|ierung|acion|azione|acao|atie)?s?|auto\w*|manual\w*|ai|ki|ia|gt|ground|truth"
    r"|pred\w*|result|final|new|edit\w*|corr\w*|copy|kopie|copie|v ?\d+|0?1|0|nii|gz|nrrd|dcm|contour"
    r"|totalseg\w*|segmentator|nn|u ?net|unet|monai|uair|r\d+ ?c\d+|r|c|reader"
)
_OTHER_STEMS = """vessel vascul gefass gefaess vaisseau vaso vein veine vene vena venen venous venos arter
    aorta cava portal portae pfortader ivc vci thromb pvtt stent catheter katheter needle drain clip coil
    spleen splen milz bazo baco lien kidney renal niere nieren nier rein rinon rene nephr adrenal nebenniere
    surren stomach gastr magen estomac estoma stomaco pancrea pankrea duoden bowel
    intestin darm colon kolon rectum bladder gallbladder gallen blase vesicul colecist
    cistifel bile biliar cholecyst ductus duct lymph ganglio lung lunge pulmon poumon heart
    herz cardia coeur corazon bone knochen rib rippe vertebra wirbel spine muscle muskel psoas skin
    haut body korper esophag oesophag osophag speiserohre trachea bronch prostat uterus ovar brain
    hirn thyroid breast mamma ascites aszites fluid background hintergrund artifact artefact artefakt
    diaphragm zwerchfell peritone omentum mesenter pleura abdomen rate ptv ctv itv spinal myelon
    ruckenmark sigmoid femor external"""
"""The first letters of words for other structures."""
_OTHER_SIGNS = (
    "脾|腎|肾|胆|門脈|门静脉|門静脈|血管|静脈|静脉|動脈|动脉|胃|膵|胰|肺|骨|腸|肠|селез|почк|желч|желуд|аорт|\\bвен[аы]|артер"
    "|сосуд|비장|신장|담낭|혈관|문맥|췌장"
)
_OTHER_WORDS = re.compile(rf"(?:\b|(?<=leber))(?:{'|'.join(_OTHER_STEMS.split())})|{_OTHER_SIGNS}")
_OTHER_THINGS = re.compile(
    r"\bfat\b|\bfett|graisse|\bgrasa\b|remnant|\bflr\b|resect|resekt|margin|surface|oberflache|capsul|kapsel|bounding|\bbox\b"
    r"|\b(?:iso)?dos[ei]s?\b|ligament|ablat|lipiodol|ha?ematom|hamatom|bilom|calcif|verkalk|pforte"
)
"""Words for tissues and materials. A lesion may have them in its name."""
_ALWAYS_OTHER = re.compile(
    r"thromb|\bpvtt\b|\bptv|\bctv|\bitv|stent|background|hintergrund|art[ei]fa[ck]t"
    r"|(?:extra|peri) ?(?:hepat|liver)"
    r"|\b(?:outside|not|non|no|without|ohne|sans|sin|senza|nicht)\b(?: the)?"
    r" (?:liver|leber|foie|higado|fegato|hepat)"
)
_WIDER_WORDS = re.compile(r"\babdom\w*|\btorso\b|\btrunk\b|\bquadrant\b|\b(?:whole|entire) body\b")
_NARROWER_WORDS = re.compile(r"\bwall\b|\bwand\b")
_SHOWN_WORDS = re.compile(
    r"segment(?:ation|s)?|lesions?|tumou?rs?|cysts?|mass|left|right|links|rechts|gauche|droite?|upper|lower|common|inferior"
    r"|superior|and|with|without|of|the|und|et|i|ii|iii|iv|v|vi|vii|viii|[a-d]|\d{1,3}|hepatic|lobe|artery|arteries"
)


def plain(words: str) -> str:
    """Return words in lower case without accents. "LiverVessels" becomes "liver vessels"."""
    # "Liver-GTV" is the liver without the GTV (AAPM TG-263).
    marked = re.sub(r"(?<=-)\s*(?=[GCI]TV)", " minus ", words)
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", marked)
    decomposed = unicodedata.normalize("NFKD", split)
    letters = "".join(letter for letter in decomposed if unicodedata.category(letter) != "Mn")
    text = unicodedata.normalize("NFC", letters).casefold().translate(_LETTERS)
    return " ".join(re.sub(r"[\W_]+", " ", text).split())


def organ_words(organ: Organ) -> re.Pattern[str]:
    """Return the regular expression that finds words for an organ."""
    return _LIVER_WORDS if organ == LIVER else re.compile(rf"\b{re.escape(plain(organ.name))}\b")


def names_lesion(words: str) -> bool:
    """Return whether a text names a lesion. It may name other structures, too."""
    return bool(_LESION_WORDS.search(plain(words)))


def names_other(words: str, organ: Organ) -> bool:
    """Return whether a text names another structure beside the organ, such as a vein of the organ."""
    return bool(_OTHER_WORDS.search(organ_words(organ).sub(" ", plain(words))))


def names_wider_region(words: str) -> bool:
    """Return whether a text names a region around the organ, such as the abdomen."""
    text = plain(words)
    rest = _WIDER_WORDS.sub(" ", text)
    return rest != text and not _OTHER_WORDS.search(rest) and not _NARROWER_WORDS.search(rest)


def names_part(words: str) -> bool:
    """Return whether a text names a part of an organ."""
    return bool(_PART_WORDS.search(plain(words)) or _NUMBERED_PART.search(plain(words)))


def kind_of_words(words: str, organ: Organ) -> SegmentKind:
    """Return the structure that a text names; `SegmentKind.UNSPECIFIED` if it names no known structure."""
    return _kind_of_plain(plain(words), organ)


def may_be_shown(word: str, organ: Organ) -> bool:
    """Return whether a word is known from anatomy or numbering. Any other word may be a person's name."""
    if _SHOWN_WORDS.fullmatch(word) or word == organ.name.casefold():
        return True
    stems = sorted((stem for stem in _OTHER_STEMS.split() if word.startswith(stem)), key=len)
    return (bool(stems) and len(word) <= len(stems[-1]) + 3) or bool(_LIVER_WORDS.fullmatch(word))


def _kind_of_plain(text: str, organ: Organ) -> SegmentKind:
    pattern = organ_words(organ)
    named = bool(pattern.search(text))
    if _ALWAYS_OTHER.search(text):
        return SegmentKind.OTHER
    if _LESION_WORDS.search(text):
        return _kind_beside_lesion(text, pattern, organ)
    rest = pattern.sub(" ", text)
    if _OTHER_WORDS.search(rest) or _OTHER_THINGS.search(rest) or _PART_WORDS.search(rest):
        return SegmentKind.OTHER
    if not named:
        return SegmentKind.UNSPECIFIED
    if _NUMBERED_PART.search(rest):
        return SegmentKind.OTHER
    return SegmentKind.ORGAN if _is_harmless(rest) else SegmentKind.PERHAPS_ORGAN


def _kind_beside_lesion(text: str, pattern: re.Pattern[str], organ: Organ) -> SegmentKind:
    """Return the structure of a text that names a lesion. "Liver without tumour" is the liver."""
    if _NOT_TUMOROUS.search(text):
        return _kind_of_plain(_NOT_TUMOROUS.sub(" ", text).strip(), organ)
    joined = _AFTER_WITH.search(text)
    before = text[: joined.start()] if joined else ""
    if joined and pattern.search(before) and not _LESION_WORDS.search(before):
        return _kind_of_plain(before.strip(), organ)
    text = _BILIARY_LESIONS.sub(" ", _NEXT_TO.sub(" ", text))
    if pattern.search(text) or not _OTHER_WORDS.search(text):
        return SegmentKind.LESION
    # "Breast metastasis" may be in the breast, or may come from it.
    return SegmentKind.UNSPECIFIED if "etast" in text else SegmentKind.OTHER


def _is_harmless(rest: str) -> bool:
    """Return whether the words beside the organ's name do not change its meaning.

    The ending of a compound word with the organ's name counts as a word.
    """
    return all(_HARMLESS_WORDS.fullmatch(word) for word in rest.split())
