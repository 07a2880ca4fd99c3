"""The simulated reader. It reads the archive's objects, picks, and sends the picked object back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.seg import segread

from dicom_config.codes import LESION
from dicom_config.errors import TransientError
from dicom_config.model import Destination
from uair_node.dicom.volume import Volume
from uair_node.network.outgoing import OutgoingInstance
from uair_node.network.scu import send
from uair_node.network.statuses import DeliveryVerdict
from uair_node.storage.artifacts import Labels
from workers.truth.metrics import agreement


@dataclass(frozen=True)
class Score:
    """Dice with the truth: the whole liver, and the union of all lesions (None without lesions)."""

    liver: float
    lesions: float | None

    @property
    def mean(self) -> float:
        """The mean by which the reader compares candidates."""
        return self.liver if self.lesions is None else (self.liver + self.lesions) / 2


@dataclass(frozen=True)
class Offer:
    """A candidate that is in the archive. `labels` are on the source grid."""

    k: int
    sop_instance_uid: str
    path: Path
    character: str
    labels: Labels
    score: Score | None


Choose = Callable[[int, Sequence[Offer]], int]
"""A function that gets the number of the round and the round's offers. It returns the picked k."""


def read_offer(path: Path, volume: Volume) -> Labels:
    """Read a SEG from the archive as a label volume `(Z, Y, X)`: 1 liver, 1 + n the n-th lesion present."""
    seg = segread(path)
    kinds = [seg.get_segment_description(number).segmented_property_type for number in seg.segment_numbers]
    lesions = [number for number, kind in zip(seg.segment_numbers, kinds, strict=True) if kind == LESION]
    slice_of = {(slice_.sop_instance_uid, slice_.frame): k for k, slice_ in enumerate(volume.slices)}
    labels = np.zeros(volume.shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, *volume.shape[1:])
    for groups, pixels in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = int(groups.FrameContentSequence[0].DimensionIndexValues[0])  # segments, in our objects
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        k = slice_of[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
        labels[k][pixels > 0] = 2 + lesions.index(number) if number in lesions else 1
    return labels


def score(labels: Labels, truth: Labels) -> Score:
    """Return the Dice of a label volume with the truth."""
    found = agreement(labels, truth)
    return Score(found.liver.dice, found.lesions.dice if found.lesions else None)


def choose_best(_round: int, offers: Sequence[Offer]) -> int:
    """Pick the candidate with the best mean Dice."""
    return max(offers, key=lambda offer: offer.score.mean if offer.score else 0.0).k


def choose_first(_round: int, offers: Sequence[Offer]) -> int:
    """Pick the first candidate."""
    return offers[0].k


def answer(offer: Offer, to: Destination, sop_class_uid: str) -> None:
    """Send the picked object back unchanged, like a viewer's command "send to".

    Raises
    ------
    TransientError
        ``pick-refused``: the node refused the object.
    """
    for reply in send(to, [OutgoingInstance(offer.k, sop_class_uid, offer.path)]):
        if reply.verdict != DeliveryVerdict.CONFIRMED:
            raise TransientError("pick-refused", f"{to.name} answered: {reply.reason}.")
