"""Refer to the source images of results: instances, or frames of multi-frame instances.

This module writes the Image SOP Instance Reference (PS3.3 Table 10-3) for all results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from uair_node.dicom.volume import SourceSlice, Volume
from uair_node.results.uids import result_uid


def refer(reference: Dataset, slice_: SourceSlice) -> Dataset:
    """Fill `reference` with the reference to a slice, and return it."""
    reference.ReferencedSOPClassUID = slice_.sop_class_uid
    reference.ReferencedSOPInstanceUID = slice_.sop_instance_uid
    if slice_.frame is not None:
        reference.ReferencedFrameNumber = slice_.frame
    return reference


def refer_to_instances(slices: Sequence[SourceSlice]) -> list[Dataset]:
    """Return one reference for each instance. It means all frames of the instance."""
    instances = dict.fromkeys(replace(slice_, frame=None) for slice_ in slices)
    return [refer(Dataset(), instance) for instance in instances]


def one_image_a_slice(headers: Sequence[Dataset], volume: Volume) -> list[Dataset]:
    """Return headers of slices in the form of single-frame images, also for slices of multi-frame images.

    highdicom accepts a single multi-frame image that has exactly the object's frames. But a series may have
    several multi-frame images, in any order. So each frame gets its own UID. `refer_to_frames` replaces these
    UIDs in the object.
    """
    images = []
    for header, slice_ in zip(headers, volume.slices, strict=True):
        image = Dataset()
        image.update(header)
        if slice_.frame is not None:
            # New elements, because the existing elements are shared with the header.
            image.add_new("SOPClassUID", "UI", CTImageStorage)
            image.add_new("SOPInstanceUID", "UI", _stand_in(slice_))
        images.append(image)
    return images


def refer_to_frames(seg: Dataset, volume: Volume) -> None:
    """Replace the UIDs of `one_image_a_slice` with the real images and frame numbers."""
    frames = {_stand_in(slice_): slice_ for slice_ in volume.slices if slice_.frame is not None}
    if not frames:
        return
    for frame in seg.PerFrameFunctionalGroupsSequence:
        for image in frame.DerivationImageSequence[0].SourceImageSequence:
            if image.ReferencedSOPInstanceUID in frames:  # segments share items, which change only once
                refer(image, frames[image.ReferencedSOPInstanceUID])
    seg.SourceImageSequence = refer_to_instances(volume.slices)
    (series,) = seg.ReferencedSeriesSequence
    series.ReferencedInstanceSequence = refer_to_instances(volume.slices)


def _stand_in(slice_: SourceSlice) -> str:
    return result_uid(slice_.sop_instance_uid, str(slice_.frame))
