"""Shapes of a belief may follow the density, which the networks did not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.truth.metrics import dice
from workers.uair.belief import prior_belief, with_direction
from workers.uair.density import MOST_EVIDENCE, density_evidence

CELL_MM = (2.0, 1.0, 1.0)
SHAPE = (24, 48, 48)


def _ellipsoid(z_mm: float, y_mm: float, x_mm: float) -> NDArray[np.bool_]:
    at = np.indices(SHAPE).astype(np.float32)
    mm = [(axis - (n - 1) / 2) * cell for axis, n, cell in zip(at, SHAPE, CELL_MM, strict=True)]
    return np.asarray((mm[0] / z_mm) ** 2 + (mm[1] / y_mm) ** 2 + (mm[2] / x_mm) ** 2 < 1.0)


TRUTH = _ellipsoid(12.0, 13.0, 8.0)
MEMBERS = np.stack([_ellipsoid(11.0 + 0.1 * k, 11.0, 11.0) for k in range(8)])
EVERYWHERE = np.ones(SHAPE, bool)


def _densities(inside: float, outside: float, noise: float = 8.0) -> NDArray[np.float32]:
    hu = np.where(TRUTH, inside, outside) + np.random.default_rng(0).normal(0.0, noise, SHAPE)
    return hu.astype(np.float32)


@pytest.mark.parametrize("inside", [60.0, 160.0], ids=["darker", "brighter"])
def test_evidence_is_positive_in_the_lesion_and_negative_around_it(inside: float) -> None:
    evidence = density_evidence(_densities(inside, 110.0), MEMBERS, EVERYWHERE, CELL_MM)
    assert evidence is not None
    assert np.median(evidence[TRUTH]) == pytest.approx(1.0, abs=0.1)
    assert np.median(evidence[~TRUTH]) == pytest.approx(-1.0, abs=0.1)
    assert np.abs(evidence).max() <= MOST_EVIDENCE


def test_a_lesion_as_dense_as_the_liver_has_no_evidence() -> None:
    assert density_evidence(_densities(110.0, 110.0, noise=0.1), MEMBERS, EVERYWHERE, CELL_MM) is None


def test_a_target_without_surroundings_has_no_evidence() -> None:
    assert density_evidence(_densities(60.0, 110.0), MEMBERS, MEMBERS.any(axis=0), CELL_MM) is None


def test_what_lies_outside_the_organ_does_not_count_as_surroundings() -> None:
    hu = _densities(60.0, 110.0)
    fat = np.zeros(SHAPE, bool)
    fat[:, :, 36:] = True
    hu[fat] = -100.0
    evidence = density_evidence(hu, MEMBERS, ~fat, CELL_MM)
    assert evidence is not None
    assert np.median(evidence[~TRUTH & ~fat]) == pytest.approx(-1.0, abs=0.1)


def test_shapes_that_follow_the_density_come_nearer_to_the_lesion() -> None:
    """All members draw a ball, and the lesion is none: its density shows that."""
    evidence = density_evidence(_densities(60.0, 110.0), MEMBERS, EVERYWHERE, CELL_MM)
    assert evidence is not None
    plain = prior_belief(MEMBERS, None, CELL_MM, np.random.default_rng(0))
    following = with_direction(plain, evidence, np.random.default_rng(1))
    assert len(following.factors) == len(plain.factors) + 1
    np.testing.assert_array_equal(following.particles[:, -1], plain.particles[:, -1])
    reached = [float(belief.agreement(TRUTH[None]).max()) for belief in (plain, following)]
    assert reached[1] > reached[0] + 0.01
    assert dice(MEMBERS[0], TRUTH) < reached[0]
