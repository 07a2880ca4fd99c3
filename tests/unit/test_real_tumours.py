"""Real tumours as training data of the outliner: crops by the headers, and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_config.errors import InputError
from tests.support import real_pairs
from workers.research.training.geometries import GeometryCache
from workers.research.training.outlines import OutlineBatches
from workers.research.training.real_cases import RealCases
from workers.research.training.real_tumours import RealTumours, cut_out
from workers.research.training.sampling.outline_prompts import SHAPE, OutlineSample
from workers.research.training.sampling.real_outlines import draw_real_outline_sample

pytest.importorskip("nibabel")
TUMOUR_ML = 4 / 3 * np.pi * 1.2**3


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> RealTumours:
    folder = tmp_path_factory.mktemp("pairs")
    real_pairs.write_two_pairs(folder)
    found = RealTumours(RealCases(folder, tmp_path_factory.mktemp("cache")))
    found.fill()
    return found


@pytest.fixture(scope="module")
def samples(tumours: RealTumours) -> list[OutlineSample]:
    return [draw_real_outline_sample(tumours, np.random.default_rng(seed)) for seed in range(16)]


def test_a_tumour_is_cut_out_on_the_scans_own_voxels(tumours: RealTumours) -> None:
    for name in tumours.names:
        (tumour,) = cut_out(tumours.cases.folder, name)
        assert tumour.spacing_mm == pytest.approx(real_pairs.SPACING_MM)
        volume = tumour.inside.sum() * np.prod(tumour.spacing_mm) / 1000
        assert volume == pytest.approx(TUMOUR_ML, rel=0.1)
        assert abs(tumour.hu[tumour.inside].mean() - real_pairs.TUMOUR_HU) < 3
        assert abs(tumour.liver_hu - real_pairs.LIVER_HU) < 1.5


def test_the_cache_gives_back_what_was_cut_out(tumours: RealTumours) -> None:
    drawn = tumours.draw(np.random.default_rng(0))
    whole = [cut_out(tumours.cases.folder, name)[0] for name in tumours.names]
    assert any(np.array_equal(drawn.hu, tumour.hu) for tumour in whole)
    assert drawn.inside.dtype == bool


def test_a_sample_shows_the_tumour_dark_in_its_box(samples: list[OutlineSample]) -> None:
    for sample in samples:
        assert sample.channels.shape == (8, *SHAPE)
        inside, box, shown = sample.truth > 0.5, sample.channels[4] > 0, sample.counts > 0
        assert np.isfinite(sample.channels).all()
        assert not inside[~shown].any()
        assert (inside & box).sum() > 0.6 * inside.sum()
        around = box & shown & ~inside
        assert sample.channels[1][inside].mean() < sample.channels[1][around].mean() - 0.1


def test_samples_keep_the_tumours_volume_within_their_scale(samples: list[OutlineSample]) -> None:
    for sample in samples:
        cell, step = np.exp(sample.channels[6][0, 0, 0]) * 1.2, np.exp(sample.channels[7][0, 0, 0]) * 2.5
        volume = float((sample.truth > 0.5).sum() * cell**2 * step) / 1000
        assert 0.7 * 0.75**3 * TUMOUR_ML < volume < 1.3 * 1.33**3 * TUMOUR_ML


def test_the_same_generator_gives_the_same_sample(tumours: RealTumours) -> None:
    ours, theirs = (draw_real_outline_sample(tumours, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(ours.channels, theirs.channels)
    assert np.array_equal(ours.truth, theirs.truth)


def test_a_share_of_the_batches_is_real(tumours: RealTumours, tmp_path: Path) -> None:
    cache = GeometryCache(tmp_path, 1)
    cache.fill()
    for share, real in ((1.0, True), (0.0, False)):
        channels, _, _ = OutlineBatches(cache, 0, 1, tumours, share)[0]
        rng = np.random.default_rng([0, 0, 0])
        rng.random()
        same = np.array_equal(channels[0], draw_real_outline_sample(tumours, rng).channels)
        assert same is real


def test_masks_without_tumours_are_refused(tmp_path: Path) -> None:
    import nibabel

    affine = np.diag([-2.5, -3.0, 4.0, 1.0])
    liver = (real_pairs.labels() > 0).astype(np.uint8).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(liver.astype(np.int16) * 100, affine), tmp_path / "a_ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(liver, affine), tmp_path / "a_seg.nii.gz")
    with pytest.raises(InputError) as caught:
        RealTumours(RealCases(tmp_path, tmp_path / "cache")).fill()
    assert caught.value.code == "training-tumours-missing"
