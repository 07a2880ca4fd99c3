"""The measured quantities: name, code, unit and rounding. Report, tables and pages share them.

The columns of the CSV and the keys of the JSON come from this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.modalities import PROFILES
from dicom_config.modalities.profile import Unit

_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
_MINIMUM = Code("255605001", "SCT", "Minimum")
_MAXIMUM = Code("56851009", "SCT", "Maximum")
_SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")
_RATIO = Code("1", "UCUM", "no units")


@dataclass(frozen=True)
class Quantity:
    """A measured quantity.

    Parameters
    ----------
    key
        The name of the quantity's column in tables.
    title
        The quantity's name on pages.
    code, unit, derivation
        Codes for the SR (TID 300). `derivation` is None if the code of the quantity alone is sufficient.
    decimals
        Decimal places. A value is rounded only once, directly after its measurement. So every page and table
        shows the same number.
    on_slice
        Whether the quantity is measured on a single slice. The SR refers to that slice.
    """

    key: str
    title: str
    code: Code
    unit: Code
    decimals: int
    derivation: Code | None = None
    on_slice: bool = False


@dataclass(frozen=True)
class Quantities:
    """All quantities of a modality, in the order of tables and reports.

    Parameters
    ----------
    lesion, liver, parenchyma
        The quantities of each lesion, of the whole organ, and of the organ without its lesions.
    """

    lesion: tuple[Quantity, ...]
    liver: tuple[Quantity, ...]
    parenchyma: tuple[Quantity, ...]


def _value(unit: Unit, statistic: str, title: str, derivation: Code) -> Quantity:
    return Quantity(f"{statistic}_{unit.suffix}", title, unit.quantity, unit.code, 2, derivation)


def _shape(key: str, title: str, value: str, meaning: str) -> Quantity:
    return Quantity(key, title, Code(value, "IBSI", meaning), _RATIO, 4)


_LIVER = (
    Quantity("liver_ml", "liver with lesions", codes.VOLUME, codes.MILLILITRE, 3),
    Quantity("lesions", "number of lesions", codes.NUMBER_OF_LESIONS, codes.LESIONS, 0),
    Quantity(
        "lesions_ml",
        "volume of all lesions",
        Code("LESIONS_VOLUME", "99UAIR", "Volume of all lesions"),
        codes.MILLILITRE,
        3,
    ),
    Quantity("burden_percent", "tumour burden", codes.LESION_BURDEN, codes.PERCENT, 2),
)


def _lesion(unit: Unit) -> tuple[Quantity, ...]:
    return (
        Quantity("volume_ml", "volume", codes.VOLUME, codes.MILLILITRE, 3),
        Quantity("long_mm", "long axis", codes.LONG_AXIS, codes.MILLIMETRE, 2, on_slice=True),
        Quantity("short_mm", "short axis", codes.SHORT_AXIS, codes.MILLIMETRE, 2, on_slice=True),
        Quantity(
            "largest_mm",
            "largest diameter",
            Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"),
            codes.MILLIMETRE,
            2,
        ),
        _value(unit, "mean", f"mean {unit.noun}", codes.MEAN),
        _value(unit, "sd", f"deviation of {unit.noun}", _DEVIATION),
        _value(unit, "min", f"least {unit.noun}", _MINIMUM),
        _value(unit, "max", f"greatest {unit.noun}", _MAXIMUM),
        Quantity(
            "surface_mm2", "surface", Code("C0JK", "IBSI", "Surface Area of Mesh"), _SQUARE_MILLIMETRE, 1
        ),
        _shape("sphericity", "sphericity", "QCFX", "Sphericity"),
        _shape("elongation", "elongation", "Q3CK", "Elongation"),
        _shape("flatness", "flatness", "N17B", "Flatness"),
        _shape("solidity", "solidity", "R3ER", "Volume Density in Convex Hull"),
        Quantity(
            "irregularity",
            "boundary irregularity",
            Code("BOUNDARY_IRREGULARITY", "99UAIR", "Surface over that of the ellipsoid of inertia"),
            _RATIO,
            4,
        ),
    )


def _parenchyma(unit: Unit) -> tuple[Quantity, ...]:
    return (
        Quantity("parenchyma_ml", "liver without lesions", codes.VOLUME, codes.MILLILITRE, 3),
        _value(unit, "parenchyma", f"its mean {unit.noun}", codes.MEAN),
    )


QUANTITIES: Mapping[str, Quantities] = MappingProxyType(
    {
        name: Quantities(_lesion(profile.unit), _LIVER, _parenchyma(profile.unit))
        for name, profile in PROFILES.items()
    }
)
"""The quantities of each modality profile, by the profile's name."""
