"""Phantoms: truth, orientation, densities and reproducibility."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from workers.training.phantoms import LesionKind, Phantom, Phase, make_phantom
from workers.training.phantoms.fields import Grid, smooth_field, solid
from workers.training.phantoms.geometry import Geometry, build_geometry
from workers.training.phantoms.lesions import LesionPlan
from workers.training.phantoms.tissues import Tissue

SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def phantoms() -> dict[int, Phantom]:
    return {seed: make_phantom(seed, size="small") for seed in SEEDS}


def test_small_phantom_has_the_promised_shape_and_types(phantoms):
    phantom = phantoms[0]
    assert phantom.hu.shape == phantom.labels.shape == (40, 128, 128)
    assert phantom.hu.dtype == np.int16
    assert phantom.labels.dtype == np.uint8
    assert phantom.spacing_mm == (5.0, 3.0, 3.0)


def test_same_seed_gives_the_same_phantom_and_another_seed_another(phantoms):
    again = make_phantom(0, size="small")
    assert np.array_equal(again.hu, phantoms[0].hu)
    assert np.array_equal(again.labels, phantoms[0].labels)
    assert again.meta == phantoms[0].meta
    assert not np.array_equal(phantoms[1].labels, phantoms[0].labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_liver_is_one_organ_of_human_size_on_the_patients_right(phantoms, seed):
    phantom = phantoms[seed]
    liver = phantom.labels > 0
    assert 700 < phantom.meta.liver_ml < 2700
    heights = np.flatnonzero(liver.any(axis=(1, 2)))
    assert (heights[-1] - heights[0] + 1) * phantom.spacing_mm[0] >= 60
    # patient left grows with the index of axis 2: most of the liver lies in the lower half
    assert liver[:, :, :64].sum() > 1.5 * liver[:, :, 64:].sum()
    parts, count = ndi.label(liver, np.ones((3, 3, 3)))
    assert np.bincount(parts.ravel())[1:].max() > 0.98 * liver.sum(), count


@pytest.mark.parametrize("seed", SEEDS)
def test_axes_are_superior_posterior_left(phantoms, seed):
    hu = phantoms[seed].hu.astype(np.float32)
    inside = ndi.binary_fill_holes((hu > -300).any(axis=0))
    lung = (hu < -600) & inside
    assert lung[-8:].sum() > 4 * lung[:8].sum(), "lungs are at the superior end"
    spine = (hu > 200)[:, :, 54:74]
    assert spine[:, 64:].sum() > 3 * spine[:, :64].sum(), "the spine is posterior"


@pytest.mark.parametrize("seed", SEEDS)
def test_record_agrees_with_the_labels(phantoms, seed):
    phantom = phantoms[seed]
    voxel_ml = np.prod(phantom.spacing_mm) / 1000
    assert phantom.meta.liver_ml == pytest.approx((phantom.labels > 0).sum() * voxel_ml)
    assert phantom.labels.max() == 1 + len(phantom.meta.lesions) >= 2
    for lesion in phantom.meta.lesions:
        assert lesion.volume_ml == pytest.approx((phantom.labels == 1 + lesion.number).sum() * voxel_ml)
        assert lesion.volume_ml > 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_show_the_contrast_that_the_record_states(phantoms, seed):
    phantom = phantoms[seed]
    parenchyma = np.median(phantom.hu[phantom.labels == 1])
    for lesion in phantom.meta.lesions:
        middle = ndi.binary_erosion(phantom.labels == 1 + lesion.number)
        seen = np.median(phantom.hu[middle]) - parenchyma
        assert np.sign(seen) == np.sign(lesion.contrast_hu)
        assert abs(seen) > 0.3 * abs(lesion.contrast_hu)


def test_several_lesions_differ_in_kind():
    phantom = make_phantom(7, size="small", lesions=4)
    kinds = [lesion.kind for lesion in phantom.meta.lesions]
    assert len(set(kinds)) == len(kinds) >= 3
    assert {LesionKind.HYPO, LesionKind.HYPER} <= set(kinds)


def test_no_lesions_when_none_are_asked_for():
    phantom = make_phantom(7, size="small", lesions=0)
    assert phantom.meta.lesions == ()
    assert set(np.unique(phantom.labels)) == {0, 1}


def test_arterial_aorta_is_brighter_than_native_one():
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(0))
    aorta = ndi.binary_erosion(geometry.tissue == Tissue.AORTA)
    bright = make_phantom(5, size="small", lesions=0, phase=Phase.ARTERIAL).hu[aorta]
    plain = make_phantom(5, size="small", lesions=0, phase=Phase.NATIVE).hu[aorta]
    assert np.median(bright) > np.median(plain) + 80


def test_noise_is_correlated_within_a_slice(phantoms):
    phantom = phantoms[0]
    deep = ndi.binary_erosion(phantom.labels == 1, iterations=4)
    values = np.where(deep, phantom.hu - np.median(phantom.hu[deep]), 0).astype(np.float64)
    pairs = deep[:, :, 1:] & deep[:, :, :-1]
    right, left = values[:, :, 1:][pairs], values[:, :, :-1][pairs]
    assert np.corrcoef(right, left)[0, 1] > 0.1
    assert values[deep].std() > 3


def test_geometry_survives_saving(tmp_path):
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(2, min_radius=10))
    geometry.save(tmp_path / "g.npz")
    loaded = Geometry.load(tmp_path / "g.npz")
    assert np.array_equal(loaded.labels(), geometry.labels())
    assert loaded.spacing_mm == geometry.spacing_mm
    assert loaded.lesions.count == geometry.lesions.count
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


def test_lesion_mask_shrinks_with_the_margin():
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(1, min_radius=15))
    sizes = [geometry.lesion(1, margin).sum() for margin in (-2.0, 0.0, 2.0)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_smooth_field_has_the_amplitude_asked_for():
    field = smooth_field(np.random.default_rng(0), (60, 60, 60), (1.0, 1.0, 1.0), 6.0, 5.0)
    assert field.std() == pytest.approx(5.0, rel=0.1)
    step = np.diff(field, axis=2).std()
    assert step < 0.35 * field.std()


def test_solid_is_one_on_its_surface_and_turns():
    z, y, x = (np.array(v, np.float32) for v in (0.0, 0.0, 10.0))
    assert solid(z, y, x, (0, 0, 0), (5, 20, 10)) == pytest.approx(1.0)
    assert solid(z, y, x, (0, 0, 0), (5, 20, 10), turn=np.pi / 2) == pytest.approx(0.5)


def test_window_covers_the_ball_and_is_never_empty():
    grid = Grid((10, 20, 20), (5.0, 2.0, 2.0))
    window = grid.window((25.0, 0.0, 0.0), (5.0, 4.0, 4.0))
    near = (np.abs(grid.z - 25) <= 5) & (np.abs(grid.y) <= 4) & (np.abs(grid.x) <= 4)
    assert near[window].sum() == near.sum()
    outside = grid.window((-900.0, 900.0, 0.0), (1.0, 1.0, 1.0))
    assert all(part.stop > part.start for part in outside)
