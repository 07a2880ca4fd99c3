"""Find the target of each segment of a returned SEG: the organ, a known lesion, a new lesion, or none.

Our Tracking UID decides first, then the code, then the words of the label (`uair_node.dicom.segment_kind`).
If none of these decides, then the segment's position decides, in comparison with all candidates of the round.
Each lesion is assigned to one segment only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from dicom_config.modalities.profile import Organ
from uair_node.dicom.segment_kind import kind_of
from uair_node.dicom.segment_words import SegmentKind

Labels = npt.NDArray[np.uint8]
Voxels = npt.NDArray[np.uint32]
"""Flat indices into (Z, Y, X). A mask for each segment would need too much memory."""

_ORGAN = 1
_MOST_LESIONS = 254  # uint8: 0 background, 1 organ, 1 + n lesion n
_ORGAN_DICE = 0.8
"""An unspecified segment is the organ if its Dice overlap with a candidate's organ is at least this value.

A right lobe, two thirds of a liver, has a smaller overlap.
"""
_LESION_SHARE = 0.5
"""An unspecified segment is a known lesion if both share at least this fraction of the smaller volume.

A vessel that runs through a lesion shares less.
"""
_PROOF_VOXELS = 100
"""The least number of voxels of an exact copy of a candidate's target that proves an edit.

