"""The content of our SEG objects, and that a second run writes the same bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import time_machine
from highdicom.seg import segread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_config import codes
from dicom_config.errors import InputError
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series

SHAPE = (8, 20, 18)
AFFINE = np.array([[0, 0, 0.8, -40.0], [0, 0.8, 0, -50.0], [2.5, 0, 0, 120.0], [0, 0, 0, 1]])
REQUEST = SegRequest(
    sop_instance_uid=result_uid("instance"),
    series_instance_uid=result_uid("series"),
    k=3,
    character="most inclusive",
    provenance=Provenance(
        round=2,
        model_name="embedded",
        model_digest="0123456789abcdef" * 4,
        software_version="0.1.0",
        case_digest="c" * 64,
        content_datetime=datetime(2026, 1, 5, 10, 0, 1, 250),
    ),
    tracking={n: Tracking(f"UAIR lesion {n}", result_uid("lesion", n)) for n in (1, 2, 3)},
    derived_from="2.25.77",
)


def make_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:7, 3:15, 4:14] = 1
    labels[2:4, 5:8, 5:9] = 2
    labels[5, 9:11, 10:12] = 4
    return labels


LABELS = make_labels()
LABELS.setflags(write=False)


def write_series(folder: Path) -> list[Path]:
    uids = {
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.4",
        "frame_of_reference_uid": "1.2.3.5",
    }
    return write_ct_series(folder, np.zeros(SHAPE, np.int16), AFFINE, patient_name="Doe^Jane", **uids)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "ct")


@pytest.fixture
def volume(paths: list[Path]) -> Volume:
    return read_series(paths)


@pytest.fixture
def seg(volume: Volume, tmp_path: Path) -> pydicom.FileDataset:
    save_durably(write_seg(volume, LABELS, REQUEST), tmp_path / "seg.dcm")
    return pydicom.dcmread(tmp_path / "seg.dcm")


def with_request(*, round: int = REQUEST.provenance.round, **changes: Any) -> SegRequest:
    return replace(REQUEST, provenance=replace(REQUEST.provenance, round=round), **changes)


def test_highdicom_reads_the_same_labels(volume: Volume, tmp_path: Path) -> None:
    save_durably(write_seg(volume, LABELS, REQUEST), tmp_path / "seg.dcm")
    seg = segread(tmp_path / "seg.dcm")
    pixels = seg.get_pixels_by_source_instance(
        [source.sop_instance_uid for source in volume.slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(pixels, np.array([0, 1, 2, 0, 3], np.uint8)[LABELS])


@pytest.mark.parametrize("values", [(1,), (1, 2, 4)], ids=["liver only", "with lesions"])
def test_highdicom_builds_the_volume_at_the_same_place(
    volume: Volume, tmp_path: Path, values: tuple[int, ...]
) -> None:
    labels = np.where(np.isin(LABELS, values), LABELS, 0).astype(np.uint8)
    save_durably(write_seg(volume, labels, REQUEST), tmp_path / "seg.dcm")
    read = segread(tmp_path / "seg.dcm").get_volume(combine_segments=True, allow_missing_positions=True)
    index = np.argwhere(read.array > 0)
    found = index @ read.affine[:3, :3].T + read.affine[:3, 3]
    expected = np.argwhere(labels > 0) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    assert {tuple(p) for p in found.round(3)} == {tuple(p) for p in expected.round(3)}


def test_a_second_run_writes_the_same_bytes(volume: Volume, tmp_path: Path) -> None:
    files = [tmp_path / "once.dcm", tmp_path / "again.dcm"]
    save_durably(write_seg(volume, LABELS, REQUEST), files[0])
    with time_machine.travel("2038-01-19"):  # whatever is taken from the clock has another value there
        save_durably(write_seg(volume, LABELS, REQUEST), files[1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_identity_and_description(seg: pydicom.FileDataset) -> None:
    assert seg.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert seg.SegmentationType == "BINARY"
    assert seg.SegmentsOverlap == "NO"
    assert (seg.SOPInstanceUID, seg.SeriesInstanceUID) == (
        REQUEST.sop_instance_uid,
        REQUEST.series_instance_uid,
    )
    assert seg.SeriesNumber == codes.series_number(2, 3)
    assert seg.SeriesDescription == "UAIR R2C3 most inclusive"
    assert seg.ContentLabel == "UAIR R2C3"
    assert seg.ContentDescription == "most inclusive; research use, not a medical device"
    assert seg.ContentCreatorName == "UAIR^Node"
    assert (seg.ContentDate, seg.ContentTime) == ("20260105", "100001")
    assert (seg.InstanceCreationDate, seg.InstanceCreationTime) == ("20260105", "100001")


def test_equipment_and_algorithm_tell_where_it_comes_from(seg: pydicom.FileDataset) -> None:
    assert seg.Manufacturer == "UAIR node"
    assert seg.ManufacturerModelName == "embedded"
    assert seg.DeviceSerialNumber == REQUEST.provenance.model_digest[:16]
    assert seg.SoftwareVersions == "0.1.0"
    for segment in seg.SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "embedded"
        assert algorithm.AlgorithmVersion == REQUEST.provenance.model_digest
        for part in (
            "round=2",
            "candidate=3",
            f"case={REQUEST.provenance.case_digest}",
            "derived from=2.25.77",
        ):
            assert part in algorithm.AlgorithmParameters


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"round": 1, "derived_from": ""}, "AUTOMATIC"),
        ({"round": 2}, "SEMIAUTOMATIC"),
        ({"round": 1, "final": True}, "SEMIAUTOMATIC"),
    ],
)
def test_a_reader_s_choice_makes_it_semiautomatic(
    volume: Volume, changes: dict[str, Any] | dict[str, int], expected: str
) -> None:
    seg = write_seg(volume, LABELS, with_request(**changes))
    assert {segment.SegmentAlgorithmType for segment in seg.SegmentSequence} == {expected}


def test_the_final_result_says_so(volume: Volume) -> None:
    seg = write_seg(volume, LABELS, with_request(final=True))
    assert seg.ContentLabel == "UAIR FINAL R2C3"
    assert seg.SeriesDescription == "UAIR FINAL, most inclusive, round 2"
    assert seg.SeriesNumber == codes.series_number(2, 3, final=True)


def test_segments_are_contiguous_and_absent_lesions_left_out(seg: pydicom.FileDataset) -> None:
    """Lesion 2 has no voxel; lesion 3 keeps its name, colour and tracking under segment number 3."""
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [1, 2, 3]
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Liver", "Lesion 1", "Lesion 3"]
    liver, *lesions = seg.SegmentSequence
    assert "TrackingUID" not in liver
    assert [s.TrackingUID for s in lesions] == [result_uid("lesion", 1), result_uid("lesion", 3)]
    assert [s.TrackingID for s in lesions] == ["UAIR lesion 1", "UAIR lesion 3"]
    colours = [codes.LIVER_COLOUR, codes.lesion_colour(1), codes.lesion_colour(3)]
    assert [tuple(s.RecommendedDisplayCIELabValue) for s in seg.SegmentSequence] == [
        c.cielab for c in colours
    ]


def test_segments_are_coded(seg: pydicom.FileDataset) -> None:
    liver, *lesions = seg.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.LIVER.value
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.ANATOMICAL_STRUCTURE.value
    for lesion in lesions:
        assert lesion.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.LESION.value
        assert (
            lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.MORPHOLOGICALLY_ABNORMAL.value
        )
        assert lesion.AnatomicRegionSequence[0].CodeValue == codes.LIVER.value


def test_every_source_slice_is_referenced(seg: pydicom.FileDataset, volume: Volume) -> None:
    """Also those without any voxel: viewers look up there what to load."""
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4"
    referenced = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert referenced == [source.sop_instance_uid for source in volume.slices]


def test_frames_run_in_source_order_and_name_their_slice(seg: pydicom.FileDataset, volume: Volume) -> None:
    index_of = {source.sop_instance_uid: k for k, source in enumerate(volume.slices)}
    frames = []
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        assert source.SpatialLocationsPreserved == "YES"
        k = index_of[source.ReferencedSOPInstanceUID]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, AFFINE[:3, 3] + k * AFFINE[:3, 0])
        frames.append((frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber, k))
    liver, first, third = ([k for k in range(8) if (LABELS[k] == value).any()] for value in (1, 2, 4))
    assert frames == [*((1, k) for k in liver), *((2, k) for k in first), *((3, k) for k in third)]


def test_it_is_filed_with_its_study(seg: pydicom.FileDataset, paths: list[Path]) -> None:
    source = pydicom.dcmread(paths[0])
    for keyword in (
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "FrameOfReferenceUID",
        "SpecificCharacterSet",
    ):
        assert seg[keyword].value == source[keyword].value, keyword


def rewrite(paths: list[Path], **changes: Any) -> None:
    """Change attributes of all files; None takes an attribute out."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                del dataset[keyword]
            else:
                dataset[keyword] = pydicom.DataElement(
                    pydicom.tag.Tag(keyword),
                    pydicom.datadict.dictionary_VR(keyword),
                    value,
                    validation_mode=pydicom.config.IGNORE,
                )
        dataset.save_as(path)


