"""Volumes: exact Hounsfield units, exact geometry, and a canonical grid that leads back exactly."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_config.errors import InputError
from tests.support.series import AXIAL, affine_of, compress, edit, edit_all, good_series, noise_hu, turned
from uair_node.dicom.volume import SourceSlice, Volume, read_geometry, read_series
from workers.phantoms.ct_series import write_ct_series

ORIENTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""All 48 ways in which three array axes can run along the patient's: columns k, j, i in LPS."""

TO_CANONICAL = np.column_stack([(0, 0, 1), (0, 1, 0), (1, 0, 0)])


def a_volume(
    axes: NDArray[Any], shape: tuple[int, ...] = (3, 4, 5), spacing_mm: tuple[float, ...] = (2.0, 0.7, 0.9)
) -> Volume:
    slices = tuple(SourceSlice(f"2.25.{k}", "", Path(f"{k}")) for k in range(shape[0]))
    return Volume(noise_hu(shape), affine_of(axes, spacing_mm, (-7.5, 11.0, 3.25)), "2.25.1", slices)


def points_by_value(array: NDArray[Any], affine: NDArray[Any]) -> NDArray[Any]:
    """Return the LPS points of all voxels, ordered by their values, which differ."""
    index = np.argwhere(np.ones(array.shape, dtype=bool))
    points = np.column_stack([index, np.ones(len(index))]) @ affine.T
    return points[np.argsort(array.ravel(), kind="stable"), :3]


@pytest.mark.parametrize("degrees", [0.0, 23.0, -41.0])
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_canonical_moves_no_voxel_and_to_source_undoes_it(axes: NDArray[Any], degrees: float) -> None:
    volume = a_volume(turned(degrees, axes))
    volume.array[:] = np.random.default_rng(1).permutation(volume.array.size).reshape(volume.shape)
    canonical = volume.canonical()
    np.testing.assert_allclose(
        points_by_value(canonical.array, canonical.affine),
        points_by_value(volume.array, volume.affine),
        atol=1e-9,
    )
    np.testing.assert_array_equal(canonical.to_source(canonical.array), volume.array)
    np.testing.assert_array_equal(canonical.from_source(volume.array), canonical.array)
    assert sorted(canonical.spacing_mm) == pytest.approx(sorted(volume.spacing_mm))
    # Each axis grows towards its own direction, nearer to it than to any other.
    along = (TO_CANONICAL.T @ canonical.affine[:3, :3]) / np.asarray(canonical.spacing_mm)
    assert (along.argmax(axis=1) == (0, 1, 2)).all()
    assert (np.diag(along) > np.cos(np.radians(45))).all()


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_label_in_canonical_space_lands_on_the_same_point(axes: NDArray[Any]) -> None:
    volume = a_volume(axes)
    canonical = volume.canonical()
    labels = np.zeros(canonical.shape, np.uint8)
    labels[0, -1, 1] = 2
    at = (canonical.affine @ (0, labels.shape[1] - 1, 1, 1))[:3]
    ((k, j, i),) = np.argwhere(canonical.to_source(labels) == 2)
    np.testing.assert_allclose((volume.affine @ (k, j, i, 1))[:3], at, atol=1e-9)


def test_canonical_arrays_are_contiguous_for_the_engine() -> None:
    assert a_volume(AXIAL * (-1, -1, -1)).canonical().array.flags.c_contiguous


def test_labels_of_another_shape_are_refused() -> None:
    canonical = a_volume(AXIAL).canonical()
    with pytest.raises(ValueError, match="expected shape"):
        canonical.to_source(np.zeros((1, 4, 5), np.uint8))
    with pytest.raises(ValueError, match="source grid"):
        canonical.from_source(np.zeros((1, 4, 5), np.uint8))


