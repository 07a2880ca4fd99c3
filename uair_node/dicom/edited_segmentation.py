"""Turn a returned segmentation of any object type into labels on the source series' grid.

The modules that read SEG and RTSTRUCT share this module. It checks on which images the object was drawn, and
turns drawn voxels into labels. `uair_node.dicom.segment_targets` decides which target a segment is.
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
"""The largest number of voxels of all segments together: 256 MiB of indices.

A liver has about 2 million voxels, a body 40 million.
"""

_one_at_a_time = threading.Lock()
"""The lock that a thread holds while it reads an object.

So several associations that send at the same time need the memory of only one object.
"""


@dataclass(frozen=True, eq=False)
class EditedSegmentation:
    """The content of a returned segmentation.

    Attributes
    ----------
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n. Where segments overlap,
        the lesion's label wins.
    targets
        The target of each segment, and the segments that are not targets.
    names
        A name for each segment that has voxels. It contains no free text of the object.
    remarks
        Sentences for the reader about the interpretation of the object.
    """

    labels: Labels
    targets: Targets
    names: Mapping[int, str]
    remarks: tuple[str, ...] = ()

    @property
    def label_of_segment(self) -> Mapping[int, int]:
        """Return the label of each recognised segment number."""
        return self.targets.label_of_segment

    def speak_of(self, numbers: Sequence[int]) -> str:
        """Return the names of segments, joined for use in a sentence."""
        return ", ".join(self.names[number] for number in numbers)


@contextmanager
def reading_alone(unreadable: Callable[[str], InputError]) -> Iterator[None]:
    """Hold the lock, so that one returned segmentation is read at a time.

    An exception that is no UairError becomes the error that `unreadable` returns for a reason.
    """
    try:
        with _one_at_a_time:
            yield
    except UairError:
        raise
    except Exception as error:
        # A damaged object can raise nearly any exception here. Its text may quote patient data.
        raise unreadable(f"Reading failed with {type(error).__name__}.") from None


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
    """Convert drawn voxels to labels on the source grid.

    Parameters
    ----------
    drawn
        Segment number -> flat indices of its voxels. At least one segment that may be a target has a voxel.
    segments
        Segment number -> item of the Segment Sequence, or a data set of the same form.
    derived
        Whether the object names a candidate of the case as its source.
    noun
        The word for a segment in messages.

    Raises
    ------
    InputError
        ``edited-unrecognised``: no segment is liver or lesion. ``edited-outside-organ``: all lesions lie
        outside the organ. ``edited-unreadable``: more lesions than labels.
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
    """Return the error for segments that were not recognised, or that lie outside of the organ."""
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
        f"Code, name and place do not show whether this is the {organ} or a lesion: {told}.",
        f"Name the segment '{organ}' or 'lesion', or delete it, and send the segmentation again.",
    )


def check_source(named: Collection[str], frames_of_reference: Collection[str], volume: Volume) -> None:
    """Refuse an object that was drawn on other images, or in another frame of reference.

    Parameters
    ----------
    named
        SOP Instance UIDs of the images that the object names as its source. If one of these images is in the
        volume, then the frame of reference does not matter.

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
    """Return the error for a segmentation without a voxel."""
    return InputError(
        "edited-empty",
        f"No voxel of the returned segmentation belongs to the {organ} or to a lesion.",
        "Save the segmentation in the viewer again, with segments named Liver and Lesion 1, Lesion 2 …",
    )


def too_large(most: str) -> InputError:
    """Return the error for a segmentation that is larger than readers draw. `most` is the limit in words."""
    return InputError(
        "edited-too-large",
        f"The returned segmentation has more than {most}.",
        "Save the organ and its lesions alone, without other structures, and send the segmentation again.",
    )
