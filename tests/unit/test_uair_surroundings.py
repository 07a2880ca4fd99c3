"""What the false-positive filter is told about a proposal and about the answers to it."""

import numpy as np
import pytest

from tests.support.synthetic import ball
from workers.uair.ensemble import Ensemble
from workers.uair.extent import Tissue
from workers.uair.grids import Crop
from workers.uair.surroundings import (
    BLOB_NAMES,
    POOL_NAMES,
    Neighbourhood,
    axes_of,
    blob_features,
    grown,
    least_octant,
    pool_features,
)

GRID = (2.0, 2.0, 2.0)
SHAPE = (60, 60, 60)
LIVER = ball(SHAPE, GRID, (60.0, 60.0, 60.0), (44.0, 44.0, 44.0))
TISSUE = Tissue(100.0, 5.0)


def blob_at(x_mm, *, background=-80.0):
    """Features of a dark ball of 8 mm radius in a liver that ends 44 mm from the middle."""
    ball_mask = ball(SHAPE, GRID, (60.0, 60.0, x_mm), (8.0, 8.0, 8.0))
    hu = np.where(LIVER, 100.0, background).astype(np.float32)
    hu[ball_mask] = 50.0
    where = Neighbourhood(hu, LIVER, LIVER, TISSUE, 2.0)
    hits = [np.flatnonzero(ball_mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    region = tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
    values = blob_features(ball_mask[region], region, 7.0, -1.0, where)
    assert values.dtype == np.float32
    return dict(zip(BLOB_NAMES, values, strict=True))


def test_a_ball_in_the_liver_is_described():
    found = blob_at(60.0)
    assert (found["sign"], found["peak"]) == (-1.0, 7.0)
    assert found["hu"] == pytest.approx(50.0)
    assert found["contrast"] == pytest.approx(-10.0)
    assert np.exp(found["log_volume"]) == pytest.approx(2.14, rel=0.1)
    assert found["elongation"] == pytest.approx(1.0, abs=0.05)
    assert found["enclosed"] == found["enclosed_least"] == found["like_least"] == 1.0
    assert found["deepest_mm"] == pytest.approx(44.0, abs=2.5)
    assert found["growth"] == pytest.approx(0.0)


def test_what_lies_at_the_surface_is_open_to_one_side():
    found = blob_at(98.0)
    assert 0.3 < found["enclosed"] < 0.8
    assert found["enclosed_least"] < 0.35
    assert found["fat"] > 0.2
    assert found["growth_outside"] > 0.1


def test_growing_stops_at_half_contrast_and_at_its_reach():
    hu = np.full((30, 30, 30), 100.0, np.float32)
    hu[10:13, 10:13, :] = 40.0
    hu[10:13, 10:13, 20:] = 80.0
    seed = np.zeros(hu.shape, bool)
    seed[10:13, 10:13, 10:13] = True
    full = grown(seed, hu, TISSUE, 4.0)
    assert np.flatnonzero(full.any(axis=(0, 1))).tolist() == list(range(6, 17))
    far = grown(seed, hu, TISSUE, 100.0)
    assert np.flatnonzero(far.any(axis=(0, 1))).tolist() == list(range(20))


def test_axes_tell_a_rod_from_a_plate():
    rod, plate = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    rod[9:11, 9:11, :] = True
    plate[9:11] = True
    assert axes_of(rod, (1.0, 1.0, 1.0))[0] > 5.0
    elongation, flatness = axes_of(plate, (1.0, 1.0, 1.0))
    assert elongation == pytest.approx(1.0)
    assert flatness > 5.0
    assert axes_of(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0)) == (1.0, 1.0)


def test_the_least_octant_shows_the_open_side():
    shell = np.ones((6, 6, 6), bool)
    good = shell.copy()
    good[:3, :3, :3] = False
    assert least_octant(shell, good, np.array([2.5, 2.5, 2.5])) == 0.0
    assert least_octant(shell, shell, np.array([2.5, 2.5, 2.5])) == 1.0
    assert least_octant(np.zeros_like(shell), shell, np.zeros(3)) == 0.0


CROP = Crop((32.0, 32.0), 64.0, tuple(range(12)), (2.0, 1.0, 1.0), (12, 64, 64), 64, 32)


def answers(*, last_member=5.0):
    logits = np.full((4, *CROP.stack_shape), -5.0, np.float32)
    logits[:, 3:9, 12:20, 12:20] = 5.0
    logits[3, 3:9, 12:16, 12:20] = last_member
    hu = np.full(CROP.stack_shape, 100.0, np.float32)
    hu[3:9, 12:20, 12:20] = 60.0
    everywhere = np.ones(CROP.stack_shape, bool)
    pool = Ensemble(logits, np.full(4, 0.7, np.float32))
    values = pool_features(pool, hu, everywhere, everywhere, pool.masks[0], Tissue(100.0, 10.0), CROP)
    return dict(zip(POOL_NAMES, values, strict=True))


def test_answers_are_described():
    found = answers()
    assert found["agreement"] == found["agreement_least"] == pytest.approx(1.0)
    assert found["surrounded"] == found["surrounded_least"] == pytest.approx(1.0)
    assert found["majority_contrast"] == pytest.approx(-4.0)
    assert found["majority_hu"] == pytest.approx(60.0)
    assert np.exp(found["log_majority"]) == pytest.approx(6 * 64 * 8.0 / 1000.0)
    assert found["edge"] == pytest.approx(4.0)
    assert found["quality"] == pytest.approx(0.7)
    assert found["blob_agreement"] == pytest.approx(1.0)
    assert found["cut_off"] == found["outside"] == 0.0


def test_a_dissenting_member_lowers_agreement():
    found = answers(last_member=-5.0)
    assert found["agreement_least"] == pytest.approx(2.0 / 3.0)
    assert found["size_spread"] > 0.2
    assert found["deviation"] > 0.1


def test_no_majority_no_features():
    nothing = Ensemble(np.full((4, *CROP.stack_shape), -5.0, np.float32), np.ones(4, np.float32))
    mask = np.ones(CROP.stack_shape, bool)
    assert pool_features(nothing, mask.astype(np.float32), mask, mask, mask, TISSUE, CROP) is None
