"""Edited segmentations in every form that viewers return, read onto the source grid."""

from __future__ import annotations

import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_config import codes
from dicom_config.errors import InputError
from tests.support.dcmqi import read_nrrd
from tests.support.edited import (
    AFFINE,
    LABELS,
    LIVER,
    SHAPE,
    TISSUE,
    TRACKED,
    TRACKING,
    reread,
    returned,
    segment,
    segment_numbers,
)
from uair_node.dicom.edited_segmentation import EditedSegmentation
from uair_node.dicom.seg_reader import _drawn_voxels, read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.provenance import Provenance
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    uids = {
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.4",
        "frame_of_reference_uid": "1.2.3.5",
    }
    return write_ct_series(tmp_path_factory.mktemp("ct"), np.zeros(SHAPE, np.int16), AFFINE, **uids)


@pytest.fixture(scope="module")
def volume(series: list[Path]) -> Volume:
    return read_series(series)


@pytest.fixture(scope="module")
def sources(series: list[Path]) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in series]


def read(dataset: Dataset, volume: Volume, reference: Any = None) -> EditedSegmentation:
    offered = () if reference is None else (reference,)
    return read_edited(dataset, volume, KnownTargets(TRACKING, offered))


def code_of(dataset: Dataset, volume: Volume) -> str:
    with pytest.raises(InputError) as caught:
        read(dataset, volume, LABELS)
    assert caught.value.sentence
    assert caught.value.remedy
    return caught.value.code


def test_our_own_object_is_read_as_it_was_written(volume: Volume) -> None:
    request = SegRequest(
        sop_instance_uid=result_uid("instance"),
        series_instance_uid=result_uid("series"),
        k=1,
        character="most likely",
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest="0" * 64,
            software_version="0.1.0",
            case_digest="c" * 64,
            content_datetime=datetime(2026, 1, 5, 10, 0),
        ),
        tracking={number: Tracking(f"lesion {number}", uid) for uid, number in TRACKING.items()},
    )
    edited = read(reread(write_seg(volume, LABELS, request)), volume)
    np.testing.assert_array_equal(edited.labels, LABELS)
    assert edited.labels.dtype == np.uint8
    assert edited.label_of_segment == {1: 1, 2: 2, 3: 4}
    assert edited.targets.unrecognised == ()


@pytest.mark.parametrize("omit", [True, False], ids=["sparse", "every frame"])
@pytest.mark.parametrize(
    ("kind", "syntax", "more"),
    [
        ("BINARY", ExplicitVRLittleEndian, {}),
        ("FRACTIONAL", ExplicitVRLittleEndian, {"fractional_type": "PROBABILITY"}),
        ("FRACTIONAL", RLELossless, {"fractional_type": "OCCUPANCY", "max_fractional_value": 100}),
        ("LABELMAP", ExplicitVRLittleEndian, {}),
        ("LABELMAP", RLELossless, {}),
    ],
    ids=["binary", "fractional", "fractional RLE", "label map", "label map RLE"],
)
def test_every_encoding(
    sources: list[Dataset], volume: Volume, kind: str, syntax: str, more: dict[str, Any], omit: bool
) -> None:
    seg = returned(sources, segment_numbers(), kind=kind, syntax=syntax, omit_empty_frames=omit, **more)
    assert seg.SegmentationType == kind
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)


def test_a_fraction_of_at_least_half_counts(sources: list[Dataset], volume: Volume) -> None:
    pixels = np.zeros(SHAPE, np.float64)
    pixels[4, 3:9, 5] = [0.2, 0.49, 0.5, 0.51, 0.9, 1.0]
    seg = returned(
        sources, pixels, [LIVER], "FRACTIONAL", fractional_type="PROBABILITY", max_fractional_value=100
    )
    np.testing.assert_array_equal(read(seg, volume).labels[4, 3:9, 5], [0, 0, 1, 1, 1, 1])


def reverse_frames(seg: Dataset) -> None:
    """Write the frames from the last to the first, uncompressed label map only."""
    size = seg.Rows * seg.Columns
    frames = np.frombuffer(seg.PixelData, np.uint8)[: size * seg.NumberOfFrames].reshape(-1, size)
    seg.PixelData = frames[::-1].tobytes() + b"\0" * (frames.size % 2)
    seg.PerFrameFunctionalGroupsSequence = list(seg.PerFrameFunctionalGroupsSequence)[::-1]


def without(seg: Dataset, *keywords: str) -> None:
    groups = [*seg.PerFrameFunctionalGroupsSequence, *seg.SharedFunctionalGroupsSequence]
    for group in groups:
        for keyword in keywords:
            group.pop(keyword, None)


PLACES = {
    "both": (),
    "position only": ("DerivationImageSequence",),
    "reference only": ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
}


