"""Intervals: as wide as candidates and ensemble scatter, and none where nothing tells."""

import numpy as np
import pytest

from tests.support.synthetic import DensityLocalizer, DensityPredictor, abdomen
from workers.engine import Engine, EngineOptions
from workers.measure.intervals import FACTORS, ensemble_bounds, intervals_of, sample_numbers, spread
from workers.measure.numbers import LIVER, numbers_of

SHAPE, SPACING = (36, 96, 112), (5.0, 2.6, 2.6)


def test_an_interval_is_as_wide_as_its_samples_scatter() -> None:
    accepted = {(1, "volume_ml"): 10.0, (1, "sphericity"): 0.5}
    close = [{(1, "volume_ml"): v, (1, "sphericity"): h} for v, h in ((9.8, 0.49), (10.2, 0.51))]
    apart = [{(1, "volume_ml"): v, (1, "sphericity"): h} for v, h in ((7.0, 0.45), (13.0, 0.55))]
    narrow, wide = intervals_of(accepted, close), intervals_of(accepted, apart)
    for key in ("volume_ml", "sphericity"):
        assert wide[1, key][0] < narrow[1, key][0] < accepted[1, key] < narrow[1, key][1] < wide[1, key][1]
    low, high = wide[1, "volume_ml"]
    assert low * high == pytest.approx(100.0), "sizes scatter in proportion"
    half = FACTORS["volume_ml"] * spread("volume_ml", 10.0, [7.0, 13.0])
    assert high == pytest.approx(10.0 * np.exp(half))


def test_where_all_agree_voxels_still_limit_what_is_known() -> None:
    (interval,) = intervals_of({(1, "volume_ml"): 10.0}, [{(1, "volume_ml"): 10.0}] * 4).values()
    assert interval[0] < 10.0 < interval[1]


def test_a_lesion_that_only_the_reader_drew_has_none() -> None:
    samples = [{(1, "volume_ml"): 9.0}, {(1, "volume_ml"): 11.0}]
    found = intervals_of({(1, "volume_ml"): 10.0, (2, "volume_ml"): 3.0}, samples)
    assert set(found) == {(1, "volume_ml")}


def test_a_count_lies_between_those_of_the_candidates() -> None:
    samples = [{(LIVER, "lesions"): count} for count in (1, 2, 4, 2)]
    assert intervals_of({(LIVER, "lesions"): 2}, samples) == {(LIVER, "lesions"): (1, 4)}
    assert intervals_of({(LIVER, "lesions"): 2}, [{(LIVER, "lesions"): 2}] * 4) == {}


def test_shares_stay_shares() -> None:
    samples = [{(1, "sphericity"): 0.2}, {(1, "sphericity"): 1.0}]
    low, high = intervals_of({(1, "sphericity"): 0.9}, samples)[1, "sphericity"]
    assert (low, high) == (0.0, 1.0)


def test_the_ensemble_s_bounds_hold_what_it_offers_and_differ_where_it_is_unsure() -> None:
    hu, _ = abdomen(shape=SHAPE, spacing=SPACING)
    made = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions()).first_round(hu, SPACING)
    wide, narrow = ensemble_bounds(made.state, hu.shape)
    assert ((narrow > 0) <= (wide > 0)).all()
    assert (wide > 0).sum() > (narrow > 0).sum() > 0
    accepted = made.candidates[0].labels
    numbers = numbers_of(hu, accepted, SPACING)
    samples = sample_numbers(
        hu, [*(candidate.labels for candidate in made.candidates), wide, narrow], accepted, SPACING
    )
    found = intervals_of(numbers, samples)
    assert found[LIVER, "liver_ml"][0] < numbers[LIVER, "liver_ml"] < found[LIVER, "liver_ml"][1]
    assert any(number > 0 and key == "volume_ml" for number, key in found)
    assert samples[0] == numbers, "measured in a box, the same"
