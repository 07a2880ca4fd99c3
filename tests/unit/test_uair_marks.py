"""Marks as prompts: the ellipsoid they suggest, new lesions, sizes that follow, and what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.synthetic import LESIONS, SPACING, DensityLocalizer, DensityPredictor, abdomen
from workers.engine import Engine, EngineOptions, Feedback, Round
from workers.uair.marks import (
    CONTOUR,
    LINE,
    POINT,
    DrawnMark,
    MarkedTarget,
    ellipsoid_of,
    take_marked,
    without,
)

RING = np.linspace(0, 2 * np.pi, 24, endpoint=False)


@pytest.fixture(scope="module")
def volume() -> tuple[NDArray[Any], NDArray[Any]]:
    return abdomen()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(max_lesions=0))


@pytest.fixture(scope="module")
def missed(engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]]) -> Round:
    """A first round that offers no lesion."""
    first = engine.first_round(volume[0], SPACING)
    assert first.targets == (1,)
    return first


def _line(lesion: Any, tilt: float = 0.4) -> DrawnMark:
    """The lesion's diameter on its middle slice, by voxel edges."""
    way = np.array([0.0, np.cos(tilt), np.sin(tilt)]) * lesion.radius_mm
    centre = np.asarray(lesion.centre_mm)
    return DrawnMark(LINE, np.stack([centre - way, centre + way]) / SPACING)


def _dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _after(
    engine: Engine,
    volume: tuple[NDArray[Any], NDArray[Any]],
    round_: Round,
    marked: Sequence[MarkedTarget],
    feedback: Feedback | None = None,
) -> Round:
    state = engine.with_marked_lesions(volume[0], SPACING, round_.state, marked)
    everything = frozenset(target.value for target in state.targets)
    return engine.next_round(volume[0], SPACING, state, feedback or Feedback(unsaid=everything))


def test_a_line_over_a_missed_lesion_brings_four_candidates_of_it(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], missed: Round
) -> None:
    _, truth = volume
    following = _after(engine, volume, missed, [MarkedTarget(2, (_line(LESIONS[0]),))])
    drawn = [candidate.labels == 2 for candidate in following.candidates]
    assert following.targets == (1, 2)
    assert len({mask.tobytes() for mask in drawn}) == 4, "four, and no two alike"
    assert max(_dice(mask, truth == 2) for mask in drawn) > 0.8
    assert all(_dice(mask, truth == 2) > 0.5 for mask in drawn)


def test_what_was_not_marked_stays_voxel_for_voxel(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], missed: Round
) -> None:
    following = _after(engine, volume, missed, [MarkedTarget(2, (_line(LESIONS[0]),))])
    for before, after in zip(missed.candidates, following.candidates, strict=True):
        outside = (after.labels != 2) & (before.labels == 1)
        assert (after.labels[outside] == 1).all()
        assert (after.labels[before.labels == 0] != 1).all()
        assert after.character == before.character


def test_a_point_says_that_a_lesion_is_there(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], missed: Round
) -> None:
    point = DrawnMark(POINT, np.asarray([LESIONS[1].centre_mm]) / SPACING)
    following = _after(engine, volume, missed, [MarkedTarget(2, (point,))])
    best = max(_dice(candidate.labels == 2, volume[1] == 3) for candidate in following.candidates)
    assert best > 0.6


def test_the_next_pick_works_on_a_marked_lesion_as_on_every_other(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], missed: Round
) -> None:
    following = _after(engine, volume, missed, [MarkedTarget(2, (_line(LESIONS[0]),))])
    again = engine.next_round(volume[0], SPACING, following.state, Feedback(picked=2))
    kept, picked = again.candidates[0].labels == 2, following.candidates[1].labels == 2
    assert _dice(kept, picked) > 0.99


def test_a_dropped_lesion_is_gone_and_stays_gone(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    engine = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    first = engine.first_round(volume[0], SPACING)
    value = max(first.targets)
    assert value > 1, "the first round found a lesion"
    state = without(first.state, [value])
    everything = frozenset(target.value for target in state.targets)
    following = engine.next_round(volume[0], SPACING, state, Feedback(unsaid=everything))
    again = engine.next_round(volume[0], SPACING, following.state, Feedback(picked=1))
    assert all((candidate.labels != value).all() for candidate in (*following.candidates, *again.candidates))


def test_the_size_of_an_offered_lesion_follows_the_line_across_it(
    volume: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    engine = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    first = engine.first_round(volume[0], SPACING)
    inside = first.candidates[0].labels[volume[1] == 2]
    value = int(np.bincount(inside[inside > 1]).argmax())
    volumes = {}
    for factor in (0.75, 1.25):
        line = _line(replace(LESIONS[0], radius_mm=factor * LESIONS[0].radius_mm))
        following = _after(engine, volume, first, [MarkedTarget(value, (line,))])
        volumes[factor] = np.mean([(candidate.labels == value).sum() for candidate in following.candidates])
    assert volumes[1.25] > 1.5 * volumes[0.75]


@pytest.mark.parametrize("unit", [1.0, 3.0])
def test_a_bidirectional_measurement_tells_both_axes(unit: float) -> None:
    long = DrawnMark(LINE, np.array([[10, 10, 5], [10, 10, 25]], float))
    short = DrawnMark(LINE, np.array([[10, 5, 15], [10, 15, 15]], float))
    box = ellipsoid_of(MarkedTarget(2, (long, short)), (unit, unit, unit)).box((unit, unit, unit))
    assert np.allclose((box.start[1:], box.stop[1:]), ((5, 5), (15, 25)))
    assert (box.start[0] + box.stop[0]) / 2 == pytest.approx(10)


def test_contours_on_several_slices_reach_over_all_of_them() -> None:
    contours = [
        DrawnMark(CONTOUR, np.column_stack([np.full(24, z), 20 + 6 * np.sin(RING), 20 + 6 * np.cos(RING)]))
        for z in (4.5, 5.5, 6.5, 7.5, 8.5, 20.5)
    ]
    box = ellipsoid_of(MarkedTarget(2, tuple(contours)), (1.0, 1.0, 1.0)).box((1.0, 1.0, 1.0))
    assert box.start[0] < 5.0
    assert box.stop[0] > 20.0


def test_candidate_one_keeps_what_was_selected_beside_the_marked_lesion() -> None:
    selected = np.array([1, 2, 2, 3, 0], np.uint8)
    made = np.array([1, 1, 2, 1, 4], np.uint8)
    assert take_marked(selected, made, [2, 4]).tolist() == [1, 1, 2, 3, 4]


def test_a_lesion_kept_without_a_drawing_is_in_all_four(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    engine = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    first = engine.first_round(volume[0], SPACING)
    value = max(first.targets)
    targets = [
        replace(target, present=(True, False, False, False)) if target.value == value else target
        for target in first.state.targets
    ]
    doubted = replace(first, state=replace(first.state, targets=tuple(targets)))
    following = _after(engine, volume, doubted, [MarkedTarget(value, ())])
    assert all((candidate.labels == value).any() for candidate in following.candidates)
