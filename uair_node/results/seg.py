"""Write the DICOM Segmentation of a candidate (PS3.3 A.51).

Only this module writes SEG objects. It does not depend on the origin of the labels, the destination of the
object, or the state of its case.

Choices for the viewers that departments have:

- BINARY, explicit VR little endian. Every viewer that draws SEG can draw it.
- Frames without a voxel of their segment are left out. Some viewers need such a frame if it lies between two
  other frames of its segment, see `dicom_config.profiles`. A frame costs 32 KiB at 512 x 512. With all
  frames, four candidates of 500 slices with 12 lesions would have 850 MB, nearly all zeros. Current viewers
  place the remaining frames by position and derivation.
- The Referenced Series Sequence lists every source slice. Viewers find there the images to load under the
  segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_config import codes
from dicom_config.errors import InputError
from dicom_config.modalities.profile import Organ
from dicom_config.profiles import NEEDS, Needs, Profile
from uair_node.dicom.volume import Volume
from uair_node.results.provenance import Provenance, shared_arguments
from uair_node.results.references import one_image_a_slice, refer, refer_to_frames
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid
from uair_node.results.zone import KEYWORD, in_zone
from uair_node.storage.artifacts import label_values

_LIVER_LABEL = 1


@dataclass(frozen=True)
class Tracking:
    """The identity of a lesion across rounds (PS3.3 C.8.20.2, Tracking ID and UID)."""

    identifier: str
    uid: str


@dataclass(frozen=True)
class SegRequest:
    """The content of a SEG beyond its voxels and its source.

    The same request gives the same bytes, because no clock or random source is used.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic UIDs (`uids.result_uid`).
    k
        Number of the candidate, 1 to 4.
    character
        The candidate's character in a few words ("most inclusive").
    provenance
        The round, the model and the series from which the object comes.
    tracking
        Tracking of each lesion number that occurs in the labels.
    derived_from
        SOP Instance UID of the selection from which this round started; empty in round 1.
    preference
        The preference with which the round was computed, in words; empty without a preference.
    acquisition
        Name of the case's acquisition; empty if the case has the whole series.
    final
        Whether the reader has accepted this segmentation.
    needs
        The changes that the destination's viewer needs.
    """

    sop_instance_uid: str
    series_instance_uid: str
    k: int
    character: str
    provenance: Provenance
    tracking: Mapping[int, Tracking] = field(default_factory=dict)
    derived_from: str = ""
    preference: str = ""
    acquisition: str = ""
    final: bool = False
    needs: Needs = NEEDS[Profile.STRICT]

    @property
    def series_number(self) -> int:
        """Series Number of the object."""
        return codes.series_number(self.provenance.round, self.k, final=self.final)

    @property
    def label(self) -> str:
        """Content Label of the object, at most 16 characters."""
        label = codes.content_label(self.provenance.round, self.k, final=self.final)
        return label.removeprefix(codes.LABEL_PREFIX) if self.needs.short_label else label

    @property
    def description(self) -> str:
        """Series Description of the object. Its first 16 characters name the candidate."""
        words = ", ".join(filter(None, [self.character, self.acquisition]))
        return codes.series_description(self.provenance.round, self.k, words, final=self.final)


def write_seg(
    volume: Volume,
    labels: NDArray[np.uint8],
    request: SegRequest,
    sources: Sequence[Dataset] | None = None,
) -> Dataset:
    """Make the Segmentation object of `labels`.

    Parameters
    ----------
    volume
        The source series. The function reads the headers of its files, but not its pixels.
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n. A label without a voxel
        gets no segment, and segment numbers have no gaps.
    sources
        The headers from `source_headers(volume)`; None to read them here. A caller that writes several
        objects reads the headers once.

    Returns
    -------
    Dataset
        The liver is the first segment, then lesions follow by number. The frames of a segment have the order
        of axis 0.

    Raises
    ------
    InputError
        ``empty-segmentation``: all labels are background.
    ValueError
        `labels` is not on the source grid, or a lesion in it has no tracking.
    """
    if labels.shape != volume.shape:
        raise ValueError(f"labels {labels.shape} are not on the source grid {volume.shape}")
    present = list(label_values(labels))
    if not present:
        raise InputError(
            "empty-segmentation",
            "This segmentation is empty, and viewers cannot open a SEG object without a voxel.",
            "Look at the series: is the organ inside the scanned range?",
        )
    untracked = [value - 1 for value in present if value > _LIVER_LABEL and value - 1 not in request.tracking]
    if untracked:
        raise ValueError(f"lesions {untracked} have no tracking")

    numbers = list(range(1, len(present) + 1))
    if present != numbers:
        segment_of_label = np.zeros(256, np.uint8)
        segment_of_label[present] = numbers
        labels = segment_of_label[labels]
    sources = source_headers(volume) if sources is None else sources
    seg = Segmentation(
        source_images=one_image_a_slice(sources, volume),
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=_describe_segments(present, request, volume.profile.organ),
        series_instance_uid=request.series_instance_uid,
        series_number=request.series_number,
        sop_instance_uid=request.sop_instance_uid,
        instance_number=1,
        content_label=request.label,
        content_description=codes.long_string(f"{request.character}; {codes.DISCLAIMER.lower()}"),
        content_creator_name="UAIR^Node",
        series_description=request.description,
        omit_empty_frames=True,
        **shared_arguments(request.provenance, sources[0]),
    )
    for keyword in ("SpecificCharacterSet", KEYWORD):
        # Set here, because the library refuses common character sets (``\ISO 2022 IR 87``).
        if keyword in sources[0]:
            seg[keyword] = sources[0][keyword]
    refer_to_frames(seg, volume)
    made = in_zone(request.provenance.content_datetime, sources[0])
    _take_out_clock_and_chance(seg, request, made)
    if request.needs.gap_frames:
        _add_gap_frames(seg, sources, volume)
    _put_frames_in_source_order(seg, volume)
    return _without_library(seg)


def _describe_segments(present: list[int], request: SegRequest, organ: Organ) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=codes.long_string(request.provenance.model_name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=request.provenance.model_digest,
        source=codes.MANUFACTURER,
        parameters=_provenance(request),
    )
    # From round 2 on, the segments depend on a reader's choice (PS3.3 C.8.20.2, Segment Algorithm Type).
    automatic = request.provenance.round == 1 and not request.final
    shared: dict[str, Any] = {
        "algorithm_type": "AUTOMATIC" if automatic else "SEMIAUTOMATIC",
        "algorithm_identification": algorithm,
    }
    return [
        _describe_organ(number, organ, shared)
        if label == _LIVER_LABEL
        else _describe_lesion(number, label - 1, request.tracking[label - 1], organ, shared)
        for number, label in enumerate(present, 1)
    ]


def _describe_organ(segment_number: int, organ: Organ, shared: dict[str, Any]) -> SegmentDescription:
    return SegmentDescription(
        segment_number=segment_number,
        segment_label=organ.name.capitalize(),
        segmented_property_category=codes.ANATOMICAL_STRUCTURE,
        segmented_property_type=organ.code,
        display_color=CIELabColor.from_dicom_value(codes.LIVER_COLOUR.cielab),
        **shared,
    )


def _describe_lesion(
    segment_number: int, lesion: int, tracking: Tracking, organ: Organ, shared: dict[str, Any]
) -> SegmentDescription:
    return SegmentDescription(
        segment_number=segment_number,
        segment_label=f"Lesion {lesion}",
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=codes.LESION,
        anatomic_regions=[organ.code],
        tracking_id=codes.long_string(tracking.identifier),
        tracking_uid=tracking.uid,
        display_color=CIELabColor.from_dicom_value(codes.lesion_colour(lesion).cielab),
        **shared,
    )


def _provenance(request: SegRequest) -> dict[str, str]:
    """Return the origin of an object as name -> value, for the only attribute with free parameters."""
    provenance = {
        "round": str(request.provenance.round),
        "candidate": str(request.k),
        "software": codes.long_string(request.provenance.software_version),
        "case": request.provenance.case_digest,
    }
    if request.derived_from:
        provenance["derived from"] = request.derived_from
    if request.preference:
        provenance["preference"] = request.preference
    return provenance


def _take_out_clock_and_chance(seg: Dataset, request: SegRequest, made: datetime) -> None:
    """Replace the values that highdicom takes from the clock and from a random source."""
    organization = result_uid(request.sop_instance_uid, "dimension-organization")
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in seg.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    seg.InstanceCreationDate = made.strftime("%Y%m%d")
    seg.InstanceCreationTime = made.strftime("%H%M%S")
    for equipment in seg.get("ContributingEquipmentSequence", ()):
        if equipment.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value:
            equipment.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")


def _add_gap_frames(seg: Dataset, sources: Sequence[Dataset], volume: Volume) -> None:
    """Add the missing frames between the first and the last frame of each segment, after the existing frames.

    Pixel Data is not changed. Missing bits at its end count as zeros.
    """
    frames = list(seg.PerFrameFunctionalGroupsSequence)
    slices: dict[int, dict[int, Dataset]] = {}
    for frame, (segment, k) in zip(frames, _frame_keys(frames, volume), strict=True):
        slices.setdefault(segment, {})[k] = frame
    for present in slices.values():
        for k in sorted(set(range(min(present), max(present))) - present.keys()):
            frame = deepcopy(present[min(present)])
            frame.PlanePositionSequence[0].ImagePositionPatient = sources[k].ImagePositionPatient
            refer(frame.DerivationImageSequence[0].SourceImageSequence[0], volume.slices[k])
            frames.append(frame)
    seg.PerFrameFunctionalGroupsSequence = frames
    seg.NumberOfFrames = len(frames)


def _frame_keys(frames: Sequence[Dataset], volume: Volume) -> list[tuple[int, int]]:
    """Return segment number and slice index of each frame."""
    slice_of = {(source.sop_instance_uid, source.frame): k for k, source in enumerate(volume.slices)}
    images = [frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in frames]
    return [
        (
            int(frame.FrameContentSequence[0].DimensionIndexValues[0]),
            slice_of[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")],
        )
        for frame, image in zip(frames, images, strict=True)
    ]


def _put_frames_in_source_order(seg: Dataset, volume: Volume) -> None:
    """Sort each segment's frames in the order of the source slices. highdicom has another order."""
    frames = list(seg.PerFrameFunctionalGroupsSequence)
    contents = [frame.FrameContentSequence[0] for frame in frames]
    keys = _frame_keys(frames, volume)
    rank = {k: n for n, k in enumerate(sorted({k for _, k in keys}), 1)}
    for content, (segment, k) in zip(contents, keys, strict=True):
        content.DimensionIndexValues = [segment, rank[k]]
    order = sorted(range(len(frames)), key=keys.__getitem__)
    seg.PerFrameFunctionalGroupsSequence = [frames[n] for n in order]

    # One bit per pixel, the first in the lowest bit, frames not aligned to bytes (PS3.5 8.1.1, annex D).
    packed = np.frombuffer(seg.PixelData, np.uint8)
    pixels_per_frame = seg.Rows * seg.Columns
    if pixels_per_frame % 8 == 0:
        complete = np.zeros(len(frames) * pixels_per_frame // 8, np.uint8)
        kept = min(complete.size, packed.size)
        complete[:kept] = packed[:kept]
        ordered = complete.reshape(len(frames), -1)[order].tobytes()
    else:
        bits = np.unpackbits(packed, count=len(frames) * pixels_per_frame, bitorder="little")
        ordered = np.packbits(bits.reshape(len(frames), -1)[order], bitorder="little").tobytes()
    seg.PixelData = ordered + b"\0" * (len(ordered) % 2)


def _without_library(seg: Segmentation) -> Dataset:
    """Return the object as a plain data set. The look-up tables of highdicom have the old frame order."""
    plain = Dataset(seg)
    plain.file_meta = seg.file_meta
    return plain
