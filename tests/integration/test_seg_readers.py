"""SEG objects in the eyes of others: dciodvfy finds no error, dcmqi finds every voxel where it was put."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_config import codes
from tests.support.dcmqi import read_segments
from tests.support.iods import iod_errors
from tests.support.seg_grids import (
    GRIDS,
    SHAPE,
    SPACING,
    UPRIGHT,
    affine_on,
    centres_mm,
    series_of_labels,
    shapes_without_symmetry,
    written,
)
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("grid", GRIDS)
def test_every_voxel_is_where_it_was_put(grid: str, tmp_path: Path) -> None:
    """The labels travel as HU through the series, so that the writer's affine alone is the truth here."""
    affine = affine_on(grid)
    _, volume, labels = series_of_labels(tmp_path, affine)
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
def test_a_single_segment_is_read_back(value: int, slices: slice, tmp_path: Path) -> None:
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
def test_later_rounds_and_the_final_result_conform(changes: dict[str, Any], tmp_path: Path) -> None:
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


def test_a_real_series_with_imperfect_headers(ct_dir: Path, tmp_path: Path) -> None:
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
