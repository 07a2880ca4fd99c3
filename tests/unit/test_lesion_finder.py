"""The learned lesion finder: its network's shapes, pieces of its map, and what the engine makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tests.support.synthetic import (
    LESIONS,
    SPACING,
    DensityLesions,
    DensityLocalizer,
    DensityPredictor,
    Lesion,
    abdomen,
    ball,
)
from workers.engine import Engine, EngineOptions, Round
from workers.models.learned_lesions import LearnedLesions
from workers.models.lesion_net import LesionNet, folded, unfolded
from workers.models.weights import save_weights
from workers.models.windows import to_lesion_channels
from workers.uair.ensemble import Ensemble
from workers.uair.grids import Box
from workers.uair.lesion_maps import LEVELS, LesionMaps, led, pieces_of
from workers.uair.localize import CoarseMap

STEP = 3.0


def engine(lesions: Any = None) -> Engine:
    return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(), lesions=lesions)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def blob(
    centre_mm: Sequence[float], radius_mm: float, probability: Any, shape: tuple[int, ...] = (20, 20, 20)
) -> NDArray[Any]:
    return ball(shape, (STEP,) * 3, centre_mm, (radius_mm,) * 3) * np.float32(probability)


def a_map(probability: Any) -> CoarseMap:
    return CoarseMap(probability.astype(np.float32), STEP, (3.0, 1.5, 1.5), (10.0, 20.0, 40.0))


def test_folding_loses_nothing() -> None:
    volume = torch.randn(2, 3, 4, 6, 8)
    assert folded(volume).shape == (2, 24, 2, 3, 4)
    assert torch.equal(unfolded(folded(volume)), volume)


def test_the_network_keeps_the_grid() -> None:
    with torch.inference_mode():
        assert LesionNet()(torch.zeros(1, 5, 16, 24, 8)).shape == (1, 2, 16, 24, 8)


def test_channels_do_not_depend_on_the_livers_density_but_for_the_first() -> None:
    hu = np.random.default_rng(0).normal(60, 20, (8, 8, 8)).astype(np.float32)
    first, other = to_lesion_channels(hu, 60.0), to_lesion_channels(hu + 40, 100.0)
    np.testing.assert_allclose(first[1:], other[1:], atol=1e-5)
    assert np.abs(first[0] - other[0]).max() > 0.05


def test_each_piece_of_the_map_is_a_proposal_surest_first() -> None:
    found = pieces_of(a_map(blob((15, 15, 15), 8, 0.7) + blob((45, 45, 40), 6, 0.9)))
    assert [round(entry.score, 1) for entry in found] == [0.9, 0.7]
    assert found[0].volume_ml == pytest.approx(0.9, abs=0.2)
    centre = [(a + b) / 2 for a, b in zip(found[0].box.start, found[0].box.stop, strict=True)]
    np.testing.assert_allclose(centre, (10 + 15, 20 + 30, 40 + 40 / 1.5), atol=1.0)


def test_a_faint_piece_is_proposed_and_its_outline_lies_at_one_half() -> None:
    found = pieces_of(a_map(blob((30, 30, 30), 9, 0.35)))
    assert len(found) == 1
    assert (found[0].outline.probability > 0.5).sum() * STEP**3 / 1000 == pytest.approx(found[0].volume_ml)


def test_touching_lesions_are_told_apart_but_a_mosaic_is_not() -> None:
    bridge = ball((20, 20, 20), (STEP,) * 3, (30, 30, 30), (5, 5, 14)) * np.float32(0.6)
    two = np.maximum(blob((30, 30, 18), 8, 0.95), blob((30, 30, 44), 8, 0.95))
    assert len(pieces_of(a_map(np.maximum(two, bridge)))) == 2
    speck = np.maximum(blob((30, 30, 30), 15, 0.7), blob((30, 30, 20), 3, 0.95))
    assert len(pieces_of(a_map(speck))) == 1


def test_members_follow_the_map_in_turn_and_the_map_joins_them() -> None:
    answers = np.full((5, 1, 2, 2), 4.0, np.float32)
    learned = np.full((1, 2, 2), -2.0, np.float32)
    pool = led(Ensemble(answers, np.linspace(0.5, 0.9, 5, dtype=np.float32)), learned, (0.0, 0.5, 0.75))
    parts = [float(logits[0, 0, 0]) for logits in pool.logits]
    assert parts == pytest.approx([4.0, 1.0, -0.5, 4.0, 1.0, *(-2.0 + level for level in LEVELS)])
    np.testing.assert_allclose(pool.quality, [0.5, 0.6, 0.7, 0.8, 0.9, 0.7, 0.7, 0.7])


def test_noise_is_no_proposal() -> None:
    noise = np.zeros((20, 20, 20))
    noise[4, 4, 4] = noise[8, 9, 10] = 0.9
    assert pieces_of(a_map(noise)) == []


def test_the_finder_answers_on_the_volumes_grid(tmp_path: Path) -> None:
    hu, _ = abdomen()
    torch.manual_seed(0)
    save_weights(LesionNet(), tmp_path / "w.safetensors")
    finder = LearnedLesions(torch.device("cpu"), tmp_path / "w.safetensors")
    around = Box((5.0, 20.0, 10.0), (35.0, 120.0, 130.0))
    maps = finder.search(hu, SPACING, around, 105.0)
    for entry in (maps.liver, maps.lesions):
        assert entry.origin == around.start
        reach = np.array(entry.probability.shape) * STEP - (30 * 4.0, 100 * 1.6, 120 * 1.6)
        assert (np.abs(reach) <= STEP).all()
        assert 0 <= entry.probability.min() <= entry.probability.max() <= 1


def test_the_digest_names_the_finder_too() -> None:
    assert engine(DensityLesions()).model_digest != engine().model_digest


def test_the_engine_finds_lesions_by_the_map() -> None:
    hu, truth = abdomen()
    found = engine(DensityLesions()).first_round(hu, SPACING)
    for number in range(1, len(LESIONS) + 1):
        drawn = [
            dice(candidate.labels == value, truth == 1 + number)
            for candidate in found.candidates
            for value in found.targets[1:]
        ]
        assert max(drawn) > 0.75


def test_a_large_lesion_at_the_surface_stays() -> None:
    """Half of its surface lies outside: the liver's mask leaves it out, the map does not."""
    lesion = Lesion((85.0, 78.0, 72.0), 27.0, hu=72)
    hu, truth = abdomen((lesion,))
    found = engine(DensityLesions(darkest=56.0, reach=12)).first_round(hu, SPACING)
    volume = (truth == 2).sum() * np.prod(SPACING) / 1000
    assert volume > 40
    assert max(dice(c.labels > 1, truth == 2) for c in found.candidates) > 0.7


