"""SEG objects in the eyes of others: dciodvfy finds no error, dcmqi finds every voxel where it was put."""

import zipfile
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_config import codes
from tests.support.dcmqi import read_segments
from tests.support.iods import iod_errors
from uair_node.results.seg import SegRequest, Tracking, save_seg, write_seg
from uair_node.results.uids import result_uid
from uair_node.volume import Volume, read_series
from workers.training.ct_series import write_ct_series

pytestmark = pytest.mark.integration

# 30 x 26 pixels are no whole number of bytes at one bit each: frames share bytes (PS3.5 8.1.1).
SHAPE = (12, 30, 26)
SPACING = np.diag([2.5, 0.7, 0.9])
ORIGIN = [-110.5, -95.25, 301.0]


def tilted_about_x(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


# LPS directions of slices, rows and columns (array axes 0, 1, 2) as matrix columns.
UPRIGHT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
GRIDS = {
    "upright": UPRIGHT,
    "slices downwards": UPRIGHT * [-1, 1, 1],
    "rows flipped": UPRIGHT * [1, -1, 1],
    "columns flipped": UPRIGHT * [1, 1, -1],
    "prone": UPRIGHT * [1, -1, -1],
    "all flipped": UPRIGHT * [-1, -1, -1],
    "oblique": tilted_about_x(10) @ UPRIGHT,
    "oblique, slices downwards, columns flipped": tilted_about_x(-10) @ (UPRIGHT * [-1, 1, -1]),
    "oblique about two axes": tilted_about_x(12) @ tilted_about_x(8)[:, [1, 2, 0]][[1, 2, 0]] @ UPRIGHT,
}


def shapes_without_symmetry() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 4:20, 3:18] = 1
    labels[3:6, 15:22, 5:9] = 1
    labels[4:7, 6:11, 4:8] = 2
    labels[8, 5:7, 12:17] = 4
    labels[8, 7, 13] = 4
    return labels


def request_for(labels: np.ndarray, **changes) -> SegRequest:
    lesions = [int(value) - 1 for value in np.unique(labels) if value > 1]
    values = {
        "sop_instance_uid": result_uid("instance"),
        "series_instance_uid": result_uid("series"),
        "round": 1,
        "k": 3,
        "trait": "most inclusive",
        "model_name": "embedded",
        "model_digest": "0123456789abcdef" * 4,
        "software_version": "0.1.0",
        "case_digest": "f" * 64,
        "content_datetime": datetime(2026, 1, 5, 10, 0, 1, 250),
        "tracking": {n: Tracking(f"UAIR lesion {n}", result_uid("lesion", n)) for n in lesions},
    }
    return SegRequest(**values | changes)


def written(volume: Volume, labels: np.ndarray, folder: Path, **changes) -> Path:
    path = folder / "candidate.dcm"
    save_seg(write_seg(volume, labels, request_for(labels, **changes)), path)
    return path


def centres_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.argwhere(mask)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("grid", GRIDS)
def test_every_voxel_is_where_it_was_put(grid, tmp_path):
    """The labels travel as HU through the series, so that the writer's affine alone is the truth here."""
    affine = np.eye(4)
    affine[:3, :3] = GRIDS[grid] @ SPACING
    affine[:3, 3] = ORIGIN
    labels = shapes_without_symmetry()
    paths = write_ct_series(tmp_path / "ct", labels.astype(np.int16) * 100, affine)
    volume = read_series(paths[::2] + paths[1::2])
    path = written(volume, (volume.array // 100).astype(np.uint8), tmp_path)

    assert iod_errors(path, "Segmentation") == []
    (tmp_path / "nrrd").mkdir()
    segments = read_segments(path, tmp_path / "nrrd")
    assert [segment.label for segment in segments] == ["Liver", "Lesion 1", "Lesion 3"]
    for segment, value in zip(segments, (1, 2, 4), strict=True):
        assert segment.covers_exactly(centres_mm(labels == value, affine))
    assert [segment.tracking_uid for segment in segments] == [
        "",
        result_uid("lesion", 1),
        result_uid("lesion", 3),
    ]
    # dcmqi turns CIELab back into RGB; a step of rounding is lost on the way.
    expected = [c.rgb for c in (codes.LIVER_COLOUR, codes.lesion_colour(1), codes.lesion_colour(3))]
    np.testing.assert_allclose([segment.rgb for segment in segments], expected, atol=2)


@pytest.mark.parametrize("value", [1, 2], ids=["liver only", "one lesion only"])
@pytest.mark.parametrize("slices", [slice(4, 5), slice(0, 12)], ids=["one frame", "all frames"])
def test_a_single_segment_is_read_back(value, slices, tmp_path):
    """With one segment the library shares its identification between frames; readers must still find it."""
    affine = np.eye(4)
    affine[:3, :3] = UPRIGHT @ SPACING
    labels = np.zeros(SHAPE, np.uint8)
    labels[slices, 3:9, 4:15] = value
    volume = read_series(write_ct_series(tmp_path / "ct", labels.astype(np.int16) * 100, affine))
    path = written(volume, labels, tmp_path)
    assert iod_errors(path, "Segmentation") == []
    (tmp_path / "nrrd").mkdir()
    (segment,) = read_segments(path, tmp_path / "nrrd")
    assert segment.covers_exactly(centres_mm(labels == value, affine))


@pytest.mark.parametrize("changes", [{"round": 2, "derived_from": "2.25.7"}, {"round": 3, "final": True}])
def test_later_rounds_and_the_final_result_conform(changes, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = UPRIGHT @ SPACING
    labels = shapes_without_symmetry()
    volume = read_series(write_ct_series(tmp_path / "ct", labels.astype(np.int16) * 100, affine))
    assert iod_errors(written(volume, labels, tmp_path, **changes), "Segmentation") == []


def expert_labels(folder: Path, volume: Volume) -> np.ndarray:
    """Read the expert's masks, which lie on the slices that share their positions."""
    labels = np.zeros(volume.shape, np.uint8)
    with zipfile.ZipFile(folder / "MASKS_DICOM.zip") as archive:
        for value, name in ((1, "liver"), (2, "livertumor1"), (3, "livertumor2")):
            entries = [e for e in archive.namelist() if f"/{name}/" in e and not e.endswith("/")]
            assert len(entries) == volume.shape[0]
            for entry in entries:
                slice_ = pydicom.dcmread(BytesIO(archive.read(entry)))
                z_mm = float(slice_.ImagePositionPatient[2])
                k = round((z_mm - volume.affine[2, 3]) / volume.affine[2, 0])
                labels[k][slice_.pixel_array > 0] = value
    return labels


def test_a_real_series_with_imperfect_headers(ct_dir, tmp_path):
    folder = ct_dir / "ircadb01_p17"
    volume = read_series(sorted((folder / "PATIENT_DICOM").iterdir()))
    labels = expert_labels(folder, volume)
    path = written(volume, labels, tmp_path)
    assert iod_errors(path, "Segmentation") == []
    (tmp_path / "nrrd").mkdir()
    segments = read_segments(path, tmp_path / "nrrd")
    assert [segment.label for segment in segments] == ["Liver", "Lesion 1", "Lesion 2"]
    for segment, value in zip(segments, (1, 2, 3), strict=True):
        assert segment.covers_exactly(centres_mm(labels == value, volume.affine))
    seg = pydicom.dcmread(path)
    source = pydicom.dcmread(volume.slices[0].path, stop_before_pixels=True)
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.StudyDate == source.StudyDate
    assert seg.PatientID == ""
    assert seg.FrameOfReferenceUID == volume.frame_of_reference_uid
