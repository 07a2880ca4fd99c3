"""Truth from mask series, SEG and NIfTI lands on the right voxels, or is refused."""

import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_config.errors import InputError
from tests.support.series import affine_of, edit_all
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series
from workers.truth.masks import load_truth

SHAPE = (6, 12, 10)


def truth_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 2:9, 1:8] = 1
    labels[2, 3:5, 2:4] = 2
    labels[3:5, 6, 5:7] = 3
    return labels


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    hu = np.random.default_rng(0).integers(-100, 200, SHAPE).astype(np.int16)
    return read_series(write_ct_series(tmp_path / "ct", hu, affine_of()))


def write_masks(folder: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write labels as mask series in the manner of 3D-IRCADb: 0 and 255, the liver with its lesions."""
    masks = {"liver": labels > 0, "livertumor1": labels == 2, "livertumor2": labels == 3, "bone": labels == 0}
    for name, mask in masks.items():
        write_ct_series(folder / name, np.where(mask, 255 - 1024, -1024).astype(np.int16), affine)


def test_mask_series_are_placed_by_position(volume: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", truth_labels(), affine_of())
    assert np.array_equal(load_truth(tmp_path / "masks", volume), truth_labels())


def test_masks_stored_upside_down_and_mirrored_land_on_the_same_voxels(
    volume: Volume, tmp_path: Path
) -> None:
    flipped = affine_of()
    for axis in range(3):
        flipped[:3, 3] += flipped[:3, axis] * (SHAPE[axis] - 1)
        flipped[:3, axis] *= -1
    write_masks(tmp_path / "masks", truth_labels()[::-1, ::-1, ::-1], flipped)
    assert np.array_equal(load_truth(tmp_path / "masks", volume), truth_labels())


def test_masks_without_positions_are_matched_by_instance_number(volume: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", truth_labels(), affine_of())
    paths = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    edit_all(paths, ImagePositionPatient=None, ImageOrientationPatient=None)
    assert np.array_equal(load_truth(tmp_path / "masks", volume), truth_labels())


def test_a_zip_reads_like_its_folder(volume: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", truth_labels(), affine_of())
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for path in (tmp_path / "masks").rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    assert np.array_equal(load_truth(tmp_path / "masks.zip", volume), truth_labels())


def test_masks_of_another_grid_are_refused(volume: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", truth_labels(), affine_of(origin_mm=(300.0, 0.0, 900.0)))
    paths = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    edit_all(paths, InstanceNumber=None)
    with pytest.raises(InputError) as refused:
        load_truth(tmp_path / "masks", volume)
    assert refused.value.code == "truth-grid"


def test_truth_without_a_liver_is_refused(volume: Volume, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "masks" / "kidney", np.full(SHAPE, -1024, np.int16), affine_of())
    with pytest.raises(InputError) as refused:
        load_truth(tmp_path / "masks", volume)
    assert refused.value.code == "truth-without-liver"


def test_a_file_that_is_no_dicom_is_refused(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "truth.dcm").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError) as refused:
        load_truth(tmp_path / "truth.dcm", volume)
    assert refused.value.code == "truth-unreadable"


def test_a_dicom_file_that_is_no_seg_is_refused(volume: Volume) -> None:
    assert pydicom.dcmread(volume.slices[0].path).SOPClassUID != SecondaryCaptureImageStorage
    with pytest.raises(InputError) as refused:
        load_truth(volume.slices[0].path, volume)
    assert refused.value.code == "truth-unreadable"


def test_our_own_seg_is_read_back(volume: Volume, tmp_path: Path) -> None:
    request = SegRequest(
        sop_instance_uid=result_uid("instance"),
        series_instance_uid=result_uid("series"),
        k=1,
        character="truth",
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest="0" * 64,
            software_version="0",
            case_digest="f" * 64,
            content_datetime=datetime(2026, 1, 5),
        ),
        tracking={n: Tracking(f"lesion {n}", result_uid("lesion", n)) for n in (1, 2)},
    )
    save_durably(write_seg(volume, truth_labels(), request), tmp_path / "seg.dcm")
    assert np.array_equal(load_truth(tmp_path / "seg.dcm", volume), truth_labels())


def nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    """Write labels (Z, Y, X) with an LPS affine of (k, j, i) as NIfTI stores them."""
    nibabel = pytest.importorskip("nibabel")
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0).astype(np.uint8), to_ras), path)
    return path


def test_nifti_on_a_flipped_grid_lands_on_the_same_voxels(volume: Volume, tmp_path: Path) -> None:
    flipped = affine_of()
    flipped[:3, 3] += flipped[:3, 1] * (SHAPE[1] - 1)
    flipped[:3, 1] *= -1
    path = nifti(tmp_path / "truth.nii.gz", truth_labels()[:, ::-1], flipped)
    assert np.array_equal(load_truth(path, volume), truth_labels())


def test_lesions_that_share_one_value_are_told_apart(volume: Volume, tmp_path: Path) -> None:
    path = nifti(tmp_path / "truth.nii.gz", np.minimum(truth_labels(), 2), affine_of())
    assert np.array_equal(load_truth(path, volume), truth_labels())


def test_labels_of_all_organs_are_refused(volume: Volume, tmp_path: Path) -> None:
    organs = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 30
    with pytest.raises(InputError) as refused:
        load_truth(nifti(tmp_path / "truth.nii.gz", organs, affine_of()), volume)
    assert refused.value.code == "truth-without-liver"


def test_nifti_of_another_grid_is_refused(volume: Volume, tmp_path: Path) -> None:
    path = nifti(tmp_path / "truth.nii.gz", truth_labels(), affine_of(origin_mm=(0.0, 0.0, 0.0)))
    with pytest.raises(InputError) as refused:
        load_truth(path, volume)
    assert refused.value.code == "truth-grid"


def test_expert_masks_of_a_real_series_have_the_published_volumes(ct_dir: Path) -> None:
    folder = ct_dir / "ircadb01_p17"
    real = read_series(sorted((folder / "PATIENT_DICOM").iterdir()))
    labels = load_truth(folder / "MASKS_DICOM.zip", real)
    millilitres = np.bincount(labels.ravel()) * np.prod(real.spacing_mm) / 1000
    assert millilitres[1:].sum() == pytest.approx(1860.6, abs=0.1)
    assert millilitres[2:] == pytest.approx([85.6, 78.6], abs=0.1)
