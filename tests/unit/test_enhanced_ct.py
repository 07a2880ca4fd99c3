"""Enhanced CT: its frames are the slices of a series like any other, and results name them by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, JPEGLSLossless, RLELossless

from dicom_config.errors import InputError
from dicom_config.model import GateSection
from dicom_config.profiles import NEEDS, Profile
from tests.support.edited import AFFINE, LABELS, SHAPE, TRACKING, reread, returned, segment_numbers
from tests.support.enhanced import write_enhanced_ct
from tests.support.iods import iod_errors
from tests.support.series import good_series
from tests.unit.test_report import findings_of
from uair_node.dicom.gate import GateResult, inspect_series
from uair_node.dicom.headers import read_headers
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.measurement_report import ReportRequest, write_report
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.demo.reader import read_offer
from workers.demo.series import folder_input
from workers.phantoms.ct_series import write_ct_series

REQUEST = SegRequest(
    sop_instance_uid=result_uid("instance"),
    series_instance_uid=result_uid("series"),
    k=2,
    character="tightest",
    provenance=Provenance(
        round=1,
        model_name="embedded",
        model_digest="0123456789abcdef" * 4,
        software_version="0.1.0",
        case_digest="c" * 64,
        content_datetime=datetime(2026, 1, 5, 10, 0, 1),
    ),
    tracking={number: Tracking(f"UAIR lesion {number}", uid) for uid, number in TRACKING.items()},
)


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return good_series(tmp_path / "slices")


@pytest.fixture(scope="module")
def two_images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The grid of the edited segmentations' tests, its slices in turn in two instances."""
    folder = tmp_path_factory.mktemp("enhanced")
    hu = np.random.default_rng(0).integers(-200, 200, SHAPE).astype(np.int16)
    return write_enhanced_ct(folder / "multi", write_ct_series(folder / "single", hu, AFFINE), instances=2)


@pytest.fixture(scope="module")
def volume(two_images: list[Path]) -> Volume:
    return read_series(two_images)


_SCOUT, _FIRST = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [-80, -90, 35.5]


def _verdict(paths: Sequence[Path]) -> GateResult:
    return inspect_series(read_headers(paths), GateSection())


def _refusal(paths: Sequence[Path]) -> str:
    refusal = _verdict(paths).refusal
    return refusal.code if refusal else ""


def _refuse_or_read(path: Path) -> Volume:
    if (refusal := _verdict([path]).refusal) is not None:
        raise refusal
    return read_series([path])


def test_what_we_take_for_enhanced_ct_is_enhanced_ct(slices: list[Path], tmp_path: Path) -> None:
    (path,) = write_enhanced_ct(tmp_path, slices)
    assert iod_errors(path, "EnhancedCTImage") == []


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"own_planes": True},
        {"own_rescale": True},
        {"instances": 3, "own_planes": True, "own_rescale": True},
        {"transfer_syntax": RLELossless},
        {"transfer_syntax": JPEGLSLossless, "own_rescale": True},
    ],
    ids=["shared", "own-planes", "own-rescale", "three-instances", "rle", "jpeg-ls"],
)
def test_frames_are_the_slices_of_the_single_frame_series(
    slices: list[Path], tmp_path: Path, form: dict
) -> None:
    paths = write_enhanced_ct(tmp_path / "enhanced", slices[::-1], **form)
    assert _refusal(paths) == ""
    single, multi = read_series(slices), read_series(paths)
    exact = 0 if "own_rescale" not in form else 1  # a slope of 2 HU cannot hold odd values
    np.testing.assert_allclose(multi.array, single.array, rtol=0, atol=exact)
    np.testing.assert_allclose(multi.affine, single.affine)
    assert multi.frame_of_reference_uid == single.frame_of_reference_uid
    assert len({(slice_.sop_instance_uid, slice_.frame) for slice_ in multi.slices}) == len(slices)
    assert {slice_.sop_class_uid for slice_ in multi.slices} == {EnhancedCTImageStorage}


