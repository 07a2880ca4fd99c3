"""Self-supervised training of the coordinate network on phantoms (MedLSAM, Lei et al. 2025, section 3).

There are two losses. The first loss compares the difference of two patches' predicted coordinates with their
true offset in mm (relative distance regression). For the second loss, a point must be more similar to the
same point in another examination than to the neighbours of this point. Organ labels are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers.models.coordinate_net import CoordinateNet
from workers.phantoms.geometry import training_geometry
from workers.research.training.geometries import GeometryCache, Subject
from workers.research.training.loop import train
from workers.research.training.prepare import FIRST_SEED, filled_cache
from workers.research.training.sampling.coordinate_samples import (
    APART,
    CoordinateSample,
    ExaminedBody,
    draw_body,
    draw_coordinate_sample,
)
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport

BATCH_SIZE = 2
_KEPT_IN_MEMORY = 200  # 4 MB each
_TEMPERATURE = 0.07
_TOLERANCE_MM = 10.0


def train_coordinates(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the coordinate network and write its weights. New weights need new templates.

    The metrics are means over samples of anatomies that are not used for training. The first metric is the
    error of an offset in mm. The second metric is the part of the points that are recognised among 64 points
    of another examination.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    cache = filled_cache(options, progress)
    task = CoordinateTask(
        samples=CoordinateBatches(cache, options.seed, options.batch_size or BATCH_SIZE),
        held_out=_held_out_samples(options.held_out),
        device=options.device,
    )
    return train(task, options, progress)


@dataclass(frozen=True)
class CoordinateBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: the arrays of `CoordinateSample` with a batch axis in front."""

    cache: GeometryCache
    seed: int
    batch_size: int

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        return _collated([self._sample(iteration, index) for index in range(self.batch_size)])

    def _sample(self, iteration: int, index: int) -> CoordinateSample:
        rng = np.random.default_rng([self.seed, iteration, index])
        geometry = int(rng.integers(self.cache.count))
        return draw_coordinate_sample(_body(self.cache, self.seed, geometry), rng)


@lru_cache(maxsize=_KEPT_IN_MEMORY)
def _body(cache: GeometryCache, seed: int, geometry: int) -> ExaminedBody:
    """Return a body of a training run. Bodies are cached, because drawing a body takes longer than a step."""
    return draw_body(cache.subject(geometry), np.random.default_rng([seed, geometry, 5]))


@dataclass(frozen=True)
class CoordinateTask:
    """The training of `CoordinateNet`."""

    samples: CoordinateBatches
    held_out: tuple[tuple[Tensor, ...], ...]
    device: str
    peak_rate: float = 2e-3
    warm_up: int = 30
    weight_decay: float = 0.01
    averaging: float = 0.99

    def network(self) -> CoordinateNet:
        """Return the network with random weights."""
        return CoordinateNet()

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch. A step has no random part."""
        errors, similarity = _answers(network, batch)
        distance = functional.smooth_l1_loss(errors / _TOLERANCE_MM, torch.zeros_like(errors))
        own = torch.arange(similarity.shape[-1], device=similarity.device).expand(similarity.shape[:-1])
        contrast = functional.cross_entropy((similarity / _TEMPERATURE).flatten(0, -2), own.flatten())
        return Step(distance + contrast, _figures(errors.detach(), similarity.detach()))

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return the metrics on held-out samples."""
        if not self.held_out:
            return {}
        with torch.inference_mode():
            found = [_figures(*_answers(network, batch)) for batch in self.held_out]
        return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}


def _answers(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return the errors ``(B, n, n, 3)`` of offsets in mm, and similarities ``(B * blocks, p, p)`` of points.

    Row i, column j compares point i of the first examination with point j of the second examination.
    """
    patches, centres, first, second = batch
    blocks = torch.cat([first.flatten(0, 1), second.flatten(0, 1)])
    found, features = network(patches.flatten(0, 1), blocks)
    beside = found.view(centres.shape) - centres
    errors = beside[:, :, None] - beside[:, None, :]
    there, again = features[:, :, ::APART, ::APART, ::APART].flatten(2).chunk(2)
    return errors, there.transpose(1, 2) @ again


def _figures(errors: Tensor, similarity: Tensor) -> dict[str, float]:
    own = torch.arange(similarity.shape[-1], device=similarity.device)
    told = (similarity.argmax(dim=-1) == own).float().mean()
    count = errors.shape[1]
    apart = errors.norm(dim=-1).sum() / (errors.shape[0] * count * (count - 1))
    return {"offset_mm": float(apart), "told_apart": float(told)}


def _collated(samples: list[CoordinateSample]) -> tuple[Tensor, ...]:
    parts = ((sample.patches, sample.centres, sample.first, sample.second) for sample in samples)
    return tuple(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))


def _held_out_samples(count: int) -> tuple[tuple[Tensor, ...], ...]:
    """Draw samples of anatomies that no training uses. The samples are the same for every training seed."""
    samples = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = np.random.default_rng([seed, 3])
        body = draw_body(Subject(training_geometry(seed)), rng)
        samples.append(_collated([draw_coordinate_sample(body, rng)]))
    return tuple(samples)
