"""Training: learns, writes loadable weights, and resumes to the very numbers of an uninterrupted run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset

from dicom_config.errors import ConfigError
from tests.support.real_pairs import write_pair
from workers.models.embedded import EmbeddedSam
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_lesions import LearnedLesions
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.learned_outlines import LearnedOutlines
from workers.models.template_localizer import CoordinateEncoder
from workers.phantoms import make_phantom
from workers.research.training.coordinates import CoordinateBatches, CoordinateTask, train_coordinates
from workers.research.training.geometries import GeometryCache
from workers.research.training.lesions import LesionBatches, LesionTask, train_lesions
from workers.research.training.localizer import LocalizerBatches, LocalizerTask, train_localizer
from workers.research.training.loop import learning_rate, train
from workers.research.training.outlines import OutlineBatches, OutlineTask, train_outlines
from workers.research.training.sam import SamBatches, SamTask, train_sam
from workers.research.training.training_run import Progress, TrainOptions


class OneBatch(Dataset[tuple[torch.Tensor, ...]]):
    """The same batch in every step."""

    def __init__(self, batches: Dataset[tuple[torch.Tensor, ...]]) -> None:
        self.batch = batches[0]

    def __getitem__(self, iteration: int) -> tuple[torch.Tensor, ...]:
        return self.batch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> GeometryCache:
    cache = GeometryCache(tmp_path_factory.mktemp("geometries"), 1)
    cache.fill()
    return cache


def options_for(folder: Path, cache: GeometryCache, iterations: int) -> TrainOptions:
    return TrainOptions(
        output=folder / "weights.safetensors",
        cache=cache.folder,
        iterations=iterations,
        batch_size=1,
        geometries=1,
        held_out=0,
        loaders=0,
        report_every=1,
        checkpoint_every=1,
    )


class InterruptedError(Exception):
    """The exception that ends a run early in these tests."""


def interrupt_after(iteration: int) -> Callable[..., Any]:
    def tell(progress: Progress) -> None:
        if progress.iteration == iteration:
            raise InterruptedError

    return tell


def test_the_promptable_model_learns_a_batch(cache: GeometryCache, tmp_path: Path) -> None:
    phantom = make_phantom(4, size="small")
    samples = OneBatch(SamBatches(cache, seed=0, batch_size=1))
    task = SamTask(samples, (phantom,), "cpu", warm_up=1, peak_rate=5e-4)
    report = train(task, options_for(tmp_path, cache, 8))
    losses = [event.loss for event in report.history if not event.held_out]
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert set(report.figures) == {"liver_dice", "lesion_dice"}


def test_the_localizer_learns_a_batch(cache: GeometryCache, tmp_path: Path) -> None:
    phantom = make_phantom(4, size="small")
    samples = OneBatch(LocalizerBatches(cache, seed=0, batch_size=1))
    task = LocalizerTask(samples, (phantom,), "cpu", warm_up=1)
    report = train(task, options_for(tmp_path, cache, 5))
    losses = [event.loss for event in report.history if not event.held_out]
    assert losses[-1] < 0.9 * losses[0]
    assert set(report.figures) == {"coarse_dice", "in_box", "lower_face_mm"}


def test_the_coordinate_network_learns_a_batch(cache: GeometryCache, tmp_path: Path) -> None:
    """Offsets within a body, and places told apart in another phase."""
    samples = OneBatch(CoordinateBatches(cache, seed=0, batch_size=1))
    task = CoordinateTask(samples, (CoordinateBatches(cache, seed=1, batch_size=1)[0],), "cpu", warm_up=1)
    report = train(task, options_for(tmp_path, cache, 12))
    seen = [event for event in report.history if not event.held_out]
    assert seen[-1].loss < 0.6 * seen[0].loss
    assert seen[-1].figures["offset_mm"] < 0.6 * seen[0].figures["offset_mm"]
    assert set(report.figures) == {"offset_mm", "told_apart"}


def test_the_lesion_finder_learns_a_batch(cache: GeometryCache, tmp_path: Path) -> None:
    phantom = make_phantom(4, size="small")
    samples = OneBatch(LesionBatches(cache, seed=0, batch_size=1))
    task = LesionTask(samples, (phantom,), "cpu", warm_up=1)
    report = train(task, options_for(tmp_path, cache, 6))
    losses = [event.loss for event in report.history if not event.held_out]
    assert losses[-1] < 0.9 * losses[0]
    assert set(report.figures) == {"liver_dice", "lesion_dice", "recall", "false_findings"}


def test_the_outliner_learns_and_is_measured_by_tight_boxes(cache: GeometryCache, tmp_path: Path) -> None:
    held_out = (make_phantom(3, size="small"),)
    samples = OneBatch(OutlineBatches(cache, seed=0, batch_size=1))
    task = OutlineTask(samples=samples, held_out=held_out, device="cpu")
    report = train(task, options_for(tmp_path, cache, 12))
    losses = [event.loss for event in report.history if not event.held_out]
    assert losses[-1] < 0.9 * losses[0]
    assert 0.0 <= report.figures["dice"] <= report.figures["best"] <= 1.0


@pytest.mark.parametrize(
    "train_network", [train_sam, train_localizer, train_coordinates, train_lesions, train_outlines]
)
def test_a_resumed_run_ends_with_the_numbers_of_an_uninterrupted_one(
    train_network: Callable[..., Any], cache: GeometryCache, tmp_path: Path
) -> None:
    whole = options_for(tmp_path / "whole", cache, 3)
    report = train_network(whole)
    parted = options_for(tmp_path / "parted", cache, 3)
    with pytest.raises(InterruptedError):
        train_network(parted, interrupt_after(2))
    resumed = train_network(replace(parted, resume=True))
    first_loss = next(event for event in resumed.history)
    assert first_loss.iteration == 2, "goes on after the checkpoint of step 1"
    assert [event.loss for event in resumed.history if not event.held_out] == [
        event.loss for event in report.history[1:] if not event.held_out
    ]
    ours, theirs = load_file(whole.output), load_file(parted.output)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_are_those_that_inference_loads(cache: GeometryCache, tmp_path: Path) -> None:
    options = options_for(tmp_path, cache, 0)
    train_sam(options)
    assert EmbeddedPredictor(torch.device("cpu"), options.output).name == "embedded"
    train_localizer(replace(options, output=tmp_path / "localizer.safetensors"))
    assert LearnedLocalizer(torch.device("cpu"), tmp_path / "localizer.safetensors").digest
    train_coordinates(replace(options, output=tmp_path / "coordinates.safetensors"))
    assert CoordinateEncoder(torch.device("cpu"), tmp_path / "coordinates.safetensors").digest
    train_lesions(replace(options, output=tmp_path / "lesions.safetensors"))
    assert LearnedLesions(torch.device("cpu"), tmp_path / "lesions.safetensors").digest
    train_outlines(replace(options, output=tmp_path / "outlines.safetensors"))
    assert LearnedOutlines(torch.device("cpu"), tmp_path / "outlines.safetensors").digest


def test_a_run_can_start_from_given_weights(cache: GeometryCache, tmp_path: Path) -> None:
    options = options_for(tmp_path, cache, 0)
    train_sam(options)
    other_seed = replace(options, seed=9, output=tmp_path / "second.safetensors")
    train_sam(replace(other_seed, initial_weights=options.output))
    ours, theirs = load_file(options.output), load_file(other_seed.output)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_of_another_run_is_refused(cache: GeometryCache, tmp_path: Path) -> None:
    options = options_for(tmp_path, cache, 0)
    train_localizer(options)
    with pytest.raises(ConfigError) as refused:
        train_localizer(replace(options, iterations=7, resume=True))
    assert refused.value.code == "training-checkpoint"


@pytest.mark.parametrize("length", [{}, {"iterations": 5, "minutes": 1.0}])
def test_the_length_must_be_clear(length: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        TrainOptions(output=tmp_path / "w.safetensors", cache=tmp_path, **length)
    assert refused.value.code == "training-length"


def test_a_run_by_the_clock_ends(cache: GeometryCache, tmp_path: Path) -> None:
    options = replace(options_for(tmp_path, cache, 1), iterations=None, minutes=0.005)
    report = train_localizer(options)
    assert report.iterations > 0
    assert report.history[-1].fraction == 1.0


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    rates = [learning_rate(1.0, 10, i, i / 100) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert all(b < a for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.02)


def test_batches_differ_between_steps_and_seeds(cache: GeometryCache) -> None:
    batches = SamBatches(cache, seed=0, batch_size=1)
    assert torch.equal(batches[3][0], batches[3][0])
    assert not torch.equal(batches[3][0], batches[4][0])
    assert not torch.equal(batches[3][0], SamBatches(cache, seed=1, batch_size=1)[3][0])


def test_the_mask_prompt_step_sees_the_first_answer(cache: GeometryCache) -> None:
    """A step's random choices come from its generator alone, so equal generators give equal losses."""
    task = SamTask(SamBatches(cache, 0, 1), (), "cpu")
    torch.manual_seed(0)
    network = EmbeddedSam()
    batch = SamBatches(cache, 0, 1)[0]
    losses = [task.step(network, batch, torch.Generator().manual_seed(seed)).loss for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_run_in_chunks_keeps_its_schedule_and_ends_with_the_same_weights(
    cache: GeometryCache, tmp_path: Path
) -> None:
    whole = options_for(tmp_path / "whole", cache, 3)
    train_localizer(whole)
    parted = options_for(tmp_path / "parted", cache, 3)
    with pytest.raises(InterruptedError):
        train_localizer(parted, interrupt_after(2))
    chunk = train_localizer(replace(parted, resume=True, chunk_minutes=0.0))
    assert not chunk.finished
    assert chunk.iterations == 1
    assert not parted.output.exists()
    assert train_localizer(replace(parted, resume=True)).finished
    ours, theirs = load_file(whole.output), load_file(parted.output)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_lesion_finder_learns_from_real_pairs_too_and_resumes_on_them_alone(
    cache: GeometryCache, tmp_path: Path
) -> None:
    pytest.importorskip("nibabel")
    real, other = tmp_path / "real", tmp_path / "other"
    for folder, flips in ((real, ()), (other, (0,))):
        folder.mkdir()
        write_pair(folder, "case", flips=flips)
    options = replace(options_for(tmp_path, cache, 2), real=real, real_share=1.0)
    report = train_lesions(options)
    assert report.finished
    assert LearnedLesions(torch.device("cpu"), options.output).digest
    with pytest.raises(ConfigError) as refused:
        train_lesions(replace(options, resume=True, real=other))
    assert refused.value.code == "training-checkpoint"


def test_other_weights_are_blended_into_those_that_are_written(cache: GeometryCache, tmp_path: Path) -> None:
    other = replace(options_for(tmp_path / "other", cache, 0), seed=5)
    train_localizer(other)
    options = options_for(tmp_path / "run", cache, 2)
    train_localizer(options)
    blended = replace(options, blend_with=other.output, output=tmp_path / "blended" / "weights.safetensors")
    train_localizer(blended)
    theirs, ours, met = (load_file(run.output) for run in (other, options, blended))
    for name in met:
        assert torch.allclose(met[name], 0.25 * theirs[name] + 0.75 * ours[name], atol=1e-6)


@pytest.mark.parametrize("part", [0.0, 1.0, -0.5])
def test_a_part_that_is_none_cannot_be_blended(cache: GeometryCache, tmp_path: Path, part: float) -> None:
    with pytest.raises(ConfigError) as refused:
        replace(options_for(tmp_path, cache, 1), blend_part=part)
    assert refused.value.code == "training-blend"