A lesion of a few voxels may be equal by chance.
"""
_INSIDE_SHARE = 0.5
"""The least fraction of an unspecified segment in the organ if the segment is a new lesion."""
_LARGEST_SHARE = 0.5
"""The largest fraction of the organ that an unspecified segment may cover as a new lesion."""


@dataclass(frozen=True)
class KnownTargets:
    """The targets of a case, to which returned segments are compared.

    Parameters
    ----------
    lesion_of_tracking
        Lesion number (from 1) of each Tracking UID that the case may use.
    offered
        ``(Z, Y, X)``, the labels of the round's candidates.
    used
        Numbers of lesions that the case had in any round. A new lesion gets another number.
    candidate_uids
        SOP Instance UIDs of the case's candidates.
    """

    lesion_of_tracking: Mapping[str, int] = field(default_factory=dict)
    offered: Sequence[Labels] = ()
    used: Collection[int] = ()
    candidate_uids: frozenset[str] = frozenset()

    @cached_property
    def sizes(self) -> Sequence[npt.NDArray[np.int64]]:
        """Number of voxels of each label of each candidate.

        Counting slice by slice needs an eighth of the memory.
        """
        return [
            np.sum([np.bincount(plane.ravel(), minlength=256) for plane in labels], axis=0)
            for labels in self.offered
        ]

    @cached_property
    def lesions(self) -> frozenset[int]:
        """Labels of the lesions that the case had."""
        drawn = {int(value) for sizes in self.sizes for value in np.flatnonzero(sizes) if value > _ORGAN}
        return frozenset(drawn | {_ORGAN + number for number in self.used})


@dataclass(frozen=True)
class Targets:
    """The targets of the segments of one object.

    Parameters
    ----------
    label_of_segment
        Label (1 organ, 1 + n lesion n) of each segment number that is a target.
    added
        Segments that are new lesions.
    unspecified
        Segments of `added` that were recognised by their position. Neither their code nor their name shows a
        structure.
    ignored
        Segments that show other structures.
    unrecognised
        Segments that neither code, name nor position identifies.
    outside
        Segments of `unrecognised` that are lesions by code or name, and lie outside of the organ.
    is_edit
        Whether the object is an edit of a candidate. An edit has Tracking UIDs of the case, or names a
        candidate, or holds a candidate's target voxel for voxel (at least 100 voxels). OHIF writes no
        Tracking UID and no candidate's UID. Without the last rule, OHIF's users could not delete a lesion.
    """

    label_of_segment: Mapping[int, int]
    added: tuple[int, ...]
    unspecified: tuple[int, ...]
    ignored: tuple[int, ...]
    unrecognised: tuple[int, ...]
    outside: tuple[int, ...]
    is_edit: bool


def tell_targets(
    segments: Mapping[int, tuple[Dataset, Voxels]], organ: Organ, known: KnownTargets, *, derived: bool
) -> Targets:
    """Return the target of each segment.

    Parameters
    ----------
    segments
        Segment number -> item of the Segment Sequence, and the segment's voxels. Voxels are empty if they
        were not read.
    derived
        Whether the object names a candidate of the case as its source.

    Raises
    ------
    InputError
        ``edited-unreadable``: more lesions than labels.
    """
    return _Telling(segments, organ, known).tell(derived=derived)


class _Telling:
    def __init__(
        self, segments: Mapping[int, tuple[Dataset, Voxels]], organ: Organ, known: KnownTargets
    ) -> None:
        self._segments, self._known = segments, known
        self._kinds = {number: kind_of(segment, organ) for number, (segment, _) in segments.items()}
        self._labels: dict[int, int] = {}
        self._places = {number: _SegmentOverlap(voxels, known) for number, (_, voxels) in segments.items()}

    def tell(self, *, derived: bool) -> Targets:
        tracked = self._take_tracked()
        self._take_organ()
        self._take_own_names()
        self._take_by_place()
        is_edit = derived or tracked or self._holds_a_target()
        added, unspecified = self._take_new(is_edit=is_edit)
        left = [number for number in self._segments if number not in self._labels]
        ignored = [number for number in left if self._kinds[number] is SegmentKind.OTHER]
        return Targets(
            label_of_segment=dict(sorted(self._labels.items())),
            added=tuple(added),
            unspecified=tuple(unspecified),
            ignored=tuple(ignored),
            unrecognised=tuple(number for number in left if number not in ignored),
            outside=tuple(number for number in left if self._kinds[number] is SegmentKind.LESION),
            is_edit=is_edit,
        )

    def _take_tracked(self) -> bool:
        for number, (segment, _) in self._segments.items():
            lesion = self._known.lesion_of_tracking.get(str(segment.get("TrackingUID", "")))
            if lesion is not None:
                self._labels[number] = _ORGAN + lesion
        return bool(self._labels)

    def _take_organ(self) -> None:
        for number, kind in self._open():
            if kind is SegmentKind.ORGAN:
                self._labels[number] = _ORGAN

    def _take_own_names(self) -> None:
        """Assign a segment with the name "Lesion 2" to lesion 2, if the case has that lesion."""
        for number, kind in self._open():
            words = str(self._segments[number][0].get("SegmentLabel", "")).strip().casefold()
            own = words.removeprefix("lesion").strip()
            if kind is SegmentKind.LESION and words.startswith("lesion") and own.isdecimal():
                label = _ORGAN + int(own)
                if label in self._known.lesions and label not in self._labels.values():
                    self._labels[number] = label

    def _take_by_place(self) -> None:
        """Assign the remaining segments to targets by Dice overlap, the most similar pair first."""
        found = [
            (dice, number, label)
            for number, kind in self._open()
            if kind is not SegmentKind.OTHER
            for dice, label in self._places[number].likely(is_lesion=kind is SegmentKind.LESION)
            if label == _ORGAN or kind is not SegmentKind.PERHAPS_ORGAN
        ]
        for _, number, label in sorted(found, key=lambda match: (-match[0], match[1:])):
            free = label == _ORGAN or label not in self._labels.values()
            if free and number not in self._labels:
                self._labels[number] = label

    def _holds_a_target(self) -> bool:
        return any(
            len(self._segments[number][1]) >= _PROOF_VOXELS and self._places[number].equals(label)
            for number, label in self._labels.items()
        )

    def _take_new(self, *, is_edit: bool) -> tuple[list[int], list[int]]:
        organ = [self._segments[number][1] for number, label in self._labels.items() if label == _ORGAN]
        drawn_organ = np.concatenate(organ) if organ else np.empty(0, np.uint32)
        added, unspecified = [], []
        for number, kind in self._open():
            place = self._places[number]
            if not len(self._segments[number][1]):
                continue
            if kind is SegmentKind.LESION and place.near_organ:
                added.append(number)
            elif kind is SegmentKind.UNSPECIFIED and is_edit and place.lies_in_organ(drawn_organ):
                added.append(number)
                unspecified.append(number)
        for number in added:
            self._labels[number] = self._next_label()
        return added, unspecified

    def _next_label(self) -> int:
        label = max({_ORGAN, *self._known.lesions, *self._labels.values()}) + 1
        if label > _ORGAN + _MOST_LESIONS:
            raise InputError(
                "edited-unreadable",
                f"The case and the returned segmentation together have more than {_MOST_LESIONS} lesions.",
                "Save lesions that belong together as one segment.",
            )
        return label

    def _open(self) -> Iterator[tuple[int, SegmentKind]]:
        return ((n, kind) for n, kind in list(self._kinds.items()) if n not in self._labels)


class _SegmentOverlap:
    """The overlap of a segment with the round's candidates."""

    def __init__(self, voxels: Voxels, known: KnownTargets) -> None:
        self._voxels, self._known = voxels, known

    @cached_property
    def _shared(self) -> Sequence[npt.NDArray[np.int64]]:
        """The number of voxels that a segment shares with each label of each candidate."""
        return [
            np.bincount(labels.reshape(-1)[self._voxels], minlength=256) for labels in self._known.offered
        ]

    def likely(self, *, is_lesion: bool) -> list[tuple[float, int]]:
        """Return the labels that the segment may be, each with its Dice overlap.

        `is_lesion` is true if code or name shows that the segment is a lesion. Labels are compared by Dice,
        not by the number of shared voxels. An enlarged lesion has more voxels in the old organ than in the
        old lesion.
        """
        size = len(self._voxels)
        best: dict[int, float] = {}
        for shared, sizes in zip(self._shared, self._known.sizes, strict=True):
            for label in np.flatnonzero(shared[_ORGAN + 1 :]) + _ORGAN + 1:
                if is_lesion or shared[label] >= _LESION_SHARE * min(size, sizes[label]):
                    dice = 2 * shared[label] / (sizes[label] + size)
                    best[int(label)] = max(best.get(int(label), 0.0), float(dice))
        if not is_lesion:
            organ = self._organ_dice()
            best = {label: dice for label, dice in best.items() if dice > organ}
            if organ >= _ORGAN_DICE:
                best[_ORGAN] = organ
        return [(dice, label) for label, dice in best.items()]

    def _organ_dice(self) -> float:
        """Return the largest Dice overlap with the whole organ of a candidate, its lesions included."""
        return max(
            (
                float(2 * shared[_ORGAN:].sum() / (sizes[_ORGAN:].sum() + len(self._voxels)))
                for shared, sizes in zip(self._shared, self._known.sizes, strict=True)
            ),
            default=0.0,
        )

    def equals(self, label: int) -> bool:
        """Return whether a candidate's voxels of `label` are exactly the segment's voxels."""
        size = len(self._voxels)
        return any(
            shared[label] == size == sizes[label]
            for shared, sizes in zip(self._shared, self._known.sizes, strict=True)
        )

    @property
    def near_organ(self) -> bool:
        """Whether the segment reaches into the box around all candidates' organ. True without candidates."""
        if not self._known.offered:
            return True
        box = self._known_box()
        index = np.unravel_index(self._voxels, self._known.offered[0].shape)
        inside = [(axis >= low) & (axis <= high) for axis, (low, high) in zip(index, box, strict=True)]
        return bool(np.logical_and.reduce(inside).any())

    def _known_box(self) -> list[tuple[int, int]]:
        box = []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            marked = np.flatnonzero(
                np.logical_or.reduce([labels.any(axis=others) for labels in self._known.offered])
            )
            box.append((int(marked[0]), int(marked[-1])) if marked.size else (0, -1))
        return box

    def lies_in_organ(self, drawn_organ: Voxels) -> bool:
        """Return whether the segment lies in the drawn or offered organ, and is only a part of this organ.

        The limits are `_INSIDE_SHARE` and `_LARGEST_SHARE`.
        """
        inside = np.isin(self._voxels, drawn_organ)
        for labels in self._known.offered:
            inside |= labels.reshape(-1)[self._voxels] > 0
        largest = max((int(sizes[_ORGAN:].sum()) for sizes in self._known.sizes), default=len(drawn_organ))
        size = len(self._voxels)
        return bool(inside.sum() >= _INSIDE_SHARE * size) and size <= _LARGEST_SHARE * max(
            largest, len(drawn_organ)
        )