OPTIONAL_IN_REAL_LIFE = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "SpecificCharacterSet",
    "SliceThickness",
    "SpacingBetweenSlices",
    "StudyDescription",
)


@pytest.mark.parametrize("gone", [*((keyword,) for keyword in OPTIONAL_IN_REAL_LIFE), OPTIONAL_IN_REAL_LIFE])
def test_missing_headers_stop_nothing(paths: list[Path], tmp_path: Path, gone: str) -> None:
    rewrite(paths, **dict.fromkeys(gone))
    volume = read_series(paths)
    save_durably(write_seg(volume, LABELS, REQUEST), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert seg.StudyInstanceUID == "1.2.3"
    assert "PatientID" in seg


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", "unknown"),
        ("PatientSex", "W"),
        ("StudyDate", "2026-01-05"),
        ("StudyTime", "half past nine"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_invalid_headers_are_not_inherited(
    paths: list[Path], tmp_path: Path, keyword: str, value: str
) -> None:
    rewrite(paths, **{keyword: value})
    seg = write_seg(read_series(paths), LABELS, REQUEST)
    save_durably(seg, tmp_path / "seg.dcm")
    assert not pydicom.dcmread(tmp_path / "seg.dcm")[keyword].value


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
def test_identifiers_are_never_mended(paths: list[Path], tmp_path: Path) -> None:
    """A valid but different Patient ID would file the result under another patient."""
    rewrite(paths, PatientID="7" * 80, AccessionNumber="8" * 20)
    save_durably(write_seg(read_series(paths), LABELS, REQUEST), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.PatientID, seg.AccessionNumber) == ("7" * 80, "8" * 20)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_is_not_needed_is_not_inherited(paths: list[Path]) -> None:
    """Empty reference sequences and ages like "45" are common, and errors in every object that has them."""
    rewrite(paths, PatientAge="45", ReferencedStudySequence=[])
    seg = write_seg(read_series(paths), LABELS, REQUEST)
    assert "PatientAge" not in seg
    assert "ReferencedStudySequence" not in seg


def test_the_distance_of_slices_is_measured(paths: list[Path]) -> None:
    """A stated one is often the thickness, or the interval before reconstruction."""
    rewrite(paths, SpacingBetweenSlices="7.5", SliceThickness="5")
    (shared,) = write_seg(read_series(paths), LABELS, REQUEST).SharedFunctionalGroupsSequence
    (measures,) = shared.PixelMeasuresSequence
    assert (float(measures.SpacingBetweenSlices), float(measures.SliceThickness)) == (2.5, 5.0)


def test_slices_keep_their_own_positions(paths: list[Path]) -> None:
    """Distances vary within the gate's tolerance: the mean distance would miss the slices."""
    shifted = {}
    for path, shift in zip(paths, [0, 0.05, -0.05, 0.04, 0, -0.03, 0.05, 0], strict=True):
        dataset = pydicom.dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, f"{float(z) + shift:.2f}"]
        shifted[str(dataset.SOPInstanceUID)] = dataset.ImagePositionPatient
        dataset.save_as(path)
    seg = write_seg(read_series(paths), LABELS, REQUEST)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == shifted[source.ReferencedSOPInstanceUID]


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_names_keep_their_characters(
    paths: list[Path], tmp_path: Path, charset: list[str] | str, name: str
) -> None:
    rewrite(paths, SpecificCharacterSet=charset, PatientName=name)
    save_durably(write_seg(read_series(paths), LABELS, REQUEST), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    source = pydicom.dcmread(paths[0], stop_before_pixels=True)
    assert str(seg.PatientName) == name
    assert seg.PatientName.original_string == source.PatientName.original_string


def test_decimal_strings_longer_than_allowed_are_shortened(paths: list[Path], tmp_path: Path) -> None:
    """Seen on real series: 17 and more characters in Pixel Spacing."""
    rewrite(paths, PixelSpacing=["0.80000000000000004", "0.80000000000000004"])
    save_durably(write_seg(read_series(paths), LABELS, REQUEST), tmp_path / "seg.dcm")
    shared = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    assert [float(value) for value in spacing] == pytest.approx([0.8, 0.8])
    assert all(len(str(value)) <= 16 for value in spacing)


def test_slices_that_differ_within_tolerance_are_written(paths: list[Path], tmp_path: Path) -> None:
    """Scanners round orientations differently from slice to slice; the gate lets that pass."""
    rewrite(paths[:3], ImageOrientationPatient=["1", "0.000001", "0", "0", "1", "0"])
    volume = read_series(paths)
    save_durably(write_seg(volume, LABELS, REQUEST), tmp_path / "seg.dcm")
    assert segread(tmp_path / "seg.dcm").number_of_segments == 3


def test_nothing_segmented_is_an_input_error(volume: Volume) -> None:
    with pytest.raises(InputError) as caught:
        write_seg(volume, np.zeros(SHAPE, np.uint8), REQUEST)
    assert caught.value.code == "empty-segmentation"
    assert caught.value.remedy


def test_labels_of_another_grid_are_refused(volume: Volume) -> None:
    with pytest.raises(ValueError, match="source grid"):
        write_seg(volume, LABELS.transpose(0, 2, 1), REQUEST)


def test_a_lesion_without_tracking_is_refused(volume: Volume) -> None:
    with pytest.raises(ValueError, match=r"lesions \[3\] have no tracking"):
        write_seg(volume, LABELS, with_request(tracking={1: REQUEST.tracking[1]}))


def test_headers_that_are_read_once_serve_several_objects(volume: Volume, tmp_path: Path) -> None:
    headers = source_headers(volume)
    for k in (1, 2):
        save_durably(write_seg(volume, LABELS, with_request(k=k), headers), tmp_path / "shared.dcm")
        save_durably(write_seg(volume, LABELS, with_request(k=k)), tmp_path / "own.dcm")
        assert (tmp_path / "shared.dcm").read_bytes() == (tmp_path / "own.dcm").read_bytes()


def test_saving_replaces_and_leaves_nothing_beside(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "new" / "seg.dcm"
    save_durably(write_seg(volume, LABELS, REQUEST), path)
    save_durably(write_seg(volume, LABELS, with_request(k=4)), path)
    assert pydicom.dcmread(path).ContentLabel == "UAIR R2C4"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:A value of type 'str'")
def test_a_failed_save_leaves_the_old_file_and_nothing_else(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "out" / "seg.dcm"
    seg = write_seg(volume, LABELS, REQUEST)
    save_durably(seg, path)
    before = path.read_bytes()
    seg.PixelData = "no bytes"
    with pytest.raises(TypeError):
        save_durably(seg, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
