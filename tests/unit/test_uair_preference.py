"""The evidence of a pick: the posterior over members and over the size axis."""

import numpy as np
import pytest

from workers.uair.preference import AXIS, SizePosterior, member_posterior, radius_mm

VOLUMES = (14.0, 11.5, 9.0, 7.0)


def prior() -> SizePosterior:
    return SizePosterior.prior(radius_mm(10.0))


def test_members_near_the_pick_are_favoured() -> None:
    posterior = member_posterior(np.array([1.0, 0.95, 0.8, 0.5]))
    assert posterior.sum() == pytest.approx(1.0)
    assert (np.diff(posterior) < 0).all()
    assert posterior[0] / posterior[1] == pytest.approx(np.exp(0.05 / 0.04))


def test_a_prior_over_members_is_kept() -> None:
    agreement = np.array([0.9, 0.9])
    np.testing.assert_allclose(member_posterior(agreement, np.array([3.0, 1.0])), [0.75, 0.25])


def test_radius_of_a_sphere() -> None:
    assert radius_mm(4.0 / 3.0 * np.pi * 10.0**3 / 1000.0) == pytest.approx(10.0)
    assert np.isfinite(np.log(radius_mm(0.0)))


def test_prior_is_centred_and_normalised() -> None:
    assert prior().mass.sum() == pytest.approx(1.0)
    assert prior().mean == pytest.approx(0.0, abs=1e-9)
    assert prior().position(10.0) == pytest.approx(0.0)


def test_picking_the_largest_reaches_beyond_it() -> None:
    after = prior().after_pick(VOLUMES, 0)
    assert after.mean > prior().mean
    assert after.quantiles(np.array([0.75]))[0] > after.position(VOLUMES[0])


def test_picking_the_tightest_reaches_below_it() -> None:
    after = prior().after_pick(VOLUMES, 3)
    assert after.quantiles(np.array([0.25]))[0] < after.position(VOLUMES[3])


def test_picks_in_the_middle_narrow_the_belief() -> None:
    once = prior().after_pick(VOLUMES, 2)
    twice = once.after_pick(VOLUMES, 2)

    def spread(posterior: SizePosterior) -> float:
        low, high = posterior.quantiles(np.array([0.1, 0.9]))
        return high - low

    assert spread(twice) < spread(once) < spread(prior())
    assert abs(twice.mean - twice.position(VOLUMES[2])) < 0.06


def test_a_rejection_widens_the_belief_about_the_same_mean() -> None:
    picked = prior().after_pick(VOLUMES, 0)
    wide = picked.widened()
    assert wide.base_mm == pytest.approx(picked.base_mm * np.exp(picked.mean))
    low, high = wide.quantiles(np.array([0.1, 0.9]))
    assert high - low > 0.4


def test_radii_are_ascending_and_on_the_axis() -> None:
    radii = prior().radii_mm(np.array([0.1, 0.5, 0.9]))
    assert (np.diff(radii) > 0).all()
    assert radii[1] == pytest.approx(radius_mm(10.0), rel=0.01)
    assert prior().position(1e9) == AXIS[-1]


def test_a_remembered_preference_moves_the_belief_and_can_be_taken_back() -> None:
    neutral = SizePosterior.prior(10.0)
    wider = SizePosterior.prior(10.0, offset_mm=2.0)
    assert wider.mean == pytest.approx(np.log(12.0 / 10.0), abs=1e-3)
    assert neutral.with_preference(2.0, 0.0).mean == pytest.approx(wider.mean, abs=1e-6)
    assert wider.with_preference(0.0, 2.0).mean == pytest.approx(0.0, abs=1e-6)
    assert SizePosterior.prior(3.0, offset_mm=-3.5).mean >= -0.41, "a lesion does not vanish for a preference"
