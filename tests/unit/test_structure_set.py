"""The RT Structure Set of an accepted segmentation: traced, written, read back."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from skimage.draw import polygon2mask

from dicom_config import codes
from tests.support.enhanced import write_enhanced_ct
from tests.support.offered import candidate_labels
from tests.support.series import good_series
from uair_node.dicom.rtstruct_reader import read_structures
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.contour_tracing import trace
from uair_node.results.provenance import Provenance
from uair_node.results.structure_set import StructuresRequest, write_structure_set

PROVENANCE = Provenance(3, "embedded", "0123456789abcdef" * 4, "1.0", "a" * 64, datetime(2026, 1, 2, 3, 4, 5))
REQUEST = StructuresRequest("2.25.111", "2.25.112", 2, "most inclusive", PROVENANCE)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_geometry(good_series(tmp_path_factory.mktemp("ct")))


def riddled() -> np.ndarray:
    """Labels with holes in holes, islands, and corners that touch."""
    random = np.random.default_rng(0)
    labels = candidate_labels(3)
    labels[labels > 0] *= random.random(np.count_nonzero(labels)) < 0.7
    return labels


def reread(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


@pytest.mark.parametrize("seed", range(20))
def test_contours_hold_exactly_the_pixels_of_their_mask(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((14, 17)) < random.uniform(0.3, 0.9)
    even, joined = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for ring in trace(mask):
        even ^= polygon2mask(mask.shape, ring)
        joined |= polygon2mask(mask.shape, ring)
    assert (even == mask).all()
    assert (joined == mask).all(), "a hole is a keyhole: it needs no second contour"


def test_contours_run_half_a_pixel_around_and_have_no_needless_points() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:6, 3:8] = True
    (ring,) = trace(mask)
    assert len(ring) == 8, "corners are cut"
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([1.5, 2.5], [5.5, 7.5])
    assert trace(np.zeros((4, 4), bool)) == []


@pytest.mark.parametrize("labels", [candidate_labels(3), riddled()], ids=["plain", "riddled"])
def test_what_is_written_is_read_back_voxel_for_voxel(volume: Volume, labels: np.ndarray) -> None:
    made = reread(write_structure_set(volume, labels, REQUEST))
    known = KnownTargets(offered=[labels], used=[1, 2])
    assert (read_structures(made, volume, known).labels == labels).all()


def test_frames_of_an_enhanced_ct_are_named(tmp_path: Path) -> None:
    grid = read_geometry(write_enhanced_ct(tmp_path / "enhanced", good_series(tmp_path / "ct")))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:5, 3:8, 4:9] = 1
    made = reread(write_structure_set(grid, labels, REQUEST))
    contour = made.ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == grid.slices[2].frame
    assert (read_structures(made, grid, KnownTargets()).labels == labels).all()


def test_names_types_codes_and_colours(volume: Volume) -> None:
    made = reread(write_structure_set(volume, candidate_labels(1), REQUEST))
    assert made.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert made.StructureSetLabel == "UAIR FINAL R3C2"
    assert [item.ROIName for item in made.StructureSetROISequence] == ["Liver", "Lesion 1", "Lesion 2"]
    seen = made.RTROIObservationsSequence
    assert [item.RTROIInterpretedType or "" for item in seen] == ["ORGAN", "", ""]
    values = [item.RTROIIdentificationCodeSequence[0].CodeValue for item in seen]
    assert values == [codes.LIVER.value, codes.LESION.value, codes.LESION.value]
    colours = [tuple(item.ROIDisplayColor) for item in made.ROIContourSequence]
    assert colours == [codes.LIVER_COLOUR.rgb, codes.lesion_colour(1).rgb, codes.lesion_colour(2).rgb]
    assert made.SeriesNumber not in {codes.series_number(3, k) for k in (1, 2, 3, 4)}


def test_the_same_request_gives_the_same_bytes(volume: Volume) -> None:
    files = [BytesIO(), BytesIO()]
    for file in files:
        write_structure_set(volume, candidate_labels(1), REQUEST).save_as(file, enforce_file_format=True)
    assert files[0].getvalue() == files[1].getvalue()
