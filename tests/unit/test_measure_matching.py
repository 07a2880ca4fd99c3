"""Matches of lesions: paired, split, merged, new, vanished; and the alignment that precedes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.synthetic import Lesion, abdomen, ball
from uair_node.findings.follow_up import Fate
from workers.measure.matching import Group, match
from workers.measure.registration import Scan, align

SHAPE, SPACING = (30, 60, 60), (2.0, 1.5, 1.5)


def labels(*balls: Any) -> np.ndarray:
    """Lesions 1, 2, ... as balls (centre mm, radius mm) in a liver that fills everything."""
    made = np.ones(SHAPE, np.uint8)
    for number, (centre, radius) in enumerate(balls, start=1):
        made[ball(SHAPE, SPACING, centre, (radius,) * 3)] = 1 + number
    return made


ONE, TWO, THREE = ((20, 30, 30), 8), ((20, 60, 30), 7), ((40, 40, 70), 6)


def test_lesions_are_paired_however_they_are_numbered() -> None:
    found = match(labels(THREE, ONE, TWO), labels(ONE, TWO, THREE), SPACING)
    assert found == (
        Group(Fate.MATCHED, (1,), (3,)),
        Group(Fate.MATCHED, (2,), (1,)),
        Group(Fate.MATCHED, (3,), (2,)),
    )


def test_a_lesion_that_registration_leaves_beside_itself_is_the_same() -> None:
    beside = ((20, 30, 48), 7)
    assert match(labels(beside), labels(ONE), SPACING) == (Group(Fate.MATCHED, (1,), (1,)),)
    far = ((20, 30, 60), 7)
    assert {group.fate for group in match(labels(far), labels(ONE), SPACING)} == {Fate.NEW, Fate.VANISHED}


def test_new_and_vanished() -> None:
    found = match(labels(ONE, THREE), labels(TWO, ONE), SPACING)
    assert found == (
        Group(Fate.MATCHED, (1,), (2,)),
        Group(Fate.NEW, (2,), ()),
        Group(Fate.VANISHED, (), (1,)),
    )
    assert match(labels(), labels(), SPACING) == ()


def test_a_lesion_that_grows_over_its_neighbour_has_merged_with_it() -> None:
    found = match(labels(((20, 44, 30), 26), THREE), labels(ONE, TWO, THREE), SPACING)
    assert found[0].fate == Fate.MERGED
    assert sorted(found[0].before) == [1, 2]
    assert found[1] == Group(Fate.MATCHED, (2,), (3,))


def test_a_lesion_that_falls_apart_has_split() -> None:
    found = match(labels(ONE, TWO), labels(((20, 44, 30), 24)), SPACING)
    (group,) = found
    assert (group.fate, group.before) == (Fate.SPLIT, (1,))
    assert sorted(group.now) == [1, 2]


def test_scans_are_aligned_by_shape_and_density() -> None:
    """The earlier scan lies 3 slices higher and a little to the side."""
    lesions = (Lesion((90.0, 120.0, 110.0), 14.0), Lesion((70.0, 140.0, 80.0), 9.0))
    shape, spacing = (36, 96, 112), (5.0, 2.6, 2.6)
    hu, truth = abdomen(lesions, shape=shape, spacing=spacing)
    shift = (3, -4, 5)
    now = Scan(hu, truth, spacing)
    before = Scan(np.roll(hu, shift, (0, 1, 2)), np.roll(truth, shift, (0, 1, 2)), spacing)
    points = np.array([[80.0, 118.0, 108.0], [60.0, 100.0, 90.0], [95.0, 130.0, 120.0]])
    alignment = align(now, before)
    moved = alignment.moved(points) - points
    assert moved == pytest.approx(np.tile(np.multiply(shift, spacing), (3, 1)), abs=3.0)
    box = (slice(0, 36), slice(0, 96), slice(0, 112))
    brought = alignment.brought(before.labels, spacing, now, box)
    assert {group.fate for group in match(truth, brought, spacing)} == {Fate.MATCHED}
    with pytest.raises(ValueError, match="without a liver"):
        align(now, Scan(hu, np.zeros_like(truth), spacing))
