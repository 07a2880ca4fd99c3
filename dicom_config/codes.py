"""Coded concepts, colours, series numbers and labels of the DICOM objects that the node writes.

Viewers show these words, numbers and colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pydicom.sr.coding import Code

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
PHYSICAL_OBJECT = Code("260787004", "SCT", "Physical object")
LIVER = Code("10200004", "SCT", "Liver")
# The engine finds tissue that differs from the liver around it. It does not determine the kind of tissue. So
# the code "Neoplasm" would claim more than the engine measured.
LESION = Code("52988006", "SCT", "Lesion")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")

# Measured quantities of the report (CID 7469 and related codes), and their units (UCUM).
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
MR_PROCEDURE = Code("25056-3", "LN", "MRI unspecified body region")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MR_SIGNAL_INTENSITY = Code("110852", "DCM", "MR signal intensity")
MEAN = Code("373098007", "SCT", "Mean")
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
# Every standard code for this quantity also says that the tissue is a neoplasm.
LESION_BURDEN = Code("LESION_BURDEN", "99UAIR", "Lesion volume as percentage of liver volume")
MILLILITRE = Code("ml", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ARBITRARY_UNIT = Code("[arb'U]", "UCUM", "arbitrary unit")
PERCENT = Code("%", "UCUM", "percent")
LESIONS = Code("{lesions}", "UCUM", "lesions")

# `uair_node.results.rejection` has the meanings of these document titles.
REJECTION_TITLES = frozenset({"113001", "113037", "113038", "113039"})
"""DCM codes that mark a Key Object Selection as a rejection note (IHE RAD TF-2, 4.66)."""
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")

MANUFACTURER = "UAIR node"
LABEL_PREFIX = "UAIR "
DISCLAIMER = "Research use, not a medical device"

# These numbers are larger than the series numbers of scanners and of secondary reconstructions. So viewers
# list the results last.
_SERIES_NUMBER_BASE = 9000
_SERIES_NUMBERS_PER_ROUND = 10
_FINAL_OFFSET = 9

_CONTENT_LABEL_LENGTH = 16  # CS, PS3.5 table 6.2-1
_LONG_STRING_LENGTH = 64  # LO, PS3.5 table 6.2-1


@dataclass(frozen=True)
class Colour:
    """A colour, for pictures and for DICOM.

    Parameters
    ----------
    name
        The name that a person reads.
    rgb
        The sRGB values, each 0..255.
    cielab
        L*, a*, b* in the form of Recommended Display CIELab Value, each 0..65535 (PS3.3 C.10.7.1.1).
    """

    name: str
    rgb: tuple[int, int, int]
    cielab: tuple[int, int, int]


# The palette of Okabe and Ito. A person with any common colour vision deficiency can distinguish its
# colours. The first colours have a strong contrast to grey. The last colours are the most similar to the
# liver's colour.
LIVER_COLOUR = Colour("sky blue", (86, 180, 233), (45761, 29808, 23959))
LESION_COLOURS = (
    Colour("yellow", (240, 228, 66), (58401, 29471, 52288)),
    Colour("vermillion", (213, 94, 0), (35512, 44018, 49160)),
    Colour("reddish purple", (204, 121, 167), (40007, 42800, 30170)),
    Colour("orange", (230, 159, 0), (46273, 37131, 52089)),
    Colour("bluish green", (0, 158, 115), (37842, 21141, 36174)),
    Colour("blue", (0, 114, 178), (30129, 32193, 22263)),
)


class Companion(IntEnum):
    """The series of a round that do not hold segmentations. The value is an offset for the Series Number."""

    RTSTRUCT = 0
    PAGES = 5
    WITHDRAWAL = 6
    RESULT = 7
    REPORT = 8


class SelectionClass(StrEnum):
    """SOP Classes that a reader's selection may have (PS3.4 B.5)."""

    SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
    LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
    KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
    ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
    COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
    COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
    PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
    SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
    RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


def lesion_colour(number: int) -> Colour:
    """Return the colour of lesion `number` (1-based). After the last colour, the colours repeat."""
    if number < 1:
        raise ValueError("lesions are numbered from 1")
    return LESION_COLOURS[(number - 1) % len(LESION_COLOURS)]


def series_number(round_number: int, k: int, *, final: bool = False) -> int:
    """Return the Series Number of candidate `k` (1..4) or of the final result. `round_number` is 1-based."""
    _check_position(round_number, k)
    return _SERIES_NUMBER_BASE + _SERIES_NUMBERS_PER_ROUND * round_number + (_FINAL_OFFSET if final else k)


def content_label(round_number: int, k: int, *, final: bool = False) -> str:
    """Return a Content Label such as ``UAIR R1C3`` or ``UAIR FINAL R3C2`` (CS: at most 16 characters)."""
    _check_position(round_number, k)
    label = f"{LABEL_PREFIX}{'FINAL ' if final else ''}R{round_number}C{k}"
    return label[:_CONTENT_LABEL_LENGTH]


def series_description(round_number: int, k: int, character: str, *, final: bool = False) -> str:
    """Return the Series Description. Its first 16 characters name the candidate.

    Some viewers show only the first 16 characters. `character` is a few words such as "most inclusive". A
    case has a single final result. Its name is ``UAIR FINAL, most inclusive, round 3``.
    """
    if final:
        _check_position(round_number, k)
        before, after = f"{LABEL_PREFIX}FINAL, ", f", round {round_number}"
        room = _LONG_STRING_LENGTH - len(before) - len(after)
        while len(character) > room and ", " in character:
            character = character.rpartition(", ")[0]
        return long_string(f"{before}{character[:room]}{after}")
    return long_string(f"{content_label(round_number, k)} {character}")


def companion_number(kind: Companion, round_number: int) -> int:
    """Return the Series Number of a companion series of a round, such as its pages or its report."""
    _check_position(round_number, 1)
    return _SERIES_NUMBER_BASE + _SERIES_NUMBERS_PER_ROUND * round_number + kind


def companion_description(kind: Companion, round_number: int, text: str) -> str:
    """Return a Series Description such as ``UAIR PAGES R1 …``.

    Its first 16 characters are unique in a study.
    """
    _check_position(round_number, 1)
    return long_string(f"UAIR {kind.name[:8]} R{round_number} {text}")


def case_companion_number(kind: Companion) -> int:
    """Return the Series Number of a companion series that holds the objects of all rounds of a case."""
    return _SERIES_NUMBER_BASE + kind


def case_companion_description(kind: Companion, text: str) -> str:
    """Return the Series Description of a series for all rounds, such as ``UAIR PAGES of all rounds``."""
    return long_string(f"UAIR {kind.name} {text}")


def notices_number() -> int:
    """Return the Series Number of a case's notices. It is smaller than the Series Numbers of the rounds."""
    return _SERIES_NUMBER_BASE


def notices_description() -> str:
    """Return the Series Description of a case's notices."""
    return "UAIR NOTICES outcome of your selections"


def long_string(text: str) -> str:
    """Make `text` a valid LO value: printable ASCII without backslash, at most 64 characters.

    Only ASCII is permitted, because the object keeps the character set of its source series.
    """
    plain = "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in text)
    return plain[:_LONG_STRING_LENGTH].strip()


def _check_position(round_number: int, k: int) -> None:
    if round_number < 1 or not 1 <= k <= 4:
        raise ValueError("rounds count from 1, candidates from 1 to 4")
