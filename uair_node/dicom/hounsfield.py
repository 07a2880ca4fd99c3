"""Decide by a series' header whether its values are Hounsfield units or another quantity.

The functions take texts, not data sets. The gate decides whether to refuse the series.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HOUNSFIELD_TYPES = frozenset({"", "HU", "HU_MOD", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS"})
"""Values of Rescale Type (PS3.3 C.11.1.1.2) for Hounsfield units. Monoenergetic images have HU_MOD."""

_HOUNSFIELD_UCUM = frozenset({"[hnsf'U]", "HU"})

_OTHER_IMAGES = re.compile(
    r"MAT_SPECIFIC|MAT_FRACTIONAL|MAT_VALUE_BASED|MATERIAL_(QUANTIFICATION|DENSITY|SPECIFIC)|EFF_ATOMIC_NUM\w*"
    r"|(REL_)?ELECTRON_DENSI\w*|((DE|DECT|SPECTRAL|GSI|MD)_)?IODINE(_(MAP|DENSITY|CONCENTRATION|NO_WATER|CONTENT|ONLY))?|Z_?EFF\w*"
    r"|EFFECTIVE_(Z|ATOMIC)\w*|RHO(_Z)?|CALCIUM_MAP|FAT_(MAP|FRACTION)|STOPPING_POWER\w*"
)
"""Values of Image Type (PS3.3 C.8.2.1.1.1, and makers' own) of material maps. Images with a material removed
(MAT_REMOVED, virtual non-contrast) and monoenergetic images (VMI) are in Hounsfield units."""

_OTHER_DERIVED = re.compile(
    r"(CT_)?PERFUSION(_\w+)?|BLOOD_(FLOW|VOLUME)|R?CB[FV]|MTT|TTP|TMAX|PERMEABILITY\w*"
    r"|SUBTRACT\w*|DIVISION|MULTIPLICATION|STD_DEVIATION"
)
"""Values of Image Type of images that are computed from several images (PS3.3 C.8.16.1.4, and makers' own).
An original image of a perfusion study is in Hounsfield units."""


def name_other_values(rescale_type: str, image_type: tuple[str, ...], mapped_units: Sequence[str]) -> str:
    """Name the attribute that contradicts Hounsfield units; empty if no attribute contradicts them.

    Parameters
    ----------
    rescale_type
        Rescale Type; US (unspecified) contradicts, too.
    image_type
        The values of Image Type or Frame Type.
    mapped_units
        UCUM codes of the units of the Real World Value Maps. If the list is not empty, then it must contain
        Hounsfield units.
    """
    if rescale_type.upper() not in _HOUNSFIELD_TYPES:
        return f"Rescale Type {_shown(rescale_type)}"
    patterns = [_OTHER_IMAGES, *([_OTHER_DERIVED] if image_type[:1] == ("DERIVED",) else [])]
    words = {value: value.upper().replace(" ", "_") for value in image_type}
    maps = [value for value, word in words.items() if any(pattern.fullmatch(word) for pattern in patterns)]
    if maps:
        return f"Image Type {_shown(maps[0])}"
    if mapped_units and _HOUNSFIELD_UCUM.isdisjoint(mapped_units):
        return f"Real World Value Map in {_shown(mapped_units[0])}"
    return ""


def _shown(value: str) -> str:
    """Return a coded term unchanged; for free text, which may hold patient data, return a fixed word."""
    return value if re.fullmatch(r"[\w/%.{}\[\]' ]{1,24}", value, re.ASCII) else "unknown"
