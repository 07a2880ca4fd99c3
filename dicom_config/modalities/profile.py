"""The profile of a kind of examination: an immutable record for the node and its workers.

The other files of this folder are the profiles. docs/modalities.md shows how to add a profile.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pydicom.sr.coding import Code

from dicom_config import codes


@dataclass(frozen=True)
class Organ:
    """An organ: its name on pages and in messages, and its SNOMED CT code for SEG and SR."""

    name: str
    code: Code


LIVER = Organ("liver", codes.LIVER)
"""The organ that the networks were trained for. Any other organ needs `engine.localizer: templates`."""


@dataclass(frozen=True)
class Unit:
    """The unit of voxel values.

    Attributes
    ----------
    name, noun
        Words for pages: ``HU``, ``density``.
    suffix
        The end of the keys in tables: ``mean_hu``.
    code, quantity
        Codes for the SR: the unit (UCUM), and the measured quantity.
    """

    name: str
    noun: str
    suffix: str
    code: Code
    quantity: Code


@dataclass(frozen=True)
class FixedWindow:
    """The voxel values that pages show as black (`low`) and as white (`high`). All series share them."""

    low: float
    high: float


@dataclass(frozen=True)
class BodyWindow:
    """The black and the white value as percentiles of the values inside the body, 0..100.

    This window is for modalities whose unit differs from series to series.
    """

    low_percent: float
    high_percent: float


@dataclass(frozen=True)
class BodyScaling:
    """The scaling of voxel values to the networks' scale, the Hounsfield units of an abdominal CT.

    The scaling is piecewise linear between landmarks. It is the MR standardisation by Nyul and Udupa
    (Magnetic Resonance in Medicine 42, 1999). The value 0 becomes the HU of air. Values above the last
    landmark get the HU of the last landmark.

    Attributes
    ----------
    landmarks
        Pairs of a percentile (0..100) of the values inside the body, and a value in HU. Percentiles and HU
        ascend.
    """

    landmarks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Acquisition:
    """The MR pulse sequences that a profile accepts (PS3.3 C.8.3.1). Missing attributes are not checked.

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
        """Return whether a slice with this Scanning Sequence, Echo Time and Repetition Time is accepted."""
        return (
            self.not_scanning.isdisjoint(scanning)
            and (echo_ms is None or self.min_echo_ms <= echo_ms <= self.max_echo_ms)
            and (repetition_ms is None or repetition_ms <= self.max_repetition_ms)
        )


@dataclass(frozen=True)
class ModalityProfile:
    """A kind of examination.

    Attributes
    ----------
    name
        The name in `intake.profiles` and in stored measurements.
    title
        The kind of series, in words for a person.
    modality, sop_classes
        Modality and SOP classes that the slices must have. An empty Modality is also accepted.
    not_anatomy
        Values of Image Type that mark an image without anatomy.
    acquisition
        The accepted pulse sequences; None if the modality has no pulse sequences.
    expects_contrast
        Whether contrast medium is assumed if no slice's header names a contrast medium.
    hounsfield
        Whether Rescale Slope and Rescale Intercept are required and give Hounsfield units. If true, then
        voxels are int16. If false, then voxels are the scanner's values as float32.
    outside
        The value that padding voxels (Pixel Padding Value) get in the volume.
    unit
        The unit of the values.
    window
        The range of values that pages show.
    scaling
        The scaling of values to the networks' scale; None if the values already have that scale.
    procedure
        The code of the procedure in the SR (PS3.16 CID 100).
    organ
        The organ that is segmented.
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
