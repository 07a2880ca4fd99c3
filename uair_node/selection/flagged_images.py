"""Read a Key Object that flags images of a case. With a drop word, it drops the lesion on these images.

Drop words are words of the settings that mean "no lesion". An image alone does not show where a lesion lies.
So the Key Object needs a drop word, and exactly one lesion must lie on all of its images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_config.errors import InputError
from uair_node.cases.reader_choice import LIVER
from uair_node.cases.tables import CaseInstance, Instance
from uair_node.context import Context
from uair_node.dicom.volume import Volume
from uair_node.selection.mark_meaning import says
from uair_node.storage.artifacts import StoredCandidate


def flags_images(context: Context, references: Sequence[str]) -> bool:
    """Return whether any of the referenced instances is an image of a case."""
    with context.database.reading() as session:
        found = session.scalar(
            select(CaseInstance.case_id)
            .join(Instance, Instance.id == CaseInstance.instance_id)
            .where(Instance.sop_instance_uid.in_(references))
            .limit(1)
        )
    return found is not None


@dataclass(frozen=True)
class FlaggedImages:
    """The images that a Key Object flags.

    Attributes
    ----------
    images
        Pairs of a SOP Instance UID and frame numbers. If a pair has no frame number, it means all frames.
    drops
        Whether the Key Object contains a drop word.
    """

    images: tuple[tuple[str, frozenset[int]], ...]
    drops: bool

    def dropped(self, volume: Volume, offered: Sequence[StoredCandidate]) -> int:
        """Return the label value of the lesion that the Key Object drops.

        Parameters
        ----------
        volume
            The source grid.
        offered
            The round's candidates on the source grid.

        Raises
        ------
        InputError
            ``mark-without-place``: the Key Object has no drop word. ``mark-slice-unknown``: it flags no image
            of this case. ``mark-on-nothing``: no lesion lies on all of the images. ``mark-several-lesions``:
            more than one lesion lies on all of the images.
        """
        if not self.drops:
            raise InputError(
                "mark-without-place",
                "The Key Object flags images of the case, but an image alone does not mark a lesion.",
                "To mark a lesion, measure it on the image. To pick a candidate, flag the candidate or its "
                "page.",
            )
        slices = self._slices(volume)
        if not slices:
            raise InputError(
                "mark-slice-unknown",
                "The Key Object flags an image that the case does not have.",
                "Flag an image of the series that the candidates were made from.",
            )
        on_all = set.intersection(*(_lesions_on(k, offered) for k in slices))
        if not on_all:
            raise InputError(
                "mark-on-nothing",
                "The Key Object drops a lesion, but no lesion lies on all images that it flags.",
                "Flag an image on which the lesion lies. Or measure the lesion, and write the drop word into "
                "the label of the measurement.",
            )
        if len(on_all) > 1:
            raise InputError(
                "mark-several-lesions",
                "The Key Object drops a lesion, but several lesions lie on the images that it flags.",
                "Flag an image with only that lesion. Or measure the lesion, and write the drop word into "
                "the label of the measurement.",
            )
        return on_all.pop()

    def _slices(self, volume: Volume) -> list[int]:
        return [
            k
            for uid, frames in self.images
            for k, frame in volume.slices_of(uid).items()
            if not frames or (frame or 1) in frames
        ]


def flagged_images(dataset: Dataset, references: Sequence[str], drop_words: Collection[str]) -> FlaggedImages:
    """Read the images and the drop words of a Key Object (PS3.16 TID 2010).

    Parameters
    ----------
    references
        SOP Instance UIDs that the whole object references. They are used if the content tree references no
        object.
    drop_words
        Words that drop a lesion.

    Raises
    ------
    InputError
        ``selection-unreadable``: an element of the object cannot be decoded.
    """
    try:
        images = tuple(_images(dataset)) or tuple((uid, frozenset[int]()) for uid in references)
        return FlaggedImages(images, says(_words(dataset), drop_words))
    except Exception as error:
        # pydicom decodes on access. A peer's bytes can cause nearly any exception, whose text may quote them.
        raise InputError(
            "selection-unreadable",
            f"The Key Object cannot be read ({type(error).__name__}).",
            "Flag the images again.",
        ) from None


def _images(dataset: Dataset) -> Iterator[tuple[str, frozenset[int]]]:
    for item in _items(dataset):
        for reference in item.get("ReferencedSOPSequence") or ():
            value = reference.get("ReferencedFrameNumber")
            numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            frames = frozenset(int(number) for number in numbers if number not in (None, ""))
            yield str(reference.get("ReferencedSOPInstanceUID") or "").strip(" \0"), frames


def _lesions_on(k: int, offered: Sequence[StoredCandidate]) -> set[int]:
    values = (np.unique(candidate.labels[k]) for candidate in offered)
    return {int(value) for found in values for value in found if value > LIVER}


def _words(dataset: Dataset) -> str:
    """Return the series description, the document title and all text values, joined (PS3.16 TID 2010)."""
    titles = [str(code.get("CodeMeaning") or "") for code in dataset.get("ConceptNameCodeSequence") or ()]
    texts = [str(item.get("TextValue") or "") for item in _items(dataset)]
    return " / ".join([str(dataset.get("SeriesDescription") or ""), *titles, *texts])


def _items(dataset: Dataset) -> list[Dataset]:
    return list(dataset.get("ContentSequence") or ())
