"""The profile of one kind of examination: one frozen record for the node and its workers.

The profiles themselves are the other files of this folder; docs/modalities.md
shows how to add one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pydicom.sr.coding import Code

from dicom_config import codes


@dataclass(frozen=True)
class Organ:
    """The organ: its name on pages and in sentences, its code in SEG and SR (SNOMED CT)."""

    name: str
    code: Code


LIVER = Organ("liver", codes.LIVER)
"""The organ that the networks know; any other one needs templates, see `Settings`."""


@dataclass(frozen=True)
class Unit:
    """The unit of voxel values.

    Attributes
    ----------
    name, noun
        On pages: ``HU``, ``density``.
    suffix
        Ends the keys of tables: ``mean_hu``.
    code, quantity
        In the SR: the unit (UCUM), and what is measured.
    """

    name: str
    noun: str
    suffix: str
    code: Code
    quantity: Code


@dataclass(frozen=True)
class FixedWindow:
    """Values from black to white, the same for every series."""

    low: float
    high: float


@dataclass(frozen=True)
class BodyWindow:
    """Percentiles of the values inside the body, from black to white, where units differ between series."""

    low_percent: float
    high_percent: float


@dataclass(frozen=True)
class BodyScaling:
    """The scaling of values to the networks' scale, Hounsfield units of an abdominal CT.

    Piecewise linear between landmarks, as Nyul and Udupa (Magnetic Resonance in Medicine 42, 1999)
    standardise MR. 0 becomes air; values above the last landmark become its value.

    Attributes
    ----------
    landmarks
        (percentile of the values inside the body, HU), both ascending.
    """

    landmarks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Acquisition:
    """The MR pulse sequences that fit (PS3.3 C.8.3.1). Attributes that a header lacks do not count.

    Attributes
    ----------
    not_scanning
        Values that Scanning Sequence must not have.
    min_echo_ms, max_echo_ms
        Shortest and longest Echo Time.
    max_repetition_ms
        Longest Repetition Time.
    """

    not_scanning: frozenset[str]
    min_echo_ms: float = 0.0
    max_echo_ms: float = float("inf")
    max_repetition_ms: float = float("inf")

    def fits(self, scanning: Collection[str], echo_ms: float | None, repetition_ms: float | None) -> bool:
        """Return whether a slice of that Scanning Sequence, Echo Time and Repetition Time fits."""
        return (
            self.not_scanning.isdisjoint(scanning)
            and (echo_ms is None or self.min_echo_ms <= echo_ms <= self.max_echo_ms)
            and (repetition_ms is None or repetition_ms <= self.max_repetition_ms)
        )


@dataclass(frozen=True)
class ModalityProfile:
    """One kind of examination.

    Attributes
    ----------
    name
        As `intake.profiles` names it, and as measurements keep it.
    title
        For a person: which series it is for.
    modality, sop_classes
        What the slices must be; an empty Modality is tolerated.
    not_anatomy
        Values of Image Type that no slice of anatomy has.
    acquisition
        What the sequence must be, None where there are no sequences.
    expects_contrast
        Whether contrast medium is assumed where no slice names one.
    hounsfield
        Whether Rescale Slope and Rescale Intercept are needed and lead to Hounsfield units. Voxels are then
        int16, else float32 of whatever the scanner wrote.
    outside
        The value of Pixel Padding.
    unit
        The unit of the values.
    window
        What pages show.
    scaling
        How values come to the scale of the networks; None where they are on it.
    procedure
        What the SR names as the procedure (PS3.16 CID 100).
    organ
        What is segmented.
    """

    name: str
    title: str
    modality: str
    sop_classes: frozenset[str]
    not_anatomy: frozenset[str]
    acquisition: Acquisition | None
    expects_contrast: bool
    hounsfield: bool
    outside: int
    unit: Unit
    window: FixedWindow | BodyWindow
    scaling: BodyScaling | None
    procedure: Code
    organ: Organ = LIVER