@pytest.mark.parametrize("gone", PLACES.values(), ids=PLACES)
def test_frames_in_another_order_are_placed(sources: list[Dataset], volume: Volume, gone: Any) -> None:
    seg = returned(sources, segment_numbers(), kind="LABELMAP")
    reverse_frames(seg)
    without(seg, *gone)
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)


def test_frames_without_position_and_reference_cannot_be_placed(
    sources: list[Dataset], volume: Volume
) -> None:
    seg = returned(sources, segment_numbers())
    without(seg, *PLACES["position only"], *PLACES["reference only"])
    assert code_of(seg, volume) == "edited-unreadable"


def test_frames_that_contradict_themselves_are_refused(sources: list[Dataset], volume: Volume) -> None:
    """The slice that a frame names is not the slice at its position: the node cannot tell which is meant."""
    seg = returned(sources, segment_numbers())
    frames = seg.PerFrameFunctionalGroupsSequence
    frames[0].DerivationImageSequence, frames[3].DerivationImageSequence = (
        frames[3].DerivationImageSequence,
        frames[0].DerivationImageSequence,
    )
    assert code_of(seg, volume) == "edited-unreadable"


TURNS = {
    "slices": lambda v: v.flip_spatial(0),
    "rows": lambda v: v.flip_spatial(1),
    "columns": lambda v: v.flip_spatial(2),
    "transposed": lambda v: v.permute_spatial_axes((0, 2, 1)),
    "coronal": lambda v: v.permute_spatial_axes((1, 0, 2)),
    "cropped": lambda v: v[1:8, 2:18, 3:],
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_planes_in_another_orientation_of_the_grid(sources: list[Dataset], volume: Volume, turn: Any) -> None:
    geometry = highdicom.Volume(
        segment_numbers(), AFFINE, coordinate_system="PATIENT", frame_of_reference_uid="1.2.3.5"
    )
    seg = returned(sources, turn(geometry), kind="LABELMAP")
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)


def test_another_grid_is_refused(sources: list[Dataset], volume: Volume) -> None:
    affine = AFFINE @ np.diag([1, 0.5, 0.5, 1])
    fine = highdicom.Volume(
        np.ones((3, 8, 8), np.uint8), affine, coordinate_system="PATIENT", frame_of_reference_uid="1.2.3.5"
    )
    assert code_of(returned(sources, fine, [LIVER]), volume) == "edited-unreadable"


def test_voxels_outside_the_series_are_refused(sources: list[Dataset], volume: Volume) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] -= [0.7 * 4, 0, 0]
    beside = highdicom.Volume(
        np.ones((3, 8, 8), np.uint8), affine, coordinate_system="PATIENT", frame_of_reference_uid="1.2.3.5"
    )
    assert code_of(returned(sources, beside, [LIVER]), volume) == "edited-unreadable"


def test_tracking_wins_over_code_and_label(sources: list[Dataset], volume: Volume) -> None:
    segments = (
        segment(1, "Liver", codes.LIVER, result_uid("lesion", 3)),
        segment(2, "Lesion 3", codes.LESION, result_uid("lesion", 1)),
        segment(3, "Lesion 1", codes.LIVER),
    )
    edited = read(returned(sources, segment_numbers(), segments), volume)
    assert edited.label_of_segment == {1: 4, 2: 2, 3: 1}


def relabelled(kind: Code, *labels: str) -> list[SegmentDescription]:
    return [segment(number, label, kind) for number, label in enumerate(labels, 1)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("Leber", "Lesion 1", "Lesion 3"), {1: 1, 2: 2, 3: 4}),
        (("foie", "Tumour", "metastasis (small)"), {1: 1, 2: 2, 3: 4}),
        (("Segment 1", "Segment_2", "?"), {1: 1, 2: 2, 3: 4}),
    ],
    ids=["our labels", "other words", "no words"],
)
def test_other_labels_are_recognised_by_words_then_by_overlap(
    sources: list[Dataset], volume: Volume, labels: tuple[str, ...], expected: Any
) -> None:
    seg = returned(sources, segment_numbers(), relabelled(TISSUE, *labels))
    edited = read(seg, volume, LABELS)
    assert edited.label_of_segment == expected
    np.testing.assert_array_equal(edited.labels, LABELS)


def test_a_retired_code_of_the_liver_is_the_liver(sources: list[Dataset], volume: Volume) -> None:
    seg = returned(sources, segment_numbers(), relabelled(TISSUE, "a", "Lesion 1", "Lesion 3"))
    (kind,) = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    kind.CodeValue, kind.CodingSchemeDesignator = "T-62000", "SRT"
    assert read(seg, volume).label_of_segment[1] == 1


