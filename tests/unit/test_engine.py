"""The method from end to end on a small volume with known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config.errors import InputError
from tests.support.synthetic import (
    LESIONS,
    SPACING,
    DensityLocalizer,
    DensityPredictor,
    abdomen,
)
from workers.engine import Engine, EngineOptions, Feedback, Round
from workers.uair.compose import dice_by_label
from workers.uair.preference import ReaderPreference
from workers.uair.rounds import own_radii_mm
from workers.uair.state import RoundState


def engine(**options: Any) -> Engine:
    return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(**options))


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def volume() -> tuple[NDArray[Any], NDArray[Any]]:
    return abdomen()


@pytest.fixture(scope="module")
def first(volume: tuple[NDArray[Any], NDArray[Any]]) -> Round:
    return engine().first_round(volume[0], SPACING)


def lesion_at(labels: NDArray[Any], truth: NDArray[Any], number: int) -> int:
    """The label value that covers most of a true lesion."""
    inside = labels[truth == 1 + number]
    return int(np.bincount(inside[inside > 1], minlength=2).argmax())


def all_pairs_differ(found: Round) -> bool:
    for a in range(4):
        for b in range(a):
            agreement = dice_by_label(found.candidates[a].labels, found.candidates[b].labels)
            if min(agreement.values()) >= 0.995:
                return False
    return True


def test_first_round_finds_liver_and_lesions(volume: tuple[NDArray[Any], NDArray[Any]], first: Round) -> None:
    _, truth = volume
    assert [candidate.k for candidate in first.candidates] == [1, 2, 3, 4]
    best = max(dice(c.labels > 0, truth > 0) for c in first.candidates)
    assert best > 0.93
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=1, per_target={2: 2, 3: 3}))
    for number in range(1, len(LESIONS) + 1):
        value = lesion_at(first.candidates[0].labels, truth, number)
        assert value > 1
        assert max(dice(c.labels == value, truth == 1 + number) for c in first.candidates) > 0.65
        assert max(dice(c.labels == value, truth == 1 + number) for c in second.candidates) > 0.7


def test_candidates_are_whole_different_and_disjoint(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    for candidate in first.candidates:
        assert candidate.labels.shape == volume[0].shape
        assert candidate.labels.dtype == np.uint8
        assert (candidate.labels > 0).any()
        assert set(np.unique(candidate.labels)) <= {0, *first.targets}
    assert all_pairs_differ(first)


def test_first_candidate_is_the_most_inclusive(first: Round) -> None:
    sizes = [(candidate.labels > 0).sum() for candidate in first.candidates]
    assert sizes[0] == max(sizes)
    assert sizes[3] == min(sizes)


def test_same_seed_same_candidates_other_seed_others(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    again = engine().first_round(volume[0], SPACING)
    for a, b in zip(first.candidates, again.candidates, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        assert a.character == b.character
    other = engine(seed=5).first_round(volume[0], SPACING)
    pairs = zip(first.candidates, other.candidates, strict=True)
    assert any((a.labels != b.labels).any() for a, b in pairs)


def test_state_from_disk_gives_the_identical_next_round(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round, tmp_path: Path
) -> None:
    """A redelivered task may run in another process; it must make the same four candidates."""
    path = tmp_path / "state.npz"
    first.state.save(path)
    feedback = Feedback(picked=2)
    in_memory = engine().next_round(volume[0], SPACING, first.state, feedback)
    from_disk = engine().next_round(volume[0], SPACING, RoundState.load(path), feedback)
    for a, b in zip(in_memory.candidates, from_disk.candidates, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
    assert in_memory.number == 2


def test_next_round_keeps_what_was_picked_and_offers_three_others(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=3))
    np.testing.assert_array_equal(second.candidates[0].labels, first.candidates[2].labels)
    assert [c.character.split(",")[0] == "as selected" for c in second.candidates] == [
        True,
        False,
        False,
        False,
    ]
    assert all_pairs_differ(second)
    assert second.targets == first.targets


def test_three_rounds_with_a_best_dice_reader_do_not_lose(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    hu, truth = volume
    found, best = first, []
    for _ in range(3):
        scores = [dice(c.labels > 0, truth > 0) + dice(c.labels > 1, truth > 1) for c in found.candidates]
        best.append(max(scores))
        found = engine().next_round(hu, SPACING, found.state, Feedback(picked=int(np.argmax(scores)) + 1))
    assert best == sorted(best)


def test_a_target_may_be_taken_from_another_candidate(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    value = first.targets[1]
    feedback = Feedback(picked=4, per_target={value: 1})
    second = engine().next_round(volume[0], SPACING, first.state, feedback)
    kept = second.candidates[0].labels
    taken = first.candidates[0].labels == value
    assert dice(kept == value, taken) > 0.99
    assert dice(kept > 0, first.candidates[3].labels > 0) > 0.97


def test_a_lesion_absent_from_the_pick_is_gone_and_keeps_its_number_free(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    liver, lesion, *others = first.state.targets
    without = replace(lesion, present=(True, False, True, True))
    state = replace(first.state, targets=(liver, without, *others))
    second = engine().next_round(volume[0], SPACING, state, Feedback(picked=2))
    assert second.targets == first.targets
    assert not any((c.labels == lesion.value).any() for c in second.candidates)
    third = engine().next_round(volume[0], SPACING, second.state, Feedback(picked=1))
    assert not any((c.labels == lesion.value).any() for c in third.candidates)


def test_an_answer_to_an_older_round_makes_the_newest_with_candidates_of_its_own(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=2))
    third = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=2), number=3)
    assert (third.number, third.state.number) == (3, 3)
    np.testing.assert_array_equal(third.candidates[0].labels, second.candidates[0].labels)
    pairs = zip(third.candidates[1:], second.candidates[1:], strict=True)
    assert any((a.labels != b.labels).any() for a, b in pairs)


def test_after_none_fits_what_was_picked_last_is_candidate_1_and_the_rest_is_new(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=3))
    third = engine().next_round(volume[0], SPACING, second.state, Feedback(rejected_all=True))
    np.testing.assert_array_equal(third.candidates[0].labels, second.candidates[0].labels)
    assert all_pairs_differ(third)


def test_the_liver_stays_as_picked_while_a_lesion_is_shown(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(picked=3))
    liver = first.candidates[2].labels > 0
    for candidate in second.candidates:
        assert dice(candidate.labels > 0, liver) > 0.995


def test_rejecting_all_offers_something_else(volume: tuple[NDArray[Any], NDArray[Any]], first: Round) -> None:
    second = engine().next_round(volume[0], SPACING, first.state, Feedback(rejected_all=True))
    assert all_pairs_differ(second)
    for new in second.candidates:
        for old in first.candidates:
            assert (new.labels != old.labels).any()


def test_a_liver_without_lesions_can_be_had_without_lesions() -> None:
    """The few proposals there are doubtful, so candidates 2 and 4 are free of them."""
    hu, truth = abdomen(lesions=())
    found = engine().first_round(hu, SPACING)
    assert max(dice(c.labels > 0, truth > 0) for c in found.candidates) > 0.93
    for candidate in found.candidates:
        assert (candidate.labels > 1).sum() * np.prod(SPACING) / 1000.0 < 1.5
        if candidate.k in (2, 4):
            assert not (candidate.labels > 1).any()
    assert all_pairs_differ(found)


def test_lesions_can_be_switched_off(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    assert engine(max_lesions=0).first_round(volume[0], SPACING).targets == (1,)


def test_no_liver_is_an_input_error_with_a_mend() -> None:
    hu, _ = abdomen(liver=False)
    with pytest.raises(InputError) as caught:
        engine().first_round(hu, SPACING)
    assert caught.value.code == "liver-not-found"
    assert caught.value.remedy


def test_state_of_another_model_or_volume_is_refused(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    foreign = replace(first.state, model_digest="f" * 64)
    with pytest.raises(InputError, match="another model"):
        engine().next_round(volume[0], SPACING, foreign, Feedback())
    with pytest.raises(InputError, match="another volume"):
        engine().next_round(volume[0][:-1], SPACING, first.state, Feedback())


@pytest.mark.parametrize("feedback", [{"picked": 0}, {"picked": 5}, {"per_target": {2: 9}}])
def test_a_pick_outside_one_to_four_is_refused(feedback: dict[str, Any] | dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        Feedback(**feedback)
    assert caught.value.code == "pick-out-of-range"


def test_embeddings_are_reused_in_later_rounds(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    predictor = DensityPredictor()
    shared = Engine(predictor, DensityLocalizer(), EngineOptions())
    found = shared.first_round(volume[0], SPACING)
    before = predictor.encoded
    shared.next_round(volume[0], SPACING, found.state, Feedback(picked=1))
    assert predictor.encoded == before


def test_progress_is_reported_in_order(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    seen = []
    engine(max_lesions=2).first_round(
        volume[0], SPACING, progress=lambda part, what: seen.append((part, what))
    )
    parts = [part for part, _ in seen]
    assert parts == sorted(parts)
    assert parts[0] >= 0.0
    assert parts[-1] <= 1.0
    assert all(what for _, what in seen)


@pytest.mark.parametrize("rule", ["belief", "max_variance", "medoids"])
def test_all_rules_give_four_different_candidates(
    volume: tuple[NDArray[Any], NDArray[Any]], rule: str
) -> None:
    assert all_pairs_differ(engine(rule=rule, members=8).first_round(volume[0], SPACING))


def test_the_uncertain_region_lies_where_the_candidates_differ(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round
) -> None:
    masks = np.stack([candidate.labels > 0 for candidate in first.candidates])
    contested = masks.any(axis=0) & ~masks.all(axis=0)
    assert first.uncertain.shape == volume[0].shape
    share_contested = first.uncertain[contested].mean()
    share_agreed = first.uncertain[masks.all(axis=0)].mean()
    assert share_contested > 0.3
    assert share_agreed < 0.5 * share_contested
    far = ndimage.distance_transform_edt(~masks.any(axis=0), SPACING) > 30.0
    assert not first.uncertain[far].any()


def test_a_remembered_preference_reaches_candidates_state_and_later_rounds(
    volume: tuple[NDArray[Any], NDArray[Any]], first: Round, tmp_path: Path
) -> None:
    hu, truth = volume
    told = engine().first_round(hu, SPACING, prior=ReaderPreference(lesion_mm=-2.0))
    assert told.state.preference == ReaderPreference(lesion_mm=-2.0)
    told.state.save(tmp_path / "state.npz")
    assert RoundState.load(tmp_path / "state.npz").preference == told.state.preference
    value, neutral = (lesion_at(made.candidates[0].labels, truth, 1) for made in (told, first))
    smallest = min((candidate.labels == value).sum() for candidate in told.candidates)
    assert smallest < 0.9 * min((candidate.labels == neutral).sum() for candidate in first.candidates)
    radii, own = own_radii_mm(told.state), own_radii_mm(first.state)
    assert radii[value] == pytest.approx(own[neutral], rel=0.1), "the model's own mean stays"
    again = engine().next_round(hu, SPACING, told.state, Feedback(picked=2), prior=ReaderPreference())
    assert again.state.preference == ReaderPreference()