def _in_groups(change: Callable[[Dataset], None], *frames: int) -> Callable[[Dataset], None]:
    def edit(image: Dataset) -> None:
        for number in frames:
            change(image.PerFrameFunctionalGroupsSequence[number])
        for group in () if frames else image.SharedFunctionalGroupsSequence:
            change(group)

    return edit


def _without_frame_7(image: Dataset) -> None:
    del image.PerFrameFunctionalGroupsSequence[7]
    image.NumberOfFrames -= 1


def _set(group: str, **values: object) -> Callable[[Dataset], None]:
    def change(groups: Dataset) -> None:
        for keyword, value in values.items():
            setattr(groups[group][0], keyword, value)

    return change


@pytest.mark.parametrize(
    ("code", "edit"),
    [
        ("multi-frame", lambda image: image.PerFrameFunctionalGroupsSequence.pop()),
        ("multi-frame", lambda image: delattr(image, "PerFrameFunctionalGroupsSequence")),
        ("no-position", _in_groups(lambda groups: delattr(groups, "PlanePositionSequence"), 3)),
        ("no-position", _in_groups(lambda groups: delattr(groups, "PixelMeasuresSequence"))),
        ("no-rescale", _in_groups(lambda groups: delattr(groups, "PixelValueTransformationSequence"))),
        ("not-hounsfield", _in_groups(_set("PixelValueTransformationSequence", RescaleType="US"))),
        ("no-rescale", _in_groups(_set("PixelValueTransformationSequence", RescaleSlope="nan"))),
        ("no-position", _in_groups(_set("PlanePositionSequence", ImagePositionPatient=["0", "0", "inf"]), 5)),
        ("localizer", _in_groups(_set("CTImageFrameTypeSequence", FrameType=_SCOUT))),
        ("mixed-orientation", _in_groups(lambda g: setattr(g, "PlaneOrientationSequence", [_coronal()]), 5)),
        ("duplicate-position", _in_groups(_set("PlanePositionSequence", ImagePositionPatient=_FIRST), 5)),
        ("missing-slice", _without_frame_7),
    ],
)
def test_the_gate_looks_into_the_frames(
    slices: list[Path], tmp_path: Path, code: str, edit: Callable[[Dataset], object]
) -> None:
    (path,) = write_enhanced_ct(tmp_path, slices)
    image = pydicom.dcmread(path)
    edit(image)
    image.save_as(path)
    assert _refusal([path]) == code


def _coronal() -> Dataset:
    plane = Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return plane


def test_a_file_that_ends_before_its_pixels_is_refused(slices: list[Path], tmp_path: Path) -> None:
    """Found by fuzzing: pydicom raises OSError for some, as for a disk that fails.

    The gate looks at headers alone: whole headers without pixels are refused by the reader.
    """
    (path,) = write_enhanced_ct(tmp_path, slices)
    whole = path.read_bytes()
    codes = set()
    for length in range(whole.index(b"\xe0\x7f\x10\x00"), 600, -5):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            _refuse_or_read(path)
        codes.add(caught.value.code)
    assert {"not-dicom", "undecodable-pixels"} <= codes


def test_pixels_that_are_cut_off_are_told_by_their_frame(slices: list[Path], tmp_path: Path) -> None:
    (path,) = write_enhanced_ct(tmp_path, slices)
    image = pydicom.dcmread(path)
    image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    image.save_as(path)
    assert _refusal([path]) == ""
    with pytest.raises(InputError, match="The pixels of slice") as caught:
        read_series([path])
    assert caught.value.code == "undecodable-pixels"


