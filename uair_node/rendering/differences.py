"""Describe in words how a candidate differs from the other candidates, and from the round's reference.

The functions take arrays on the canonical grid (axes grow to superior, posterior, patient left).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_config.modalities.profile import LIVER
from uair_node.findings.volumes import Volumes, describe

Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]

_NOTABLE_ML = 1.0
_NOTABLE_SHARE = 0.005  # fraction of the liver's volume
_EVERYWHERE = "all around"
_HEIGHTS = ("near the lower edge", "half-way up", "near the dome")


@dataclass(frozen=True)
class Change:
    """Two masks compared: volume only in the first mask, volume only in the second, Dice coefficient."""

    added_ml: float
    removed_ml: float
    dice: float


def change(first: NDArray[np.bool_], other: NDArray[np.bool_], spacing_mm: Spacing) -> Change:
    """Compare two masks of the same shape. The Dice coefficient of two empty masks is 1."""
    ml = float(np.prod(spacing_mm)) / 1000.0
    counts = np.count_nonzero(first), np.count_nonzero(other), np.count_nonzero(first & other)
    total = counts[0] + counts[1]
    dice = 2.0 * counts[2] / total if total else 1.0
    return Change((counts[0] - counts[2]) * ml, (counts[1] - counts[2]) * ml, dice)


def cut_off_ends(volumes: Sequence[Labels], organ: str = LIVER.name) -> str:
    """Name the ends of the stack where a label volume touches the end, so the organ may be cut off.

    Parameters
    ----------
    volumes
        At least one label volume, ``(Z, Y, X)`` uint8, 0 background.

    Returns
    -------
    str
        A statement about the ends; empty if no label volume touches an end.
    """
    last = len(volumes[0])
    touched = [end for end in (1, last) if any(volume[end - 1].any() for volume in volumes)]
    if not touched:
        return ""
    slices = " and ".join(str(end) for end in touched)
    return f"{organ} touches slice {slices} of {last}: it may be cut off there"


def as_sentence(statement: str) -> str:
    """Return a statement about the organ as a sentence."""
    return f"The {statement}."


def against_siblings(
    labels: Labels, siblings: Sequence[Labels], spacing_mm: Spacing, organ: str = LIVER.name
) -> list[str]:
    """Describe how this candidate differs from all other candidates.

    Parameters
    ----------
    labels, siblings
        ``(Z, Y, X)`` uint8: 0 background, 1 liver, 1 + n lesion n.

    Returns
    -------
    list of str
        Statements, the most general first. If no difference is notable, then the list has a single statement
        about this.
    """
    if not siblings:
        return ["the only candidate"]
    own, others = describe(labels, spacing_mm), [describe(sibling, spacing_mm) for sibling in siblings]
    said = [
        *_rank(
            organ,
            own.liver_ml,
            [other.liver_ml for other in others],
            max(_NOTABLE_ML, _NOTABLE_SHARE * own.liver_ml),
        ),
        *_rank("lesion volume", _total(own), [_total(other) for other in others], 0.05),
        *_lesions(own, others),
        *(region.words for region in _regions(labels, siblings, spacing_mm)),
    ]
    return said or ["hardly differs from the other candidates"]


def headline(labels: Labels, siblings: Sequence[Labels], spacing_mm: Spacing, organ: str = LIVER.name) -> str:
    """Return the most important difference in a few words. The parameters are those of `against_siblings`.

    A lesion that only this candidate has or lacks is most important. Next is the largest region of the organ
    that most other candidates draw differently.
    """
    if not siblings:
        return ""
    own, others = describe(labels, spacing_mm), [describe(sibling, spacing_mm) for sibling in siblings]
    lesions = _lesions(own, others)
    if lesions:
        return lesions[0]
    regions = _regions(labels, siblings, spacing_mm)
    if regions:
        largest = max(regions, key=lambda region: region.ml)
        verb = "adds" if largest.included else "leaves out"
        return f"{verb} {largest.ml:.0f} ml {largest.place}"
    return against_siblings(labels, siblings, spacing_mm, organ)[0]


def of_the_unsure(
    labels: Labels, siblings: Sequence[Labels], uncertain: NDArray[np.bool_], spacing_mm: Spacing
) -> list[str]:
    """Describe how much of the uncertain region this candidate includes, compared with other candidates."""
    total = int(np.count_nonzero(uncertain))
    if not total:
        return []
    own, *others = (
        round(100.0 * np.count_nonzero((volume > 0) & uncertain) / total) for volume in (labels, *siblings)
    )
    ml = total * float(np.prod(spacing_mm)) / 1000.0
    among = f"; the other candidates: {min(others)} to {max(others)} %" if others else ""
    if len(set(others)) == 1:
        among = ", like the other candidates" if own in others else f"; the other candidates: {others[0]} %"
    return [f"contains {own} % of the {ml:.0f} ml where the model is unsure{among}"]


def against_reference(
    labels: Labels, reference: Labels, spacing_mm: Spacing, organ: str = LIVER.name
) -> list[str]:
    """Describe how the liver, then each lesion, differs from the round's reference."""
    said = [_changed(organ, change(labels > 0, reference > 0, spacing_mm))]
    numbers = np.union1d(np.unique(labels[labels > 1]), np.unique(reference[reference > 1])) - 1
    for number in numbers.tolist():
        now, before = labels == number + 1, reference == number + 1
        if not before.any():
            said.append(f"lesion {number}: new")
        elif not now.any():
            said.append(f"lesion {number}: left out")
        else:
            said.append(_changed(f"lesion {number}", change(now, before, spacing_mm)))
    return said


