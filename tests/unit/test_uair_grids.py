"""Crops: what a model sees is where it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.synthetic import ball
from workers.uair.grids import Box, Crop, bounding_box, plan_crop, resampled, sampling_matrix

SPACING = (2.0, 0.8, 0.9)
SHAPE = (40, 120, 110)


def crop_around(centre_mm: Sequence[float], side_mm: float = 60.0, **changes: Any) -> Crop:
    _, y, x = centre_mm
    values = {
        "centre": (y / SPACING[1], x / SPACING[2]),
        "side_mm": side_mm,
        "slices": tuple(range(5, 35, 2)),
        "spacing": SPACING,
        "shape": SHAPE,
        "pixels": 128,
        "cells": 32,
    }
    return Crop(**{**values, **changes})


def test_bounding_box_is_half_open() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 2, 4:7] = True
    assert bounding_box(mask) == Box((1.0, 2.0, 4.0), (3.0, 3.0, 7.0))
    assert bounding_box(np.zeros((2, 2, 2), bool)) is None


def test_a_box_grows_in_mm_and_stays_in_the_volume() -> None:
    box = Box((1.0, 10.0, 10.0), (5.0, 20.0, 30.0)).extended((4.0, 8.0, 9.0), SPACING, SHAPE)
    assert box.start == pytest.approx((0.0, 0.0, 0.0))
    assert box.stop == pytest.approx((7.0, 30.0, 40.0))
    assert box.size_mm(SPACING) == pytest.approx((14.0, 24.0, 36.0))


@pytest.mark.parametrize("cells", [7, 50, 300])
def test_resampling_keeps_a_constant_and_a_ramp(cells: int) -> None:
    matrix = sampling_matrix(50, np.linspace(0.0, 50.0, cells + 1))
    np.testing.assert_allclose(matrix @ np.ones(50), 1.0, rtol=1e-5)
    centres = (np.arange(cells) + 0.5) * 50.0 / cells
    inner = (centres > 8) & (centres < 42)
    np.testing.assert_allclose((matrix @ (np.arange(50) + 0.5))[inner], centres[inner], atol=0.02)


def test_outside_the_volume_is_air() -> None:
    crop = crop_around((40.0, 0.0, 0.0))
    own, _ = crop.images(np.full(SHAPE, 50, np.int16), 3.0)
    assert own.shape == (15, 128, 128)
    np.testing.assert_allclose(own[:, :60, :60], -1000.0)
    np.testing.assert_allclose(own[:, 70:, 70:], 50.0, atol=1e-2)


def test_neighbours_are_the_slices_above_and_below() -> None:
    hu = np.repeat(np.arange(SHAPE[0], dtype=np.int16)[:, None, None] ** 2, SHAPE[1], axis=1)
    hu = np.repeat(hu, SHAPE[2], axis=2)
    crop = crop_around((40.0, 48.0, 50.0), side_mm=30.0)
    own, neighbours = crop.images(hu, 3.9)  # two slices of 2 mm
    z = np.array(crop.slices)
    np.testing.assert_allclose(own[:, 64, 64], z**2, rtol=1e-4)
    np.testing.assert_allclose(neighbours[:, 64, 64], ((z - 2) ** 2 + (z + 2) ** 2) / 2.0, rtol=1e-4)


def test_logits_return_to_the_place_they_were_cut_from() -> None:
    truth = ball(SHAPE, SPACING, (40.0, 46.0, 52.0), (16.0, 18.0, 15.0))
    crop = crop_around((40.0, 46.0, 52.0))
    images, _ = crop.images(np.where(truth, 100, -100).astype(np.int16), 3.0)
    region, logits = crop.to_volume(crop.cell_means(images))
    back = np.zeros(SHAPE, bool)
    back[region] = logits > 0
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.95
    centre_back, centre_truth = np.argwhere(back).mean(axis=0), np.argwhere(truth).mean(axis=0)
    np.testing.assert_allclose(centre_back, centre_truth, atol=0.3)


@pytest.mark.parametrize("where", ["middle", "edge", "nowhere", "everywhere"])
def test_the_positive_part_holds_every_positive_voxel(where: str) -> None:
    crop = crop_around((40.0, 46.0, 52.0))
    logits = np.random.default_rng(0).normal(-9.0, 1.0, crop.stack_shape).astype(np.float32)
    part = {
        "middle": np.s_[4:9, 20:31, 25:40],
        "edge": np.s_[:3, 50:, :7],
        "nowhere": np.s_[:0],
        "everywhere": np.s_[:],
    }
    logits[part[where]] += 12.0
    region, whole = crop.to_volume(logits)
    expected = np.zeros(SHAPE, bool)
    expected[region] = whole > 0
    part_region, values = crop.positive_part(logits)
    found = np.zeros(SHAPE, bool)
    found[part_region] = values > 0
    np.testing.assert_array_equal(found, expected)
    if where == "middle":
        assert values.size < 0.2 * whole.size


def test_pixels_and_volume_agree_about_a_corner() -> None:
    crop = crop_around((40.0, 48.0, 54.0))
    half_y, half_x = 30.0 / SPACING[1], 30.0 / SPACING[2]
    assert crop.to_pixels(60.0 - half_y, 60.0 + half_x) == pytest.approx((0.0, 128.0))


def test_a_mask_moves_between_crops() -> None:
    truth = ball(SHAPE, SPACING, (40.0, 46.0, 52.0), (16.0, 14.0, 14.0))
    wide, narrow = crop_around((40.0, 46.0, 52.0), 90.0), crop_around((40.0, 50.0, 56.0), 50.0)
    images = {crop: crop.images(np.where(truth, 100, -100), 3.0)[0] for crop in (wide, narrow)}
    moved = wide.mask_on(wide.cell_means(images[wide]) > 0, narrow)
    own = narrow.cell_means(images[narrow]) > 0
    assert 2 * (moved & own).sum() / (moved.sum() + own.sum()) > 0.93


def test_cells_beyond_a_crop_get_the_outside_value() -> None:
    crop = crop_around((40.0, 46.0, 52.0), 40.0)
    z, y, x = np.array([20.5, 39.5]), np.array([46.0 / 0.8, 110.0]), np.array([52.0 / 0.9, 1.0])
    values = crop.sampled(np.ones(crop.stack_shape), z, y, x, outside=-7.0)
    assert values[0, 0, 0] == pytest.approx(1.0)
    assert (values[1] == -7.0).all()
    assert values[0, 1, 0] == -7.0
    assert values[0, 0, 1] == -7.0


def test_a_plan_holds_the_box_and_respects_the_least_side() -> None:
    box = Box((10.0, 50.0, 50.0), (20.0, 60.0, 55.0))
    sizes = {"pixels": 128, "cells": 32, "margin": 2.0, "min_side_mm": 50.0, "step_mm": 4.0}
    crop = plan_crop(box, SPACING, SHAPE, **sizes)
    assert crop.side_mm == 50.0
    assert crop.slices == (10, 12, 14, 16, 18)
    assert crop.centre == (55.0, 52.5)
    whole = plan_crop(box, SPACING, SHAPE, whole_slice=True, **sizes)
    assert whole.side_mm == pytest.approx(110 * 0.9)


def test_resampling_a_plane_is_separable() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 30)).astype(np.float32)
    y, x = (sampling_matrix(n, np.linspace(2.0, n - 2.0, 9)) for n in plane.shape)
    np.testing.assert_allclose(
        resampled(y, plane, x), y.toarray() @ plane @ x.toarray().T, rtol=1e-4, atol=1e-5
    )