def test_a_large_image_is_read_in_a_moment(tmp_path: Path) -> None:
    hu = np.zeros((300, 8, 8), np.int16)
    affine = AFFINE @ np.diag([0.2, 1, 1, 1])
    (path,) = write_enhanced_ct(tmp_path / "multi", write_ct_series(tmp_path / "single", hu, affine))
    started = datetime.now()
    assert read_series([path]).shape == hu.shape
    assert (datetime.now() - started).total_seconds() < 10


@pytest.mark.parametrize("profile", [Profile.STRICT, Profile.OHIF])
def test_segmentations_name_frames(
    volume: Volume, two_images: list[Path], tmp_path: Path, profile: Profile
) -> None:
    request = SegRequest(**{**vars(REQUEST), "needs": NEEDS[profile]})
    path = tmp_path / "seg.dcm"
    save_durably(write_seg(volume, LABELS, request), path)
    assert iod_errors(path, "Segmentation") == []
    seg, images = pydicom.dcmread(path), [pydicom.dcmread(image) for image in two_images]
    positions = {
        (image.SOPInstanceUID, number): frame.PlanePositionSequence[0].ImagePositionPatient
        for image in images
        for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence, 1)
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPClassUID == EnhancedCTImageStorage
        own = frame.PlanePositionSequence[0].ImagePositionPatient
        assert positions[source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber] == own
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    for references in (series.ReferencedInstanceSequence, seg.SourceImageSequence):
        assert {reference.ReferencedSOPInstanceUID for reference in references} == {
            image.SOPInstanceUID for image in images
        }
        assert len(references) == 2
        assert not any("ReferencedFrameNumber" in reference for reference in references), "all frames"
    np.testing.assert_array_equal(read_edited(seg, volume, KnownTargets(TRACKING)).labels, LABELS)
    np.testing.assert_array_equal(read_offer(path, volume), segment_numbers())


def test_the_demonstration_takes_it_for_its_slices(slices: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    paths = write_enhanced_ct(folder / "whole", slices, instances=2)
    good_series(folder / "half")[-1].unlink()
    assert folder_input(folder, None).paths == paths


def test_reports_name_frames(volume: Volume, tmp_path: Path) -> None:
    segmentation = write_seg(volume, LABELS, REQUEST)
    provenance = Provenance(
        round=1,
        model_name="embedded",
        model_digest=REQUEST.provenance.model_digest,
        software_version="0.1.0",
        case_digest=REQUEST.provenance.case_digest,
        content_datetime=REQUEST.provenance.content_datetime,
    )
    request = ReportRequest(result_uid("report"), result_uid("report series"), 2, provenance)
    report = write_report(volume, findings_of(volume, LABELS), segmentation, request)
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert iod_errors(tmp_path / "sr.dcm", "Comprehensive3DSR") == []
    frames = {
        (reference.ReferencedSOPInstanceUID, reference.ReferencedFrameNumber)
        for reference in _image_references(report)
        if reference.ReferencedSOPClassUID == EnhancedCTImageStorage
    }
    assert frames
    assert frames <= {(slice_.sop_instance_uid, slice_.frame) for slice_ in volume.slices}


def _image_references(item: Dataset) -> list[Dataset]:
    own = list(item.get("ReferencedSOPSequence", ()))
    return own + [
        reference for part in item.get("ContentSequence", ()) for reference in _image_references(part)
    ]


def test_a_segmentation_that_another_program_drew_on_it_is_read(tmp_path: Path) -> None:
    single = write_ct_series(tmp_path / "single", np.zeros(SHAPE, np.int16), AFFINE)
    (path,) = write_enhanced_ct(tmp_path / "multi", single)
    volume, image = read_series([path]), pydicom.dcmread(path)
    drawn = returned([image], segment_numbers())
    np.testing.assert_array_equal(read_edited(drawn, volume, KnownTargets(TRACKING)).labels, LABELS)

    # Some writers give no position: what the frame was derived from places it then.
    for frame in drawn.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    np.testing.assert_array_equal(read_edited(reread(drawn), volume, KnownTargets(TRACKING)).labels, LABELS)