def test_segments_in_another_order(sources: list[Dataset], volume: Volume) -> None:
    pixels = np.array([0, 3, 1, 0, 2], np.uint8)[LABELS]
    segments = (
        segment(1, "x", codes.LESION, result_uid("lesion", 1)),
        segment(2, "y", codes.LESION, result_uid("lesion", 3)),
        segment(3, "z", codes.LIVER),
    )
    np.testing.assert_array_equal(read(returned(sources, pixels, segments), volume).labels, LABELS)


def test_a_subset_of_segments_is_only_that(sources: list[Dataset], volume: Volume) -> None:
    pixels = (LABELS == 4).astype(np.uint8)
    edited = read(returned(sources, pixels, [segment(1, "?", codes.LESION)]), volume, LABELS)
    np.testing.assert_array_equal(edited.labels, np.where(LABELS == 4, 4, 0))


def test_a_lesion_drawn_much_larger_stays_that_lesion(sources: list[Dataset], volume: Volume) -> None:
    """Most of its voxels are in the former liver; it is still more like the lesion than like the liver."""
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[4:7, 9:13, 10:13] = 1
    edited = read(returned(sources, pixels, relabelled(TISSUE, "Segment 1")), volume, LABELS)
    assert edited.label_of_segment == {1: 4}


def test_a_lesion_where_none_was_gets_a_new_number(sources: list[Dataset], volume: Volume) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[6, 13:15, 4:6] = 1
    pixels[1, 3:5, 12:14] = 2
    seg = returned(sources, pixels, relabelled(codes.LESION, "new", "Lesion 9"))
    assert read(seg, volume, LABELS).label_of_segment == {1: 5, 2: 6}


def test_a_segment_of_another_structure_is_left_out_and_said(sources: list[Dataset], volume: Volume) -> None:
    pixels = segment_numbers()
    pixels[8, 0, 0:2] = 3
    pixels[LABELS == 4] = 1
    seg = returned(sources, pixels, relabelled(TISSUE, "Liver", "Lesion 1", "Spleen"))
    edited = read(seg, volume, LABELS)
    assert edited.targets.ignored == (3,)
    assert edited.names[3] == 'segment 3 "Spleen"'
    assert not edited.labels[8].any()


