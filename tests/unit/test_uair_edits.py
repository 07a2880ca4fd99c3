"""A reader's edit is taken up by the next round like a pick."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from workers.engine import Engine, EngineOptions, Feedback, Round
from workers.uair.edits import adopt_edit, keep_selected


@pytest.fixture(scope="module")
def volume() -> tuple[NDArray[Any], NDArray[Any]]:
    return abdomen()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())


@pytest.fixture(scope="module")
def first(engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]]) -> Round:
    return engine.first_round(volume[0], SPACING)


def _dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_next_round_starts_from_the_edit_and_keeps_it_as_an_option(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    picked = first.candidates[0].labels
    liver = ndimage.binary_erosion(picked > 0, iterations=4)
    liver[: liver.shape[0] // 2 - 4] = False  # the reader cut the lower part off
    edit = np.where(liver, picked, 0).astype(np.uint8)
    following = engine.next_round(volume[0], SPACING, adopt_edit(first.state, edit), Feedback(picked=1))
    kept = following.candidates[0].labels > 0
    assert _dice(kept, liver) > 0.95
    assert _dice(kept, liver) > _dice(picked > 0, liver) + 0.1


def test_a_deleted_lesion_is_gone(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    labels = first.candidates[0].labels
    number = int(labels.max())
    assert number > 1, "the first round found a lesion"
    edit = np.where(labels == number, 1, labels).astype(np.uint8)
    following = engine.next_round(volume[0], SPACING, adopt_edit(first.state, edit), Feedback(picked=1))
    assert all((candidate.labels != number).all() for candidate in following.candidates)


def test_a_lesion_that_the_reader_adds_gets_four_candidates_of_its_own(
    engine: Engine, volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    labels = first.candidates[0].labels
    value = int(max(target.value for target in first.state.targets)) + 1
    free = ndimage.binary_erosion(labels == 1, iterations=6)
    centre = np.argwhere(free)[free.sum() // 2]
    distance = np.linalg.norm((np.argwhere(labels >= 0) - centre) * SPACING, axis=1).reshape(labels.shape)
    edit = np.where((distance < 9) & (labels == 1), value, labels).astype(np.uint8)
    previous = engine.with_added_lesions(volume[0], SPACING, adopt_edit(first.state, edit), edit)
    following = engine.next_round(volume[0], SPACING, previous, Feedback(picked=1))
    assert value in following.targets
    kept = keep_selected([candidate.labels for candidate in following.candidates], edit, following.targets)
    assert (kept[0] == edit).all()
    drawn = [kept[0] == value, *(entry == value for entry in kept[1:])]
    assert len({mask.tobytes() for mask in drawn}) == 4, "four, and no two alike"
    assert all(_dice(mask, drawn[0]) > 0.2 for mask in drawn if mask.any())


def test_a_lesion_that_the_state_does_not_know_is_left_out(first: Round) -> None:
    edit = np.where(first.candidates[0].labels == 1, 99, 0).astype(np.uint8)
    assert [target.value for target in adopt_edit(first.state, edit).targets] == [
        target.value for target in first.state.targets
    ]


def test_what_was_selected_stays_voxel_for_voxel(first: Round) -> None:
    """A stroke far away from everything, and a lesion that the state does not know."""
    edit = first.candidates[1].labels.copy()
    edit[0, 0, :3] = 1
    edit[-1, -1, -3:] = 9
    four = [candidate.labels for candidate in first.candidates]
    kept = keep_selected(four, edit, first.targets)
    assert (kept[0] == edit).all()
    assert all((labels == 9).sum() == 3 for labels in kept)
    assert all((labels[:-1] == before[:-1]).all() for labels, before in zip(kept[1:], four[1:], strict=True))
