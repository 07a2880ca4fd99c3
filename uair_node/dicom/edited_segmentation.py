"""A returned segmentation of any object type: its targets as labels on the source grid.

This module has what the readers of SEG and RTSTRUCT share: on which images the object may be drawn, and how
drawn voxels become labels. `uair_node.dicom.segment_targets` decides which target a segment is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_config.errors import InputError, UairError
from uair_node.dicom.segment_kind import speak_of
from uair_node.dicom.segment_targets import KnownTargets, Targets, Voxels, tell_targets
from uair_node.dicom.volume import Volume

Labels = npt.NDArray[np.uint8]

MOST_VOXELS = 1 << 26
"""The most voxels of all segments together: 256 MiB of indices. A liver has about 2 million, a body 40
million."""

_one_at_a_time = threading.Lock()
"""Held while an object is read: associations that send at once need the memory of one object."""


@dataclass(frozen=True, eq=False)
class EditedSegmentation:
    """The content of a returned segmentation.

    Attributes
    ----------
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n. A lesion's voxel is the
        lesion's where segments overlap.
    targets
        Which target each segment is, and which segments are none.
    names
        How to speak of each segment that has voxels, without free text.
    remarks
        Sentences for the reader about how it was read.
    """

    labels: Labels
    targets: Targets
    names: Mapping[int, str]
    remarks: tuple[str, ...] = ()

    @property
    def label_of_segment(self) -> Mapping[int, int]:
        """Which label each segment number was recognised as."""
        return self.targets.label_of_segment

    def speak_of(self, numbers: Sequence[int]) -> str:
        """Name segments in a sentence."""
        return ", ".join(self.names[number] for number in numbers)


@contextmanager
def reading_alone(unreadable: Callable[[str], InputError]) -> Iterator[None]:
    """Let no other returned segmentation be read meanwhile; any foreign exception becomes `unreadable`."""
    try:
        with _one_at_a_time:
            yield
    except UairError:
        raise
    except Exception as error:
        # Whatever a peer sent fails here with nearly any exception, whose text may quote patient data.
        raise unreadable(f"Reading it failed with {type(error).__name__}.") from None


def label_drawn(
    drawn: Mapping[int, Voxels],
    segments: Mapping[int, Dataset],
    volume: Volume,
    known: KnownTargets,
    *,
    derived: bool,
    noun: str = "segment",
    remarks: Sequence[str] = (),
) -> EditedSegmentation:
    """Return what was drawn as labels on the source grid.

    Parameters
    ----------
    drawn
        Segment number -> its voxels, at least one of a segment that may be a target.
    segments
        Segment number -> item of the Segment Sequence, or its likeness.
    derived
        Whether the object names a candidate of the case as what it was made from.
    noun
        What messages call a segment.

    Raises
    ------
    InputError
        ``edited-unrecognised``: none is liver or lesion. ``edited-unreadable``: more lesions than labels.
    """
    organ = volume.profile.organ
    targets = tell_targets({n: (segments[n], drawn[n]) for n in sorted(drawn)}, organ, known, derived=derived)
    labels = np.zeros(volume.shape, np.uint8)
    for number, label in sorted(targets.label_of_segment.items(), key=lambda pair: pair[1]):
        labels.reshape(-1)[drawn[number]] = label
    names = {number: speak_of(number, segments[number], organ, noun) for number in sorted(drawn)}
    edited = EditedSegmentation(labels, targets, names, tuple(remarks))
    if not targets.label_of_segment:
        raise unrecognised(edited, organ.name)
    return edited


def unrecognised(edited: EditedSegmentation, organ: str) -> InputError:
    """Refuse a segmentation for segments that cannot be told, or that lie outside of the organ."""
    targets = edited.targets
    if targets.outside and not set(targets.unrecognised) - set(targets.outside):
        return InputError(
            "edited-outside-organ",
            f"Drawn as a lesion, but outside the {organ}: {edited.speak_of(targets.outside)}.",
            f"Delete what lies outside the {organ}, or draw it again, and send the segmentation again.",
        )
    told = edited.speak_of(targets.unrecognised or sorted(edited.names))
    return InputError(
        "edited-unrecognised",
        f"Neither {organ} nor lesion by code, name or place: {told}.",
        f"Name the segment '{organ}' or 'lesion', or delete it, and send the segmentation again.",
    )


def check_source(named: Collection[str], frames_of_reference: Collection[str], volume: Volume) -> None:
    """Refuse what names other images, or lies in another space without naming any of ours.

    Parameters
    ----------
    named
        SOP Instance UIDs of the images that it was drawn on.

    Raises
    ------
    InputError
        ``edited-other-frame-of-reference``, ``edited-other-series``.
    """
    ours = {source.sop_instance_uid for source in volume.slices}
    if not ours.isdisjoint(named):
        return
    if set(frames_of_reference) != {volume.frame_of_reference_uid}:
        raise InputError(
            "edited-other-frame-of-reference",
            "The returned segmentation lies in another frame of reference than the series.",
            "Draw on the series that the candidates were made from, not on a registered or prior one.",
        )
    if named:
        raise InputError(
            "edited-other-series",
            "The returned segmentation was drawn on other images.",
            "Draw on the series that the candidates were made from, not on another phase of the study.",
        )


def nothing_drawn(organ: str) -> InputError:
    """Refuse a segmentation without a voxel."""
    return InputError(
        "edited-empty",
        f"No voxel of the returned segmentation belongs to the {organ} or to a lesion.",
        "Save the segmentation in the viewer again, with segments named Liver and Lesion 1, Lesion 2 …",
    )


def too_large(most: str) -> InputError:
    """Refuse a segmentation that has more than a reader draws."""
    return InputError(
        "edited-too-large",
        f"The returned segmentation has more than {most}.",
        "Save the organ and its lesions alone, without other structures, and send the segmentation again.",
    )
