"""Cases are found by what lies in a folder: SEG, mask series, NIfTI pairs; what is unclear is refused."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_config.errors import InputError
from tests.support.series import affine_of
from uair_node.dicom.volume import read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series
from workers.phantoms.mr_series import write_mr_series
from workers.research.evaluation.discover import find_cases

SHAPE = (6, 12, 10)


def scan() -> np.ndarray:
    return np.random.default_rng(0).integers(-400, 200, SHAPE).astype(np.int16)


def truth_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 2:9, 1:8] = 1
    labels[2, 3:5, 2:4] = 2
    labels[3:5, 6, 5:7] = 3
    return labels


def write_ircadb(folder: Path) -> Path:
    """Write a case as 3D-IRCADb does; the masks are CT instances, too."""
    write_ct_series(folder / "PATIENT_DICOM", scan(), affine_of())
    for name, values in (("liver", (1, 2, 3)), ("livertumor1", (2,)), ("livertumor2", (3,)), ("bone", (0,))):
        mask = np.where(np.isin(truth_labels(), values), 255 - 1024, -1024).astype(np.int16)
        write_ct_series(folder / "MASKS_DICOM" / name, mask, affine_of())
    return folder


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in filter(Path.is_file, folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    shutil.rmtree(folder)


def write_with_seg(folder: Path, name: str = "seg.dcm", write: Callable[..., Any] = write_ct_series) -> Path:
    volume = read_series(write(folder / "series", scan(), affine_of()))
    request = SegRequest(
        sop_instance_uid=result_uid("instance", name),
        series_instance_uid=result_uid("series", name),
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
    save_durably(write_seg(volume, truth_labels(), request), folder / name)
    return folder


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    """Write an array (k, j, i) with an LPS affine the way NIfTI stores it."""
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), to_ras), path)
    return path


def canonical_truth() -> np.ndarray:
    """The source grid of these series is the canonical one."""
    return truth_labels()


@pytest.mark.parametrize("archives", [(), ("MASKS_DICOM",), ("MASKS_DICOM", "PATIENT_DICOM")])
def test_mask_series_are_found_plain_and_zipped(tmp_path: Path, archives: tuple[str, ...]) -> None:
    folder = write_ircadb(tmp_path / "case 1")
    for name in archives:
        zipped(folder / name)
    (source,) = find_cases([folder])
    case = source.load()
    assert case.name == "case 1"
    assert np.array_equal(case.hu, scan())
    assert np.array_equal(case.truth, canonical_truth())


def test_a_folder_of_cases_holds_them_all(tmp_path: Path) -> None:
    write_ircadb(tmp_path / "a")
    write_with_seg(tmp_path / "b")
    assert [source.load().lesions for source in find_cases([tmp_path])] == [(2, 3), (2, 3)]


def test_cases_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_with_seg(tmp_path / "a" / "case")
    write_with_seg(tmp_path / "b" / "case")
    found = find_cases([tmp_path / "a" / "case", tmp_path / "b" / "case"])
    assert [source.name for source in found] == ["case (1)", "case (2)"]


def test_a_seg_belongs_to_the_series_it_refers_to(tmp_path: Path) -> None:
    write_with_seg(tmp_path / "case")
    write_ct_series(tmp_path / "case" / "other", scan()[:5], affine_of(), accession_number="2")
    (source,) = find_cases([tmp_path / "case"])
    assert np.array_equal(source.load().truth, canonical_truth())


def test_an_mr_series_with_a_seg_is_a_case_on_the_scale_of_the_networks(tmp_path: Path) -> None:
    write_with_seg(tmp_path / "case", write=write_mr_series)
    case = find_cases([tmp_path / "case"])[0].load()
    assert np.array_equal(case.truth, canonical_truth())
    assert case.hu.dtype == np.int16
    assert case.hu.min() == -1000


def test_two_segs_of_one_series_are_not_guessed_between(tmp_path: Path) -> None:
    write_with_seg(tmp_path)
    shutil.copy(tmp_path / "seg.dcm", tmp_path / "seg2.dcm")
    with pytest.raises(InputError) as refused:
        find_cases([tmp_path])
    assert refused.value.code == "truth-ambiguous"
    (source,) = find_cases([tmp_path], tmp_path / "seg2.dcm")
    assert source.load().lesions == (2, 3)


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_nifti_pairs_land_on_the_canonical_grid_whatever_their_flips(
    tmp_path: Path, flips: tuple[bool, bool, bool]
) -> None:
    affine, hu, labels = affine_of(), scan(), truth_labels()
    for axis in (axis for axis in range(3) if flips[axis]):
        hu, labels = np.flip(hu, axis), np.flip(labels, axis)
        affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        affine[:3, axis] *= -1
    write_nifti(tmp_path / "x_ct.nii.gz", hu, affine)
    write_nifti(tmp_path / "x_seg.nii.gz", labels, affine)
    (source,) = find_cases([tmp_path])
    case = source.load()
    assert np.array_equal(case.hu, scan())
    assert np.array_equal(case.truth, canonical_truth())
    assert case.spacing_mm == pytest.approx((5.0, 0.8, 0.8))


def test_nifti_with_other_axes_lands_on_the_canonical_grid(tmp_path: Path) -> None:
    sagittal = affine_of()[:, [2, 0, 1, 3]]
    ct = write_nifti(tmp_path / "ct.nii", scan().transpose(2, 0, 1), sagittal)
    seg = write_nifti(tmp_path / "seg.nii", truth_labels().transpose(2, 0, 1), sagittal)
    (source,) = find_cases([ct, seg])
    case = source.load()
    assert np.array_equal(case.hu, scan())
    assert np.array_equal(case.truth, canonical_truth())


def test_numbered_pairs_on_one_grid_are_told_apart(tmp_path: Path) -> None:
    for number in (0, 1):
        write_nifti(tmp_path / f"volume-{number}.nii", scan(), affine_of())
        labels = np.where(truth_labels() > number + 1, 0, truth_labels()).astype(np.uint8)
        write_nifti(tmp_path / f"segmentation-{number}.nii", labels, affine_of())
    assert [source.load().lesions for source in find_cases([tmp_path])] == [(), (2,)]


def test_images_and_labels_in_sibling_folders_are_paired(tmp_path: Path) -> None:
    write_nifti(tmp_path / "imagesTr" / "liver_1_0000.nii.gz", scan(), affine_of())
    write_nifti(tmp_path / "labelsTr" / "liver_1.nii.gz", truth_labels(), affine_of())
    assert [source.load().lesions for source in find_cases([tmp_path])] == [(2, 3)]


HABITS = {
    "letters": [("a_ct", "a_seg"), ("b_ct", "b_seg")],
    "LiTS": [("volume-1", "segmentation-1"), ("volume-10", "segmentation-10")],
    "Decathlon": [("imagesTr/liver_1", "labelsTr/liver_1"), ("imagesTr/liver_10", "labelsTr/liver_10")],
    "nnU-Net": [("imagesTs/x_001_0000", "labelsTs/x_001"), ("imagesTs/x_002_0000", "labelsTs/x_002")],
    "a folder for each case": [("case 1/ct", "case 1/liver"), ("case 2/ct", "case 2/liver")],
    "a folder for each structure": [("s1/ct", "s1/segmentations/liver"), ("s2/ct", "s2/segmentations/liver")],
    "numbers without a separator": [("img0001", "label0001"), ("img0002", "label0002")],
    "one name in two folders": [("images/ct_1", "masks/ct_1"), ("images/ct_2", "masks/ct_2")],
    "role first": [("CT_Smith", "GT_Smith"), ("CT_Smith_2", "GT_Smith_2")],
    "equal numbers": [("north_1_ct", "north_1_seg"), ("south_1_ct", "south_1_seg")],
    "imaging": [("case_00000/imaging", "case_00000/segmentation"), ("case_1/imaging", "case_1/segmentation")],
}


def write_pair(folder: Path, ct: str, seg: str, *, lesions: bool = True) -> None:
    labels = truth_labels() if lesions else np.minimum(truth_labels(), 1)
    write_nifti(folder / f"{ct}.nii.gz", scan(), affine_of())
    write_nifti(folder / f"{seg}.nii.gz", labels, affine_of())


@pytest.mark.parametrize("habit", HABITS)
def test_names_pair_files_that_share_one_grid(tmp_path: Path, habit: str) -> None:
    (first, second) = HABITS[habit]
    write_pair(tmp_path, *first)
    write_pair(tmp_path, *second, lesions=False)
    found = {str(case.ct.relative_to(tmp_path)).split(".")[0]: case for case in find_cases([tmp_path])}
    assert {ct: case.load().lesions for ct, case in found.items()} == {first[0]: (2, 3), second[0]: ()}
    assert len({case.name for case in found.values()}) == 2


def test_pairs_are_found_whatever_is_named_of_them(tmp_path: Path) -> None:
    for letter in "ab":
        write_pair(tmp_path, f"{letter}_ct", f"{letter}_seg", lesions=letter == "a")
    cts = [tmp_path / f"{letter}_ct.nii.gz" for letter in "ab"]
    segs = [tmp_path / f"{letter}_seg.nii.gz" for letter in "ab"]
    assert [source.load().lesions for source in find_cases(cts[1:])] == [()]
    assert [source.load().lesions for source in find_cases([*segs, *cts])] == [(2, 3), ()]


def test_a_ct_in_a_folder_of_its_own_is_named_by_the_folder(tmp_path: Path) -> None:
    write_pair(tmp_path, "case 1/ct", "case 1/liver")
    write_pair(tmp_path, "case 2/ct", "case 2/liver")
    assert [source.name for source in find_cases([tmp_path])] == ["case 1", "case 2"]


def test_a_ct_without_labels_does_not_get_those_of_another(tmp_path: Path) -> None:
    write_pair(tmp_path, "a_ct", "a_seg")
    write_nifti(tmp_path / "b_ct.nii.gz", scan(), affine_of())
    assert [source.name for source in find_cases([tmp_path])] == ["a_ct"]


def test_files_that_an_archive_of_macos_adds_are_no_volumes(tmp_path: Path) -> None:
    write_pair(tmp_path, "imagesTr/liver_1", "labelsTr/liver_1")
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder / "._liver_1.nii.gz").write_bytes(b"resource fork")
    assert [source.name for source in find_cases([tmp_path])] == ["liver_1"]


def test_a_pair_by_name_off_the_grid_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a_ct.nii.gz", scan(), affine_of())
    write_nifti(tmp_path / "a_seg.nii.gz", truth_labels()[:-1], affine_of())
    with pytest.raises(InputError) as refused:
        find_cases([tmp_path])[0].load()
    assert refused.value.code == "truth-grid"


@pytest.mark.parametrize(
    ("cts", "labels"),
    [
        (["a_ct"], ["a_seg", "a_mask"]),
        (["a_ct"], ["a_seg_north", "a_seg_south"]),
        (["ct"], ["reader_seg", "student_seg"]),
        (["a_ct", "b_ct"], ["seg"]),
        (["a_arterial_ct", "a_portal_ct"], ["a_seg"]),
        (["a_ct", "b_ct"], ["a_seg", "c_seg"]),
        (["ct_1", "ct_01"], ["seg_1"]),
        (["images/a"], ["labels/a", "masks/a"]),
    ],
)
def test_what_names_and_grid_cannot_tell_is_refused(
    tmp_path: Path, cts: list[str], labels: list[str]
) -> None:
    for name in cts:
        write_nifti(tmp_path / f"{name}.nii.gz", scan(), affine_of())
    for name in labels:
        write_nifti(tmp_path / f"{name}.nii.gz", truth_labels(), affine_of())
    with pytest.raises(InputError) as refused:
        find_cases([tmp_path])
    assert refused.value.code == "truth-ambiguous"


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (lambda folder: None, "no-case-found"),
        (lambda folder: write_ct_series(folder / "ct", scan(), affine_of()), "no-case-found"),
        (lambda folder: (folder / "notes.txt").write_text("nothing"), "no-case-found"),
    ],
)
def test_a_folder_without_truth_says_what_is_expected(
    tmp_path: Path, write: Callable[..., Any], code: str
) -> None:
    write(tmp_path)
    with pytest.raises(InputError) as refused:
        find_cases([tmp_path])
    assert refused.value.code == code
    assert "--masks" in refused.value.remedy


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        find_cases([tmp_path / "absent"])
    assert refused.value.code == "no-such-path"


def test_a_segmentation_is_not_taken_for_a_ct(tmp_path: Path) -> None:
    ct = write_nifti(tmp_path / "ct.nii", np.abs(scan()), affine_of())
    seg = write_nifti(tmp_path / "seg.nii", truth_labels(), affine_of())
    (source,) = find_cases([ct], seg)
    with pytest.raises(InputError) as refused:
        source.load()
    assert refused.value.code == "nifti-not-ct"


def test_real_cases_are_found_by_themselves(ct_dir: Path) -> None:
    pytest.importorskip("nibabel")
    names = [source.name for source in find_cases([ct_dir / "ircadb01_p17"])]
    assert names == ["ircadb01_p17"]
    (source,) = find_cases([ct_dir / "totalsegmentator_example" / "example_ct.nii.gz"])
    case = source.load()
    assert (case.truth > 0).sum() * np.prod(case.spacing_mm) / 1000 == pytest.approx(1123.3, abs=0.1)
    # the liver lies on the patient's right, which is where x is small on the canonical grid
    assert np.argwhere(case.truth > 0)[:, 2].mean() < case.hu.shape[2] / 2
