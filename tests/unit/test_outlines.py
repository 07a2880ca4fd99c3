"""The lesion outliner: its channels, what it sees of a crop, and what its answers do to an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.synthetic import (
    LESIONS,
    SPACING,
    DensityLesions,
    DensityLocalizer,
    DensityPredictor,
    abdomen,
)
from workers.engine import Engine, EngineOptions, Feedback
from workers.models.learned_outlines import LearnedOutlines
from workers.models.outline_net import ANSWERS, CHANNELS, OutlineNet
from workers.models.weights import save_weights
from workers.models.windows import to_outline_channels
from workers.research.evaluation.remember import RememberingOutliner, Stopwatch
from workers.uair.ensemble import ABSENT, LIMIT, Ensemble
from workers.uair.grids import Box, Crop, plan_crop
from workers.uair.lesion_maps import LEVELS
from workers.uair.outlines import OutlinePrompter, Outliner, Question, box_around, cells_in, led_by_outlines

DARK_HU = 80.0


class DensityOutlines:
    """Draws what is darker than `DARK_HU` in the box; notes what it is asked."""

    digest = "dd" * 32

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], bool]] = []

    def outline(
        self, hu: NDArray[Any], questions: Sequence[Question], cell_mm: float, step_mm: float
    ) -> NDArray[Any]:
        self.asked += [(hu.shape, question.known is not None) for question in questions]
        return np.stack([self._drawn(hu, question.box) for question in questions])

    def _drawn(self, hu: NDArray[Any], box: NDArray[Any]) -> NDArray[Any]:
        drawn = np.where(box & (hu < DARK_HU) & (hu > 0), 6.0, -6.0).astype(np.float32)
        return np.stack([drawn, drawn - 1, np.full_like(drawn, -6.0), drawn + 1])


def crop_of(cells: int = 64) -> Crop:
    return plan_crop(
        Box((4, 20, 20), (12, 40, 44)),
        (3.0, 1.5, 1.5),
        (20, 128, 128),
        pixels=256,
        cells=cells,
        margin=2.0,
        min_side_mm=50.0,
        step_mm=1.5,
    )


def box_mask(shape: tuple[int, ...], part: Any) -> NDArray[Any]:
    mask = np.zeros(shape, bool)
    mask[part] = True
    return mask


def test_the_network_keeps_the_grid_and_gives_all_its_answers() -> None:
    with torch.inference_mode():
        assert OutlineNet()(torch.zeros(1, CHANNELS, 8, 16, 24)).shape == (1, ANSWERS, 8, 16, 24)


@pytest.mark.parametrize("shape", [(1, 64, 64), (5, 64, 64), (9, 50, 43)])
def test_a_crop_of_any_size_is_answered_on_its_own_cells(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_weights(OutlineNet(), tmp_path / "w.safetensors")
    outliner = LearnedOutlines(torch.device("cpu"), tmp_path / "w.safetensors")
    hu = np.random.default_rng(0).normal(90, 20, shape).astype(np.float32)
    box = box_mask(shape, np.s_[:, 10:30, 12:30])
    alone = outliner.outline(hu, [Question(box)], 1.0, 3.0)
    assert alone.shape == (1, ANSWERS, *shape)
    both = outliner.outline(hu, [Question(box), Question(box, box.astype(np.float32))], 1.0, 3.0)
    np.testing.assert_allclose(both[0], alone[0], atol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-3, "an earlier outline matters"


def test_the_third_channel_is_relative_to_what_lies_around_the_box() -> None:
    hu = np.full((6, 32, 32), 100.0, np.float32)
    hu[2:4, 12:20, 12:20] = 60.0
    hu[:, :, 28:] = -900.0
    box = box_mask(hu.shape, np.s_[2:4, 12:20, 12:20])
    channels = to_outline_channels(hu, box, None, 1.2, 2.5)
    assert channels.shape == (CHANNELS, 6, 32, 32)
    np.testing.assert_allclose(channels[2, 3, 16, 16], -1.0)
    np.testing.assert_allclose(channels[2, 3, 2, 2], 0.0)
    np.testing.assert_array_equal(channels[4] > 0, box)
    assert not channels[5:].any(), "nothing known, cells and slices of the usual size"


def test_a_box_of_the_volume_becomes_the_cells_whose_centres_it_holds() -> None:
    crop = crop_of()
    inside = cells_in(Box((4, 20, 20), (12, 40, 44)), crop)
    extent = [int(inside.any(axis=others).sum()) for others in ((1, 2), (0, 2), (0, 1))]
    sizes = np.array(extent) * (crop.step_mm, crop.cell_mm, crop.cell_mm)
    np.testing.assert_allclose(sizes, (24.0, 30.0, 36.0), atol=1.2)
    assert cells_in(Box((4.0, 20.0, 20.0), (4.1, 20.1, 20.1)), crop).sum() == 1, "never empty"


def test_boxes_move_by_what_is_asked() -> None:
    mask = box_mask((12, 40, 40), np.s_[4:8, 10:20, 10:30])
    np.testing.assert_array_equal(box_around(mask), mask)
    grown = box_around(mask, 0.1)
    np.testing.assert_array_equal(grown, box_mask(mask.shape, np.s_[4:8, 9:21, 8:32]))
    faces = np.array([[0.0, 0.2, 0.0], [0.0, 0.0, -0.1]])
    np.testing.assert_array_equal(box_around(mask, faces), box_mask(mask.shape, np.s_[4:8, 8:20, 10:28]))
    with pytest.raises(ValueError, match="empty"):
        box_around(np.zeros((2, 4, 4), bool))


def test_of_a_whole_slice_only_the_boxs_surroundings_are_looked_at() -> None:
    crop = crop_of(cells=256)
    outliner = DensityOutlines()
    hu = np.full(crop.stack_shape, 100.0, np.float32)
    box = box_mask(hu.shape, np.s_[1:4, 200:220, 230:250])
    hu[box] = 50.0
    (logits,) = OutlinePrompter(outliner, crop, hu).drawn(Question(box))
    assert outliner.asked == [((len(hu), 64, 64), False)]
    assert (logits[0] > 0).sum() == box.sum()
    assert (logits[0][:, :100] == ABSENT).all()
    assert np.abs(logits[:, :, 190:230, 220:260]).max() <= LIMIT


def test_first_outlines_start_from_two_boxes_and_later_ones_from_what_was_selected_and_its_box() -> None:
    crop, outliner = crop_of(), DensityOutlines()
    hu = np.full(crop.stack_shape, 100.0, np.float32)
    box = box_mask(hu.shape, np.s_[2:6, 20:40, 20:40])
    hu[box] = 50.0
    sketch = OutlinePrompter(outliner, crop, hu)
    assert sketch.first(box, None, np.random.default_rng(0)).shape == (4, *hu.shape)
    assert [known for _, known in outliner.asked] == [False, False]
    outliner.asked.clear()
    reference = np.where(box, 3.0, -3.0).astype(np.float32)
    sketch.again(reference)
    assert [known for _, known in outliner.asked] == [True, False]


def test_a_pool_follows_the_first_outline_and_holds_all_that_show_something() -> None:
    pool = Ensemble(np.full((4, 2, 4, 4), -2.0, np.float32), np.array([0.1, 0.5, 0.7, 0.9], np.float32))
    outlines = np.stack([np.full((2, 4, 4), value, np.float32) for value in (4.0, -6.0, 1.0)])
    met = led_by_outlines(pool, outlines)
    np.testing.assert_array_equal(met.logits[:4, 0, 0, 0], (-2.0, 1.0, 1.0, 2.5))
    assert met.logits[-1, 0, 0, 0] == 1.0
    assert len(met.logits) == 4 + len(LEVELS) + 1, "an empty outline is no member"


def test_a_finders_map_leads_as_much_as_the_outline() -> None:
    pool = Ensemble(np.full((4, 2, 4, 4), -2.0, np.float32), np.ones(4, np.float32))
    outlines, seen = np.full((1, 2, 4, 4), 4.0, np.float32), np.full((2, 4, 4), -2.0, np.float32)
    met = led_by_outlines(pool, outlines, seen)
    np.testing.assert_allclose(met.logits[:4, 0, 0, 0], (-2.0, -0.5, -0.5, 0.25))
    assert met.logits[-1, 0, 0, 0] == 4.0


@pytest.fixture(scope="module")
def volume() -> tuple[NDArray[Any], NDArray[Any]]:
    return abdomen()


def engine(outliner: Outliner | None, rule: str = "medoids") -> Engine:
    """By the rule of members, which asks an outliner in every round; a belief asks none after the first."""
    options = EngineOptions(rule=rule)
    return Engine(
        DensityPredictor(), DensityLocalizer(), options, lesions=DensityLesions(), outliner=outliner
    )


def test_the_engine_asks_it_in_every_round_for_lesions_alone(
    volume: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    outliner = DensityOutlines()
    asked = engine(outliner)
    first = asked.first_round(volume[0], SPACING)
    lesions = len(first.state.targets) - 1
    assert lesions == len(LESIONS)
    assert len(outliner.asked) >= 2 * lesions
    liver, *others = first.state.targets
    assert len(liver.hu) == 0
    assert all(other.hu.shape == other.crop.stack_shape for other in others)
    outliner.asked.clear()
    asked.next_round(volume[0], SPACING, first.state, Feedback(picked=2))
    assert outliner.asked


def test_a_belief_asks_no_outliner_after_the_first_round(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    outliner = DensityOutlines()
    asked = engine(outliner, rule="belief")
    first = asked.first_round(volume[0], SPACING)
    assert outliner.asked
    outliner.asked.clear()
    asked.next_round(volume[0], SPACING, first.state, Feedback(picked=2))
    assert not outliner.asked


def test_what_it_draws_changes_candidates_and_the_models_digest(
    volume: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    with_it, without = engine(DensityOutlines()), engine(None)
    assert with_it.model_digest != without.model_digest
    first, other = (made.first_round(volume[0], SPACING) for made in (with_it, without))
    assert any((a.labels != b.labels).any() for a, b in zip(first.candidates, other.candidates, strict=True))


def test_a_lesion_without_densities_goes_on_without_it(volume: tuple[NDArray[Any], NDArray[Any]]) -> None:
    outliner = DensityOutlines()
    asked = engine(outliner)
    state = asked.first_round(volume[0], SPACING).state
    bare = tuple(replace(target, hu=target.hu[:0]) for target in state.targets)
    outliner.asked.clear()
    asked.next_round(volume[0], SPACING, replace(state, targets=bare), Feedback(picked=1))
    assert not outliner.asked


def test_an_evaluation_asks_the_same_only_once() -> None:
    inner = DensityOutlines()
    outliner = RememberingOutliner(inner)
    hu, box = np.full((2, 8, 8), 60.0, np.float32), box_mask((2, 8, 8), np.s_[:, 2:6, 2:6])
    first = outliner.outline(hu, [Question(box)], 1.0, 3.0)
    watch = Stopwatch(outliner)
    np.testing.assert_array_equal(outliner.outline(hu, [Question(box)], 1.0, 3.0), first)
    assert len(inner.asked) == 1
    assert watch.seconds >= outliner.saved_s > 0
    outliner._drawn.saved_s += 1000.0
    assert 1000.0 < watch.seconds < 1900.0
    assert Stopwatch(outliner).seconds < 900.0, "what was saved before does not count"
    outliner.outline(hu, [Question(box)], 1.0, 5.0)
    outliner.forget()
    outliner.outline(hu, [Question(box)], 1.0, 3.0)
    assert len(inner.asked) == 3
