"""Real CTs as training data: files become cases by their headers, and samples of the lesion finder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from dicom_config.errors import InputError
from tests.support import real_pairs
from workers.models.lesion_net import LESION, LIVER
from workers.research.training.geometries import GeometryCache
from workers.research.training.lesions import LesionBatches
from workers.research.training.real_cases import STEP_MM, TUMOUR, RealCases, read_pair
from workers.research.training.sampling.lesion_samples import (
    EXACT_HU,
    SHAPE,
    LesionSample,
    clipped_now_and_then,
)
from workers.research.training.sampling.real_lesions import draw_real_sample
from workers.research.training.sampling.transplants import transplant

pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> RealCases:
    folder = tmp_path_factory.mktemp("pairs")
    real_pairs.write_two_pairs(folder)
    real_pairs.write_pair(folder, "b_whole")
    (folder / "lonely_ct.nii.gz").write_bytes(b"")
    found = RealCases(folder, tmp_path_factory.mktemp("cache"))
    found.fill()
    return found


@pytest.fixture(scope="module")
def samples(cases: RealCases) -> list[LesionSample]:
    return [draw_real_sample(cases, np.random.default_rng(seed)) for seed in range(24)]


def test_pairs_are_found_by_name_and_whole_scans_are_left_out(cases: RealCases) -> None:
    assert cases.names == ("a", "b")


def test_a_case_lies_on_the_training_grid_whatever_its_files_count_backwards(cases: RealCases) -> None:
    first, second = cases.case(0), cases.case(1)
    extent = [n * s / STEP_MM for n, s in zip(real_pairs.SHAPE, real_pairs.SPACING_MM, strict=True)]
    assert first.hu.shape == tuple(int(np.ceil(n)) for n in extent) == first.labels.shape
    assert (first.labels == second.labels).mean() > 0.998
    assert abs(first.liver_hu - real_pairs.LIVER_HU) < 1.5
    volume = (first.labels == TUMOUR).sum() * STEP_MM**3 / 1000
    assert volume == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.1)


def test_the_liver_lies_on_the_patients_right(cases: RealCases) -> None:
    columns = (cases.case(1).labels > 0).sum(axis=(0, 1))
    assert (np.arange(len(columns)) @ columns / columns.sum()) < len(columns) / 2 - 3


def test_filling_a_full_cache_reads_nothing(cases: RealCases) -> None:
    heard = []
    cases.fill(lambda *event: heard.append(event))
    assert heard == []


def test_a_mirrored_header_is_refused(tmp_path: Path) -> None:
    real_pairs.write_pair(tmp_path, "turned", mirrored=True)
    with pytest.raises(InputError) as refused:
        read_pair(tmp_path, "turned")
    assert refused.value.code == "training-case-mirrored"


def test_other_label_values_are_refused(tmp_path: Path) -> None:
    import nibabel

    real_pairs.write_pair(tmp_path, "odd")
    path = tmp_path / "odd_seg.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj) * 2
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    with pytest.raises(InputError) as refused:
        read_pair(tmp_path, "odd")
    assert refused.value.code == "training-case-labels"


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    import nibabel

    real_pairs.write_pair(tmp_path, "odd")
    path = tmp_path / "odd_seg.nii.gz"
    values = np.asarray(nibabel.load(path).dataobj)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.5, -3.0, 5.0, 1.0])), path)
    with pytest.raises(InputError) as refused:
        read_pair(tmp_path, "odd")
    assert refused.value.code == "training-case-grid"


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        RealCases(tmp_path, tmp_path).fill()
    assert refused.value.code == "training-cases-missing"


def test_samples_hold_what_the_network_takes_and_lesions_lie_in_the_liver(
    samples: list[LesionSample],
) -> None:
    for sample in samples:
        assert sample.channels.shape == (5, *SHAPE)
        assert sample.channels.dtype == np.float32
        assert np.isfinite(sample.channels).all()
        assert np.abs(sample.channels).max() <= 4
        assert sample.masks[LIVER].sum() > 1000
        assert not (sample.masks[LESION] > sample.masks[LIVER]).any()


def test_samples_keep_the_side_of_the_liver(samples: list[LesionSample]) -> None:
    """The liver tapers to the left in every sample: the greater half of its box lies on the right."""
    for sample in samples:
        columns = np.flatnonzero(sample.masks[LIVER].any(axis=(0, 1)))
        if columns[0] == 0 or columns[-1] == SHAPE[2] - 1:
            continue
        middle = (columns[0] + columns[-1] + 1) // 2
        assert sample.masks[LIVER][..., :middle].sum() > sample.masks[LIVER][..., middle:].sum()


def test_some_samples_have_lesions_that_grew_or_came_from_another_patient(
    samples: list[LesionSample],
) -> None:
    counts = [ndimage.label(sample.masks[LESION])[1] for sample in samples]
    assert min(counts) <= 1
    assert sum(count > 1 for count in counts) > 6


def test_the_same_generator_gives_the_same_sample(cases: RealCases) -> None:
    first, second = (draw_real_sample(cases, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.channels, second.channels)
    assert np.array_equal(first.masks, second.masks)


def test_a_transplanted_tumour_is_as_dark_in_its_new_liver(cases: RealCases) -> None:
    donor = cases.case(0)
    hu = np.full(SHAPE, 90.0, np.float32)
    liver, tumour = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    ((window, inside),) = transplant(donor, hu, 90.0, liver, tumour, np.random.default_rng(1))
    core = ndimage.binary_erosion(inside, iterations=2)
    assert np.median(hu[window][core]) == pytest.approx(
        90 + real_pairs.TUMOUR_HU - real_pairs.LIVER_HU, abs=4
    )
    changed = np.zeros(SHAPE, bool)
    changed[window] = True
    assert (hu[~changed] == 90).all()


def test_nothing_is_transplanted_where_there_is_no_liver(cases: RealCases) -> None:
    hu = np.zeros(SHAPE, np.float32)
    nowhere = np.zeros(SHAPE, bool)
    assert not list(transplant(cases.case(0), hu, 90.0, nowhere, nowhere, np.random.default_rng(1)))
    assert not hu.any()


def test_clipping_leaves_the_window_that_every_source_shows_truly() -> None:
    hu = np.linspace(-900, 900, 50, dtype=np.float32)
    assert np.array_equal(clipped_now_and_then(hu, np.random.default_rng(0), 1.0), np.clip(hu, *EXACT_HU))
    assert clipped_now_and_then(hu, np.random.default_rng(0), 0.0) is hu


def test_a_share_of_the_batches_is_real(cases: RealCases, tmp_path: Path) -> None:
    cache = GeometryCache(tmp_path, 1)
    cache.fill()
    for share, real in ((1.0, True), (0.0, False)):
        channels, _, _ = LesionBatches(cache, 0, 1, cases, share)[0]
        rng = np.random.default_rng([0, 0, 0])
        rng.random()
        same = np.array_equal(channels[0], draw_real_sample(cases, rng).channels)
        assert same is real