def test_what_only_density_shows_is_no_lesion_beside_a_map() -> None:
    class LiverOnly(DensityLesions):
        def search(
            self, hu: NDArray[Any], spacing: Sequence[float], around: Box, liver_hu: float
        ) -> LesionMaps:
            maps = super().search(hu, spacing, around, liver_hu)
            return replace(maps, lesions=replace(maps.lesions, probability=0 * maps.lesions.probability))

    hu, truth = abdomen()
    by_density = engine().first_round(hu, SPACING)
    by_map = engine(LiverOnly()).first_round(hu, SPACING)
    core = ndimage.binary_erosion(truth > 1)

    def drawn(found: Round) -> float:
        return max((candidate.labels[core] > 1).mean() for candidate in found.candidates)

    assert drawn(by_density) > 0.5
    assert drawn(by_map) == 0


def test_the_map_decides_where_the_model_errs() -> None:
    """The liver that a map knows is among the four, however the model leaks or misses."""

    class Blind(DensityPredictor):
        tolerances = (6.0, 5.0, 7.0, 8.0)

    hu, truth = abdomen()

    def best(lesions: Any) -> float:
        found = Engine(Blind(), DensityLocalizer(), EngineOptions(), lesions=lesions).first_round(hu, SPACING)
        return max(dice(candidate.labels > 0, truth > 0) for candidate in found.candidates)

    assert best(DensityLesions()) > best(None) + 0.02


def test_a_liver_without_lesions_has_none() -> None:
    hu, _ = abdomen(lesions=())
    found = engine(DensityLesions()).first_round(hu, SPACING)
    assert any(not (candidate.labels > 1).any() for candidate in found.candidates)
