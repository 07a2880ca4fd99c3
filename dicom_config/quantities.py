"""What is measured: the name, code, unit and rounding of each number, the same in report, table and page.

Owns the columns of the CSV and the keys of the JSON. Knows nothing of how numbers are found.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from dicom_config import codes

_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
_MINIMUM = Code("255605001", "SCT", "Minimum")
_MAXIMUM = Code("56851009", "SCT", "Maximum")
_SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")
_RATIO = Code("1", "UCUM", "no units")


@dataclass(frozen=True)
class Quantity:
    """One number.

    Parameters
    ----------
    key
        Its column in tables.
    title
        Its name on pages.
    code, unit, derivation
        As the SR says it (TID 300); `derivation` None where the name says it all.
    decimals
        It is rounded once, when it is measured, so that every place states the same.
    on_slice
        Whether it was taken on one slice, which the SR names.
    """

    key: str
    title: str
    code: Code
    unit: Code
    decimals: int
    derivation: Code | None = None
    on_slice: bool = False


def _density(key: str, title: str, derivation: Code) -> Quantity:
    return Quantity(key, title, codes.ATTENUATION, codes.HOUNSFIELD_UNIT, 2, derivation)


def _shape(key: str, title: str, value: str, meaning: str) -> Quantity:
    return Quantity(key, title, Code(value, "IBSI", meaning), _RATIO, 4)


LESION = (
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
    _density("mean_hu", "mean density", codes.MEAN),
    _density("sd_hu", "deviation of density", _DEVIATION),
    _density("min_hu", "least density", _MINIMUM),
    _density("max_hu", "greatest density", _MAXIMUM),
    Quantity("surface_mm2", "surface", Code("C0JK", "IBSI", "Surface Area of Mesh"), _SQUARE_MILLIMETRE, 1),
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
LIVER = (
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
PARENCHYMA = (
    Quantity("parenchyma_ml", "liver without lesions", codes.VOLUME, codes.MILLILITRE, 3),
    _density("parenchyma_hu", "its mean density", codes.MEAN),
)
