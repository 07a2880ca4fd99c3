"""Contours as pixels: edges, holes, islands, and the shape between slices."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from uair_node.dicom.contours import between, fill_plane

SHAPE = (40, 50)


def _square(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (low, high), (high, high), (high, low)])


def _box(low: int, high: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[low : high + 1, low : high + 1] = True
    return mask


def test_centres_in_or_on_a_contour_belong_to_it() -> None:
    between_pixels = fill_plane([_square(4.5, 9.5)], SHAPE, by_parity=False)
    through_centres = fill_plane([_square(5, 9)], SHAPE, by_parity=False)
    rounded = fill_plane([_square(5.004, 8.996)], SHAPE, by_parity=False)
    assert (between_pixels == _box(5, 9)).all()
    assert (through_centres == _box(5, 9)).all()
    assert (rounded == _box(5, 9)).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_polygon_holds_the_same_centres_as_for_another_program(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform(-6, 56, (12, 2))  # it crosses itself, and leaves the image
    ours = fill_plane([points], SHAPE, by_parity=False)
    theirs = polygon2mask(SHAPE, points)
    assert (theirs <= ours).all()
    assert (ours & ~theirs).sum() < 0.02 * theirs.sum(), "centres that an edge runs through"


@pytest.mark.parametrize("by_parity", [False, True])
def test_a_contour_in_a_contour_is_a_hole_and_one_in_it_an_island(by_parity: bool) -> None:
    rings = [_square(8.5, 20.5), _square(2.5, 30.5), _square(11.5, 14.5)]
    expected = _box(3, 30) & ~_box(9, 20) | _box(12, 14)
    assert (fill_plane(rings, SHAPE, by_parity=by_parity) == expected).all()


def test_overlapping_contours_are_joined_and_by_parity_they_are_not() -> None:
    rings = [_square(2.5, 10.5), _square(8.5, 15.5)]
    assert (fill_plane(rings, SHAPE, by_parity=False) == (_box(3, 10) | _box(9, 15))).all()
    assert (fill_plane(rings, SHAPE, by_parity=True) == (_box(3, 10) ^ _box(9, 15))).all()


def test_a_contour_that_is_written_twice_counts_once() -> None:
    assert (fill_plane([_square(2.5, 10.5)] * 2, SHAPE, by_parity=False) == _box(3, 10)).all()


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = _square(2.5, 30.5), _square(9.5, 20.5)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner[-1:], inner, outer[:1]])
    assert (fill_plane([keyhole], SHAPE, by_parity=False) == _box(3, 30) & ~_box(10, 20)).all()


def test_traced_masks_come_back_pixel_by_pixel() -> None:
    random = np.random.default_rng(1)
    mask = random.random(SHAPE) < 0.6  # with holes, islands and corners that touch
    rings = [ring[:-1] - 1 for ring in find_contours(np.pad(mask, 1).astype(float), 0.5)]
    for by_parity in (False, True):
        assert (fill_plane(rings, SHAPE, by_parity=by_parity) == mask).all()


def test_the_shape_between_two_slices_grows_evenly() -> None:
    small, large = _box(15, 20), _box(10, 25)
    middle = between(small, large, 0.5, (1.0, 1.0))
    assert (middle == between(large, small, 0.5, (1.0, 1.0))).all()
    assert (small <= middle).all()
    assert (middle <= large).all()
    assert small.sum() < middle.sum() < large.sum()
    assert (between(small, large, 0.0, (1.0, 1.0)) == small).all()
