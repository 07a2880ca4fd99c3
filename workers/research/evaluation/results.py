"""The results of a case: small records that are sent between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.research.evaluation.surface_distance import SurfaceDistance, surface_distance
from workers.truth.metrics import Labels, Mask, Overlap, overlap
from workers.uair.candidates import Rule
from workers.uair.grids import Spacing

Target = Literal["liver", "lesion", "tumour", "found", "missed"]


@dataclass(frozen=True)
class Method:
    """The name of a table's row: method, rule of choice (None if the method has no rule), and reader."""

    name: str
    rule: Rule | None = None
    reader: str = "best"


@dataclass(frozen=True)
class Measure:
    """The result of a method on one target of a case.

    Attributes
    ----------
    case, method
        The case, and the method.
    target
        ``liver``: the whole organ. ``lesion``: a single lesion whose box was given. ``tumour``: the union of
        all lesions of the case. ``found``: a single lesion that round 1 found by itself. ``missed``: a single
        lesion of 10 mm or more that round 1 did not find.
    lesion
        Label value of a single lesion, else 0.
    overlap, surface
        Agreement with the truth. `surface` is None if the result or the truth is empty.
    seconds
        Computing time up to this result, without the time of the reader.
    picks
        Number of actions of a person: picked candidates, drawn lines, or drawn boxes.
    """

    case: str
    method: Method
    target: Target
    lesion: int
    overlap: Overlap
    surface: SurfaceDistance | None
    seconds: float
    picks: int


@dataclass(frozen=True)
class Offered:
    """The four candidates of a round for one lesion, and how well M_unc (equation 2) predicted the error.

    Attributes
    ----------
    case, method, lesion
        The case, the method with its round, and the lesion.
    picked
        The candidate 1 … 4 that the reader picked.
    between
        Mean Dice over all pairs of the four candidates.
    covered
        Part of the pick's wrong voxels that lies inside M_unc; None if the pick has no wrong voxel.
    precise
        Part of the voxels of M_unc where the pick is wrong; None if M_unc is empty.
    corrected
        Dice of the pick if the truth replaces it inside M_unc. No correction inside M_unc can give a better
        Dice.
    """

    case: str
    method: Method
    lesion: int
    picked: int
    between: float
    covered: float | None
    precise: float | None
    corrected: float


@dataclass(frozen=True)
class Detected:
    """The lesions of a case that were found or missed, and the false findings.

    Attributes
    ----------
    case
        The case.
    diameters_mm
        Diameters of the true lesions. Each diameter is the diameter of a sphere with the lesion's volume.
    confidence
        For each true lesion, the highest confidence of the predictions that hit it; None if it was missed.
    false_confidence
        Confidence of every prediction that hits no true lesion.
    """

    case: str
    diameters_mm: tuple[float, ...]
    confidence: tuple[float | None, ...]
    false_confidence: tuple[float, ...]


@dataclass(frozen=True)
class Strokes:
    """The lines of a reader who draws a line over each lesion of a case that round 1 missed.

    Attributes
    ----------
    lesions, missed
        Number of lesions of the case, and number of lesions that round 1 missed.
    lines
        Number of drawn lines, one line for each missed lesion.
    refused
        Number of lines that the node refuses.
    boxes
        Number of tight boxes that the method *manual* needs: a box on each slice of each lesion.
    """

    lesions: int
    missed: int
    lines: int
    refused: int
    boxes: int


@dataclass(frozen=True)
class PreferenceRun:
    """The result of a reader with a fixed preference on one lesion.

    Attributes
    ----------
    case, lesion, preference
        The case, the lesion and the reader's preference.
    prior
        Whether the engine started from its memory of this reader.
    dices
        Dice of each round's pick with the wanted shape.
    difference_mm
        The difference that the memory stores: radius of the last pick minus radius of the engine's own mean.
    """

    case: str
    lesion: int
    preference: str
    prior: bool
    dices: tuple[float, ...]
    difference_mm: float


@dataclass(frozen=True)
class View:
    """A slice for the pictures: HU, truth and the methods' results, all ``(Y, X)``."""

    what: Target
    z: int
    pixel_mm: tuple[float, float]
    hu: NDArray[np.int16]
    truth: Labels
    drawn: Mapping[str, Labels]


@dataclass(frozen=True)
class CaseResult:
    """All results of a case.

    Attributes
    ----------
    case
        Name of the case.
    measures, preferences
        The measures of all methods and readers, and the results of readers with a fixed preference.
    first, last
        Lesion detection in round 1 (all offered lesions), and in the reader's result after the last round.
    offered
        The candidates of single lesions that were segmented from given boxes, for every round, rule and
        reader.
    strokes
        The lines of the reader who measures missed lesions; None for a case without lesions.
    views
        Slices for pictures; empty unless requested.
    """

    case: str
    measures: tuple[Measure, ...]
    preferences: tuple[PreferenceRun, ...]
    first: Detected
    last: Detected
    views: tuple[View, ...] = ()
    offered: tuple[Offered, ...] = ()
    strokes: Strokes | None = None


def compared(
    case: str,
    method: Method,
    target: Target,
    drawn: Mask,
    truth: Mask,
    spacing_mm: Spacing,
    *,
    seconds: float,
    picks: int,
    lesion: int = 0,
) -> Measure:
    """Compare a mask ``(Z, Y, X)`` with its truth."""
    return Measure(
        case=case,
        method=method,
        target=target,
        lesion=lesion,
        overlap=overlap(drawn, truth),
        surface=surface_distance(drawn, truth, spacing_mm),
        seconds=seconds,
        picks=picks,
    )
