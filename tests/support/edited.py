"""Segmentations in the form in which other programs return them: by highdicom, new UIDs, any encoding."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from io import BytesIO
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_config import codes
from uair_node.results.uids import result_uid

SHAPE = (9, 22, 18)
AFFINE = np.array([[0, 0, 0.7, -40.0], [0, 0.9, 0, -50.0], [2.5, 0, 0, 120.0], [0, 0, 0, 1]])
TRACKING = {result_uid("lesion", 1): 1, result_uid("lesion", 3): 3}
TISSUE = Code("85756007", "SCT", "Tissue")


def make_labels() -> np.ndarray:
    """Return liver, lesion 1 and lesion 3, unlike their mirror images in every direction."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:7, 3:16, 4:14] = 1
    labels[2:4, 5:8, 5:9] = 2
    labels[5, 9:12, 10:12] = 4
    return labels


LABELS = make_labels()
LABELS.setflags(write=False)


def segment(
    number: int, label: str, kind: Code = TISSUE, tracking_uid: str | None = None
) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=kind,
        algorithm_type="MANUAL",
        tracking_uid=tracking_uid,
        tracking_id=tracking_uid and "lesion",
    )


LIVER = segment(1, "Liver", codes.LIVER)
TRACKED = (
    LIVER,
    segment(2, "a", codes.LESION, result_uid("lesion", 1)),
    segment(3, "b", codes.LESION, result_uid("lesion", 3)),
)


def reread(dataset: Dataset) -> Dataset:
    """Write a data set to bytes and read it again, as if a peer had sent it."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def returned(
    sources: Sequence[Dataset],
    pixels: NDArray[Any],
    segments: Sequence[Any] = TRACKED,
    kind: str = "BINARY",
    syntax: str = ExplicitVRLittleEndian,
    **more: Any,
) -> Dataset:
    """Write a SEG as another program would, with new UIDs."""
    seg = Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=list(segments),
        series_instance_uid=highdicom.UID(),
        series_number=7,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Viewer",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=syntax,
        **more,
    )
    return reread(seg)


def segment_numbers(labels: NDArray[Any] = LABELS) -> np.ndarray:
    return np.array([0, 1, 2, 0, 3], np.uint8)[labels]


def selected_segments(segmentation: Dataset, numbers: Sequence[int]) -> Dataset:
    """Return a BINARY SEG with some segments of another one, as a viewer saves selected segments."""
    bytes_a_frame = segmentation.Rows * segmentation.Columns // 8
    assert segmentation.Rows * segmentation.Columns % 8 == 0, "frames begin with a byte"
    saved = deepcopy(segmentation)
    saved.SOPInstanceUID = saved.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    saved.SeriesInstanceUID, saved.SeriesDescription = generate_uid(), "Selected segments"
    saved.SegmentSequence = [segment for segment in saved.SegmentSequence if segment.SegmentNumber in numbers]
    renumbered = {int(segment.SegmentNumber): n for n, segment in enumerate(saved.SegmentSequence, 1)}
    for segment in saved.SegmentSequence:
        segment.SegmentNumber = renumbered[segment.SegmentNumber]
    groups, frames = [], []
    for index, group in enumerate(saved.PerFrameFunctionalGroupsSequence):
        (identification,) = group.SegmentIdentificationSequence
        if identification.ReferencedSegmentNumber in renumbered:
            identification.ReferencedSegmentNumber = renumbered[identification.ReferencedSegmentNumber]
            groups.append(group)
            frames.append(saved.PixelData[index * bytes_a_frame : (index + 1) * bytes_a_frame])
    saved.PerFrameFunctionalGroupsSequence = groups
    saved.NumberOfFrames = len(groups)
    pixels = b"".join(frames)
    saved.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return saved
