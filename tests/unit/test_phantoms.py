"""Phantoms: truth, orientation, densities and reproducibility."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from workers.phantoms import TEST, TRAINING, LesionKind, Phantom, Phase, make_phantom
from workers.phantoms.appearance import Scan, correlated_noise
from workers.phantoms.fields import Grid, smooth_field, solid
from workers.phantoms.geometry import Geometry, build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.phantoms.looks import LesionLook, draw_look
from workers.phantoms.tissues import Tissue

SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def phantoms() -> dict[int, Phantom]:
    return {seed: make_phantom(seed, size="small") for seed in SEEDS}


def test_small_phantom_has_the_promised_shape_and_types(phantoms: dict[int, Phantom]) -> None:
    phantom = phantoms[0]
    assert phantom.hu.shape == phantom.labels.shape == (40, 128, 128)
    assert phantom.hu.dtype == np.int16
    assert phantom.labels.dtype == np.uint8
    assert phantom.spacing_mm == (5.0, 3.0, 3.0)


def test_same_seed_gives_the_same_phantom_and_another_seed_another(phantoms: dict[int, Phantom]) -> None:
    again = make_phantom(0, size="small")
    assert np.array_equal(again.hu, phantoms[0].hu)
    assert np.array_equal(again.labels, phantoms[0].labels)
    assert again.meta == phantoms[0].meta
    assert not np.array_equal(phantoms[1].labels, phantoms[0].labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_liver_is_one_organ_of_human_size_on_the_patients_right(
    phantoms: dict[int, Phantom], seed: int
) -> None:
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
def test_axes_are_superior_posterior_left(phantoms: dict[int, Phantom], seed: int) -> None:
    hu = phantoms[seed].hu.astype(np.float32)
    inside = ndi.binary_fill_holes((hu > -300).any(axis=0))
    lung = (hu < -600) & inside
    assert lung[-8:].sum() > 4 * lung[:8].sum(), "lungs are at the superior end"
    spine = (hu > 200)[:, :, 54:74]
    assert spine[:, 64:].sum() > 3 * spine[:, :64].sum(), "the spine is posterior"


@pytest.mark.parametrize("seed", SEEDS)
def test_record_agrees_with_the_labels(phantoms: dict[int, Phantom], seed: int) -> None:
    phantom = phantoms[seed]
    voxel_ml = np.prod(phantom.spacing_mm) / 1000
    assert phantom.meta.liver_ml == pytest.approx((phantom.labels > 0).sum() * voxel_ml)
    assert phantom.labels.max() == 1 + len(phantom.meta.lesions) >= 2
    for lesion in phantom.meta.lesions:
        assert lesion.volume_ml == pytest.approx((phantom.labels == 1 + lesion.number).sum() * voxel_ml)
        assert lesion.volume_ml > 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_show_the_contrast_that_the_record_states(phantoms: dict[int, Phantom], seed: int) -> None:
    phantom = phantoms[seed]
    parenchyma = np.median(phantom.hu[phantom.labels == 1])
    for lesion in phantom.meta.lesions:
        middle = ndi.binary_erosion(phantom.labels == 1 + lesion.number)
        seen = np.median(phantom.hu[middle]) - parenchyma
        assert np.sign(seen) == np.sign(lesion.contrast_hu)
        assert abs(seen) > 0.3 * abs(lesion.contrast_hu)


def test_several_lesions_differ_in_kind() -> None:
    phantom = make_phantom(7, size="small", lesions=4)
    kinds = [lesion.kind for lesion in phantom.meta.lesions]
    assert len(set(kinds)) == len(kinds) >= 3
    assert {LesionKind.HYPO, LesionKind.HYPER} <= set(kinds)


def test_no_lesions_when_none_are_asked_for() -> None:
    phantom = make_phantom(7, size="small", lesions=0)
    assert phantom.meta.lesions == ()
    assert set(np.unique(phantom.labels)) == {0, 1}


def test_arterial_aorta_is_brighter_than_native_one() -> None:
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(0))
    aorta = ndi.binary_erosion(geometry.tissue == Tissue.AORTA)
    bright = make_phantom(5, size="small", lesions=0, phase=Phase.ARTERIAL).hu[aorta]
    plain = make_phantom(5, size="small", lesions=0, phase=Phase.NATIVE).hu[aorta]
    assert np.median(bright) > np.median(plain) + 80


def test_noise_is_correlated_within_a_slice(phantoms: dict[int, Phantom]) -> None:
    phantom = phantoms[0]
    deep = ndi.binary_erosion(phantom.labels == 1, iterations=4)
    values = np.where(deep, phantom.hu - np.median(phantom.hu[deep]), 0).astype(np.float64)
    pairs = deep[:, :, 1:] & deep[:, :, :-1]
    right, left = values[:, :, 1:][pairs], values[:, :, :-1][pairs]
    assert np.corrcoef(right, left)[0, 1] > 0.1
    assert values[deep].std() > 3


def test_geometry_survives_saving(tmp_path: Path) -> None:
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(2, min_radius=10))
    geometry.save(tmp_path / "g.npz")
    loaded = Geometry.load(tmp_path / "g.npz")
    assert np.array_equal(loaded.labels(), geometry.labels())
    assert loaded.spacing_mm == geometry.spacing_mm
    assert loaded.lesions.count == geometry.lesions.count
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


def test_lesion_mask_shrinks_with_the_margin() -> None:
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(1, min_radius=15))
    sizes = [geometry.lesion(1, margin).sum() for margin in (-2.0, 0.0, 2.0)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_smooth_field_has_the_amplitude_asked_for() -> None:
    field = smooth_field(np.random.default_rng(0), (60, 60, 60), (1.0, 1.0, 1.0), 6.0, 5.0)
    assert field.std() == pytest.approx(5.0, rel=0.1)
    step = np.diff(field, axis=2).std()
    assert step < 0.35 * field.std()


def test_solid_is_one_on_its_surface_and_turns() -> None:
    z, y, x = (np.array(v, np.float32) for v in (0.0, 0.0, 10.0))
    assert solid(z, y, x, (0, 0, 0), (5, 20, 10)) == pytest.approx(1.0)
    assert solid(z, y, x, (0, 0, 0), (5, 20, 10), turn=np.pi / 2) == pytest.approx(0.5)


def test_window_covers_the_ball_and_is_never_empty() -> None:
    grid = Grid((10, 20, 20), (5.0, 2.0, 2.0))
    window = grid.window((25.0, 0.0, 0.0), (5.0, 4.0, 4.0))
    near = (np.abs(grid.z - 25) <= 5) & (np.abs(grid.y) <= 4) & (np.abs(grid.x) <= 4)
    assert near[window].sum() == near.sum()
    outside = grid.window((-900.0, 900.0, 0.0), (1.0, 1.0, 1.0))
    assert all(part.stop > part.start for part in outside)


@pytest.fixture(scope="module")
def varied() -> dict[str, list[Phantom]]:
    settings = (TRAINING, TEST)
    return {
        setting.name: [make_phantom(seed, size="small", setting=setting) for seed in range(40, 46)]
        for setting in settings
    }


def test_a_setting_gives_another_phantom_of_the_same_seed(varied: dict[str, list[Phantom]]) -> None:
    plain, trained, tested = make_phantom(40, size="small"), varied["training"][0], varied["test"][0]
    assert plain.meta != trained.meta != tested.meta
    again = make_phantom(40, size="small", setting=TEST)
    assert np.array_equal(again.hu, tested.hu)
    assert np.array_equal(again.labels, tested.labels)


def test_only_the_test_setting_draws_slice_distances(varied: dict[str, list[Phantom]]) -> None:
    assert {phantom.spacing_mm[0] for phantom in varied["training"]} == {5.0}
    drawn = {phantom.spacing_mm[0] for phantom in varied["test"]}
    assert len(drawn) > 2
    assert drawn <= set(TEST.slice_mm)
    for phantom in varied["test"]:
        assert phantom.hu.shape[0] * phantom.spacing_mm[0] == pytest.approx(200, abs=5)


@pytest.mark.parametrize("name", ["training", "test"])
def test_varied_livers_are_of_human_size_and_hold_their_lesions(
    varied: dict[str, list[Phantom]], name: str
) -> None:
    for phantom in varied[name]:
        assert 450 < phantom.meta.liver_ml < 2900
        assert phantom.labels.max() <= 1 + len(phantom.meta.lesions)


def test_a_tapering_right_lobe_ends_in_a_tip_along_the_wall() -> None:
    grid = Grid((50, 128, 136), (5.0, 3.0, 3.0))
    always = replace(TRAINING, taper=1.0, large=0.0)
    never = replace(always, taper=0.0)
    slimmer = 0
    for seed in range(6):
        widths = []
        for setting in (always, never):
            liver = build_geometry(seed, grid, LesionPlan(0), setting).liver
            heights = np.flatnonzero(liver.any(axis=(1, 2)))
            low = liver[heights[0] : heights[0] + max(1, len(heights) // 4)].any(axis=(0, 1))
            widths.append(low.sum())
        slimmer += widths[0] < widths[1]
    assert slimmer >= 4


def test_a_large_tumour_is_large_and_near_the_surface() -> None:
    grid = Grid((50, 128, 136), (5.0, 3.0, 3.0))
    plan = LesionPlan(1, 2.5, 45.0, large=True)
    for seed in (1, 2, 3):
        geometry = build_geometry(seed, grid, plan, TRAINING)
        tumour = geometry.lesion(1)
        assert tumour.sum() * 0.045 > 15  # ml
        outside = ndi.binary_dilation(tumour, iterations=2) & ~geometry.liver
        assert outside.any()


def test_outlines_are_drawn_with_the_readers_margin() -> None:
    geometry = build_geometry(5, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(2, min_radius=15))
    tight, wide = geometry.labels([1.0, 0.0]), geometry.labels([-2.0, 0.0])
    assert (wide == 2).sum() > (tight == 2).sum() > 0
    assert np.array_equal(wide == 3, tight == 3)
    assert np.array_equal(geometry.labels(), geometry.labels([0.0, 0.0]))


def test_neighbours_can_have_the_density_of_the_liver() -> None:
    alike = replace(TRAINING, like_liver=1.0)
    scan = Scan.draw(np.random.default_rng(0), 0, Phase.ARTERIAL, setting=alike)
    for tissue in (Tissue.HEART, Tissue.SPLEEN, Tissue.STOMACH_CONTENT):
        assert abs(scan.hu[tissue] - scan.hu[Tissue.LIVER]) < 30


def test_sharp_noise_lacks_low_frequencies() -> None:
    rng = np.random.default_rng(0)
    soft, sharp = (correlated_noise(rng, (128, 128), 0.8, ramp) for ramp in (0.0, 0.9))
    slow = [ndi.gaussian_filter(noise, 4.0).std() for noise in (soft, sharp)]
    assert soft.std() == pytest.approx(1, abs=0.05)
    assert sharp.std() == pytest.approx(1, abs=0.05)
    assert slow[1] < 0.5 * slow[0]


def test_necrosis_is_darker_inside_a_tumour_than_at_its_edge() -> None:
    depth = np.array([0.5, 12.0], np.float32)
    wet = np.full(2, 1.0, np.float32)
    look = replace(_look(), core=-20.0, necrosis=-60.0)
    edge, middle = look.contrast(depth, wet, np.zeros(2, np.float32))
    assert middle < -50 < edge


def test_complex_looks_occur_in_the_share_asked_for() -> None:
    setting = replace(TRAINING, complex_look=1.0)
    rng = np.random.default_rng(0)
    kinds = {draw_look(rng, 100.0, 0, number, False, setting).kind for number in range(30)}
    assert kinds == {LesionKind.CAPSULE, LesionKind.NECROTIC, LesionKind.MOSAIC}


def _look() -> LesionLook:
    return replace(draw_look(np.random.default_rng(0), 100.0, 0, 0, True), halo_width=0.0, heterogeneity=0.0)