def _changed(what: str, found: Change) -> str:
    if not found.added_ml and not found.removed_ml:
        return f"{what}: unchanged"
    return f"{what}: {found.added_ml:.1f} ml more, {found.removed_ml:.1f} less, Dice {found.dice:.2f}"


def _rank(what: str, own: float, others: Sequence[float], notable: float) -> list[str]:
    """Return a sentence if this candidate is notably the largest or the smallest candidate."""
    nearest_below, nearest_above = own - max(others), min(others) - own
    if nearest_below >= notable:
        return [f"largest {what}: {nearest_below:.1f} ml more than the next"]
    if nearest_above >= notable:
        return [f"smallest {what}: {nearest_above:.1f} ml less than the next"]
    return []


def _lesions(own: Volumes, others: Sequence[Volumes]) -> list[str]:
    """Name the lesions that only this candidate has, and the lesions that it lacks but most others have."""
    mine = dict(own.lesions_ml)
    theirs: dict[int, list[float]] = {}
    for other in others:
        for number, ml in other.lesions_ml:
            theirs.setdefault(number, []).append(ml)
    only_here = [f"{number} ({ml:.1f} ml)" for number, ml in mine.items() if number not in theirs]
    missing = [
        str(number)
        for number, found in sorted(theirs.items())
        if number not in mine and 2 * len(found) > len(others)
    ]
    said = []
    if only_here:
        said.append(f"only here: {_plural(only_here)}")
    if missing:
        said.append(f"without {_plural(missing)}, unlike most others")
    return said


def _plural(lesions: Sequence[str]) -> str:
    return f"lesion{'s' if len(lesions) > 1 else ''} {', '.join(lesions)}"


@dataclass(frozen=True)
class _Region:
    """A region of the organ that most other candidates draw differently: its volume in ml, and its place."""

    included: bool
    ml: float
    place: str

    @property
    def words(self) -> str:
        verb = "includes" if self.included else "leaves out"
        where = self.place if self.place == _EVERYWHERE else f"mostly {self.place}"
        return f"{verb} {self.ml:.1f} ml unlike most others, {where}"


def _regions(labels: Labels, siblings: Sequence[Labels], spacing_mm: Spacing) -> list[_Region]:
    """Return the regions where the candidate's organ differs from the organ in most other candidates."""
    votes = np.zeros(labels.shape, np.uint8)
    for sibling in siblings:
        votes += sibling > 0
    own = labels > 0
    half = len(siblings) / 2
    organ = own | (votes > 0)
    found = []
    for included, apart in ((True, own & (votes < half)), (False, ~own & (votes > half))):
        ml = np.count_nonzero(apart) * float(np.prod(spacing_mm)) / 1000.0
        if ml >= _NOTABLE_ML:
            found.append(_Region(included, ml, _place(apart, organ)))
    return found


def _place(part: NDArray[np.bool_], organ: NDArray[np.bool_]) -> str:
    """Return words for the place in the organ where most of `part` lies: height, side and depth."""
    thirds = _shares(part, organ, axis=0, parts=3)
    words = [_HEIGHTS[int(np.argmax(thirds))]] if max(thirds) > 0.5 else []
    for axis, (first, second) in ((2, ("on the right", "on the left")), (1, ("in front", "at the back"))):
        first_share, other = _shares(part, organ, axis, parts=2)
        if max(first_share, other) > 2 * min(first_share, other):
            words.append(first if first_share > other else second)
    return ", ".join(words) if words else _EVERYWHERE


def _shares(part: NDArray[np.bool_], organ: NDArray[np.bool_], axis: int, parts: int) -> list[float]:
    """Return the fractions of `part` in `parts` equal sections of the organ's extent along an axis."""
    others = tuple(n for n in range(3) if n != axis)
    extent = np.flatnonzero(organ.any(axis=others))
    along = part.sum(axis=others)[extent[0] : extent[-1] + 1]
    return [float(stretch.sum()) / max(1, int(along.sum())) for stretch in np.array_split(along, parts)]


def _total(volumes: Volumes) -> float:
    return sum(ml for _, ml in volumes.lesions_ml)