@pytest.mark.parametrize("axes", [AXIAL, AXIAL * (-1, 1, 1), AXIAL * (1, -1, -1), turned(20.0)])
def test_written_series_is_read_back_voxel_by_voxel_and_point_by_point(
    tmp_path: Path, axes: NDArray[Any]
) -> None:
    hu, affine = noise_hu((12, 24, 20)), affine_of(axes)
    paths = write_ct_series(tmp_path, hu, affine, frame_of_reference_uid="2.25.42")
    np.random.default_rng(3).shuffle(paths)
    volume = read_series(paths)
    # Stack order runs along the normal of rows and columns: where the array runs against it, it is reversed.
    reverse = slice(None, None, -1 if np.linalg.det(axes) > 0 else 1)
    np.testing.assert_array_equal(volume.array, hu[reverse])
    first = (affine @ (0 if reverse.step == 1 else 11, 0, 0, 1))[:3]
    np.testing.assert_allclose(volume.affine[:3, 3], first, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 0], affine[:3, 0] * reverse.step, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 1:3], affine[:3, 1:3], atol=1e-6)
    assert volume.spacing_mm == pytest.approx((5.0, 0.8, 0.8))
    assert volume.frame_of_reference_uid == "2.25.42"
    assert volume.assumed == ()
    for source in volume.slices:
        assert str(pydicom.dcmread(source.path).SOPInstanceUID) == source.sop_instance_uid
    heights = [pydicom.dcmread(s.path).ImagePositionPatient for s in volume.slices]
    np.testing.assert_allclose(heights[5], (volume.affine @ (5, 0, 0, 1))[:3], atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_series_reads_the_same(tmp_path: Path, syntax: str) -> None:
    paths = write_ct_series(tmp_path, noise_hu((3, 64, 64)), affine_of())
    expected = read_series(paths).array
    for path in paths:
        compress(path, syntax)
    np.testing.assert_array_equal(read_series(paths).array, expected)


def test_rescale_is_applied_slice_by_slice_and_rounded(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    stored = pydicom.dcmread(paths[4]).pixel_array.astype(float)
    edit(paths[4], RescaleSlope="0.5", RescaleIntercept="-100.25")
    volume = read_series(paths)
    (k,) = [n for n, source in enumerate(volume.slices) if source.path == paths[4]]
    np.testing.assert_array_equal(volume.array[k], np.rint(stored * 0.5 - 100.25))


def test_values_beyond_int16_are_clipped_not_wrapped(tmp_path: Path) -> None:
    paths = edit_all(good_series(tmp_path), RescaleSlope=100)
    array = read_series(paths).array
    assert array.max() == 32767
    assert array.min() >= -1024


@pytest.mark.parametrize("padding", [0, 3])
def test_padding_is_air(tmp_path: Path, padding: int) -> None:
    paths = good_series(tmp_path)
    dataset = pydicom.dcmread(paths[0])
    stored = dataset.pixel_array.copy()
    stored[2, 3], stored[4, 5] = padding, 900
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", "US", padding)
    dataset.RescaleIntercept = 0
    dataset.save_as(paths[0], enforce_file_format=True)
    volume = read_series(paths)
    (k,) = [n for n, source in enumerate(volume.slices) if source.path == paths[0]]
    assert volume.array[k, 2, 3] == -1024
    assert volume.array[k, 4, 5] == 900


def test_padding_with_the_wrong_sign_is_air_too(tmp_path: Path) -> None:
    # -2000 in signed pixels, but declared as the unsigned 63536: seen from several vendors.
    paths = good_series(tmp_path)
    for path in paths:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype("<i2")
        stored[0, 0] = -2000
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)
        dataset.RescaleIntercept = 0
        dataset.save_as(path, enforce_file_format=True)
    array = read_series(paths).array
    assert (array[:, 0, 0] == -1024).all()
    assert (array[:, 1:, 1:] >= 0).all()


def test_missing_frame_of_reference_gets_the_same_uid_every_time(tmp_path: Path) -> None:
    paths = edit_all(good_series(tmp_path, series_instance_uid="2.25.8"), FrameOfReferenceUID=None)
    first, second = read_series(paths), read_geometry(paths[::-1])
    assert first.frame_of_reference_uid == second.frame_of_reference_uid
    assert first.frame_of_reference_uid.startswith("2.25.")
    assert len(first.frame_of_reference_uid) <= 64
    assert first.assumed == ("frame-of-reference-uid",)
    other = edit_all(good_series(tmp_path / "other"), FrameOfReferenceUID=None)
    assert read_geometry(other).frame_of_reference_uid != first.frame_of_reference_uid


def test_geometry_is_that_of_the_full_reading(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    full, grid = read_series(paths), read_geometry(paths)
    assert grid.shape == full.shape
    assert grid.slices == full.slices
    np.testing.assert_array_equal(grid.affine, full.affine)


def test_structural_faults_stop_the_reading(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    edit(paths[2], FrameOfReferenceUID="2.25.3")
    with pytest.raises(InputError) as caught:
        read_series(paths)
    assert caught.value.code == "mixed-frame-of-reference"


def test_short_series_is_readable_below_the_gates_thresholds(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, noise_hu((2, 6, 6)), affine_of())
    assert read_series(paths).shape == (2, 6, 6)


def test_no_file_is_no_series() -> None:
    with pytest.raises(ValueError, match="at least one"):
        read_series([])


def test_real_imperfect_series(ct_dir: Path) -> None:
    paths = sorted((ct_dir / "ircadb01_p17" / "PATIENT_DICOM").iterdir())
    np.random.default_rng(0).shuffle(paths)
    volume = read_series(paths)
    assert volume.shape == (119, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.6, 0.743, 0.743), rel=1e-4)
    assert volume.assumed == ("frame-of-reference-uid", "patient-id", "series-number")
    # The publisher numbered files and instances along the stack: image_0 lies lowest.
    assert [int(source.path.name.removeprefix("image_")) for source in volume.slices] == list(range(119))
    assert volume.array.min() == -1024
    assert volume.array.max() == 1023
    stored = pydicom.dcmread(volume.slices[60].path).pixel_array
    np.testing.assert_array_equal(volume.array[60], stored)
