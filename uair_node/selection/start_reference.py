"""Read liver and lesions from another system's segmentation, as a reference on the source grid.

Other structures are left out, and a remark names them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_config.codes import SelectionClass
from uair_node.cases.reader_choice import LIVER
from uair_node.dicom.edited_segmentation import EditedSegmentation
from uair_node.dicom.rtstruct_reader import read_structures
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume
from uair_node.storage.artifacts import Labels

CHARACTER = "from another system"
_NAMED = 8
"""The most segments that a remark names. A whole-body segmentation has about a hundred."""


@dataclass(frozen=True)
class Reference:
    """A reference `labels` ``(Z, Y, X)`` on the source grid, and sentences for the reader."""

    labels: Labels
    remark: str


def read_reference(
    dataset: Dataset, volume: Volume, offered: Sequence[Labels], used: Collection[int]
) -> Reference:
    """Read a SEG or an RTSTRUCT as the reference of a round.

    Parameters
    ----------
    volume
        The source grid; its voxels are not read.
    offered
        Our own candidates, ``(Z, Y, X)`` labels on the source grid. If `dataset` lacks the liver, then the
        liver comes from the first candidate. If `dataset` has no lesion, then the lesions come from the first
        candidate.
    used
        Numbers of the lesions that the case had in any round.

    Raises
    ------
    InputError
        An error of `uair_node.dicom.seg_reader.read_edited` or
        `uair_node.dicom.rtstruct_reader.read_structures`.
    """
    structures = dataset.SOPClassUID == SelectionClass.RT_STRUCTURE_SET
    read = read_structures if structures else read_edited
    found = read(dataset, volume, KnownTargets(offered=offered, used=used))
    return Reference(
        _completed(found.labels, offered[0]), _remark(found, offered[0], volume.profile.organ.name)
    )


def _completed(drawn: Labels, offered: Labels) -> Labels:
    """Return a reference with liver and lesions.

    If the segmentation has no liver, then our candidate's liver is added. If it has no lesion, then our
    candidate's lesions are added. If it has a lesion, then no lesion is added.
    """
    reference = drawn.copy()
    if not (drawn == LIVER).any():
        reference[(offered > 0) & (drawn == 0)] = LIVER
    if not (drawn > LIVER).any():
        reference[offered > LIVER] = offered[offered > LIVER]
    return reference


def _remark(found: EditedSegmentation, offered: Labels, organ: str) -> str:
    lesions = len(set(found.label_of_segment.values()) - {LIVER})
    drawn = [organ] if LIVER in found.label_of_segment.values() else []
    drawn += [f"{lesions} lesion{'s' if lesions > 1 else ''}"] if lesions else []
    sentences = [f"Started from another system's segmentation: {', '.join(drawn)}."]
    if LIVER not in found.label_of_segment.values():
        sentences.append(f"That segmentation has no {organ}, so our {organ} stays.")
    if not lesions and (offered > LIVER).any():
        sentences.append("That segmentation has no lesion, so our lesions stay.")
    left_out = sorted({*found.targets.ignored, *found.targets.unrecognised})
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        sentences.append(f"Left out as another structure: {found.speak_of(left_out[:_NAMED])}{more}.")
    return " ".join([*sentences, *found.remarks])