def test_a_lesion_s_voxel_is_the_lesion_s_where_segments_overlap(
    sources: list[Dataset], volume: Volume
) -> None:
    pixels = np.stack([LABELS > 0, LABELS == 2, LABELS == 4], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(read(returned(sources, pixels), volume).labels, LABELS)


def test_nothing_drawn_is_empty(sources: list[Dataset], volume: Volume) -> None:
    seg = returned(sources, np.zeros(SHAPE, np.uint8), omit_empty_frames=False)
    assert code_of(seg, volume) == "edited-empty"


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_more_voxels_than_a_reader_draws_are_refused_and_fewer_are_read(
    sources: list[Dataset], volume: Volume, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seg = returned(sources, segment_numbers(), kind=kind)
    drawn = int(np.count_nonzero(LABELS))
    monkeypatch.setattr("uair_node.dicom.seg_reader.MOST_VOXELS", drawn)
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)
    monkeypatch.setattr("uair_node.dicom.seg_reader.MOST_VOXELS", drawn - 1)
    assert code_of(seg, volume) == "edited-too-large"


def test_frames_that_repeat_a_place_count_each_time(
    sources: list[Dataset], volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.ones(SHAPE, np.uint8)
    monkeypatch.setattr("uair_node.dicom.seg_reader.MOST_VOXELS", pixels.size)
    seg = returned(sources, pixels, [LIVER])
    assert read(seg, volume).labels.all()
    frames = seg.PerFrameFunctionalGroupsSequence
    for frame in frames:
        frame.PlanePositionSequence = frames[0].PlanePositionSequence
        frame.DerivationImageSequence = frames[0].DerivationImageSequence
    monkeypatch.setattr("uair_node.dicom.seg_reader.MOST_VOXELS", pixels.size - 1)
    assert code_of(seg, volume) == "edited-too-large"


def test_a_remedy_of_a_segmentation_that_is_too_large_works(
    sources: list[Dataset], volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uair_node.dicom.seg_reader._MOST_SEGMENTS", 3)
    more = [*TRACKED, segment(4, "Spleen")]
    pixels = segment_numbers()
    pixels[8, 0, 0:2] = 4
    assert code_of(returned(sources, pixels, more), volume) == "edited-too-large"
    np.testing.assert_array_equal(read(returned(sources, segment_numbers()), volume).labels, LABELS)


def test_a_voxel_of_a_reader_costs_four_bytes(sources: list[Dataset], volume: Volume) -> None:
    seg = returned(sources, segment_numbers())
    segments = {int(item.SegmentNumber): item for item in seg.SegmentSequence}
    drawn = _drawn_voxels(seg, volume, segments)
    assert sum(voxels.nbytes for voxels in drawn.values()) == 4 * np.count_nonzero(LABELS)


def other_images(seg: Dataset) -> Dataset:
    """Let all references name other instances."""
    other = copy.deepcopy(seg)
    for item in other.iterall():
        if item.keyword == "ReferencedSOPInstanceUID":
            item.value = f"{item.value}.9"
    return other


def test_another_series_is_refused(sources: list[Dataset], volume: Volume) -> None:
    assert code_of(other_images(returned(sources, segment_numbers())), volume) == "edited-other-series"


def test_another_frame_of_reference_is_refused(sources: list[Dataset], volume: Volume) -> None:
    seg = other_images(returned(sources, segment_numbers()))
    seg.FrameOfReferenceUID = "1.2.99"
    assert code_of(seg, volume) == "edited-other-frame-of-reference"


def test_the_images_count_more_than_a_frame_of_reference_made_up_by_the_viewer(
    sources: list[Dataset], volume: Volume
) -> None:
    """Series without that UID exist, and every program assumes its own."""
    seg = returned(sources, segment_numbers())
    seg.FrameOfReferenceUID = "1.2.99"
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)


def test_a_segmentation_that_names_no_image_counts_by_its_frame_of_reference(
    sources: list[Dataset], volume: Volume
) -> None:
    seg = returned(sources, segment_numbers())
    without(seg, "DerivationImageSequence")
    del seg.ReferencedSeriesSequence, seg.SourceImageSequence
    np.testing.assert_array_equal(read(seg, volume).labels, LABELS)
    seg.FrameOfReferenceUID = "1.2.99"
    assert code_of(seg, volume) == "edited-other-frame-of-reference"


@pytest.mark.parametrize("keyword", ["PixelData", "SegmentSequence", "SegmentationType", "Rows"])
def test_an_object_that_lacks_what_it_needs_is_unreadable(
    sources: list[Dataset], volume: Volume, keyword: str
) -> None:
    seg = returned(sources, segment_numbers())
    delattr(seg, keyword)
    assert code_of(seg, volume) == "edited-unreadable"


def test_a_cut_stream_is_unreadable(sources: list[Dataset], volume: Volume) -> None:
    seg = returned(sources, segment_numbers(), kind="LABELMAP")
    seg.PixelData = seg.PixelData[: len(seg.PixelData) // 2]
    assert code_of(seg, volume) == "edited-unreadable"


def test_voxels_of_a_segment_that_is_not_described_are_unreadable(
    sources: list[Dataset], volume: Volume
) -> None:
    seg = returned(sources, segment_numbers(), kind="LABELMAP")
    seg.SegmentSequence = [segment for segment in seg.SegmentSequence if segment.SegmentNumber != 3]
    assert code_of(seg, volume) == "edited-unreadable"


def test_a_reference_of_another_shape_is_our_mistake(sources: list[Dataset], volume: Volume) -> None:
    with pytest.raises(ValueError, match="source grid"):
        read(returned(sources, segment_numbers()), volume, LABELS[1:])


def test_an_object_that_dcmqi_wrote(ct_dir: Path) -> None:
    """Retired codes, positions in exponents, frames in descending order."""
    folder = ct_dir / "dcmqi_ct3slice"
    volume = read_series(sorted((folder / "ct-3slice").iterdir()))
    edited = read(pydicom.dcmread(folder / "liver.dcm"), volume)
    truth, affine = read_nrrd(folder / "liver_seg.nrrd")
    order = np.argsort(affine[2, 3] + affine[2, 0] * np.arange(len(truth)))
    np.testing.assert_array_equal(edited.labels, (truth > 0)[order])


def test_an_object_of_overlapping_segments_that_dcmqi_wrote(ct_dir: Path) -> None:
    """Five segments of other organs, not all on all slices: none is the liver, and that is said."""
    folder = ct_dir / "dcmqi_ct3slice"
    volume = read_series(sorted((folder / "ct-3slice").iterdir()))
    seg = pydicom.dcmread(folder / "partial_overlaps.dcm")
    liver = read(pydicom.dcmread(folder / "liver.dcm"), volume).labels
    for reference in (None, liver):
        with pytest.raises(InputError, match="segment 1") as caught:
            read(seg, volume, reference)
        assert caught.value.code == "edited-unrecognised"


def test_a_label_map_of_another_series_that_dcmqi_wrote(ct_dir: Path, volume: Volume) -> None:
    seg = pydicom.dcmread(ct_dir / "dcmqi_ct3slice" / "sparse-labelmap-noppv.dcm")
    assert code_of(seg, volume) == "edited-other-frame-of-reference"
