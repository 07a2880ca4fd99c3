"""Training of the liver localizer on phantoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers.models.learned_localizer import LearnedLocalizer
from workers.models.localizer_net import LocalizerNet
from workers.models.precision import half_precision
from workers.models.weights import LOCALIZER_FILE, save_weights
from workers.phantoms import Phantom
from workers.phantoms.fields import Floats
from workers.research.training.geometries import GeometryCache
from workers.research.training.loop import train
from workers.research.training.prepare import prepare
from workers.research.training.sampling.localizer_samples import HEIGHTS, draw_localizer_sample
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport
from workers.truth.metrics import dice
from workers.uair.grids import Box
from workers.uair.localize import Location

BATCH_SIZE = 2
# Added to numerator and denominator of the Dice quotient, in voxels. So volumes with little liver count less.
_DICE_SMOOTHING = 50.0


def train_localizer(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the localizer and write its weights.

    The metrics are means over held-out phantoms. They are Dice of the coarse mask, the part of the liver
    inside the box, and the error of the lower end. This error is the distance in mm between the lower ends of
    the coarse mask and of the liver.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    cache, held_out = prepare(options, progress)
    task = LocalizerTask(
        samples=LocalizerBatches(cache, options.seed, options.batch_size or BATCH_SIZE),
        held_out=held_out,
        device=options.device,
    )
    return train(task, options, progress)


@dataclass(frozen=True)
class LocalizerBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: channels ``(B, 2, Z, Y, X)`` and liver ``(B, Z, Y, X)``."""

    cache: GeometryCache
    seed: int
    batch_size: int

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        height = int(np.random.default_rng([self.seed, iteration]).choice(HEIGHTS))
        parts = (self._sample(iteration, index, height) for index in range(self.batch_size))
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))

    def _sample(self, iteration: int, index: int, height: int) -> tuple[Floats, Floats]:
        rng = np.random.default_rng([self.seed, iteration, index])
        subject = self.cache.subject(int(rng.integers(self.cache.count)))
        drawn = draw_localizer_sample(subject, rng, height)
        return drawn.channels, drawn.liver


@dataclass(frozen=True)
class LocalizerTask:
    """The training of `LocalizerNet`: cross-entropy and Dice over the batch."""

    samples: LocalizerBatches
    held_out: tuple[Phantom, ...]
    device: str
    peak_rate: float = 3e-3
    warm_up: int = 30
    weight_decay: float = 0.01
    averaging: float = 0.99

    def network(self) -> LocalizerNet:
        """Return the network with random weights."""
        return LocalizerNet()

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch. A step has no random part.

        Convolutions run in bfloat16, as in the training of the lesion finder.
        """
        channels, liver = batch
        with half_precision(self.device):
            raw = network(channels)
        logits = raw.float()
        probability = logits.sigmoid()
        shared = 2 * (probability * liver).sum() + _DICE_SMOOTHING
        soft_dice = shared / ((probability + liver).sum() + _DICE_SMOOTHING)
        entropy = functional.binary_cross_entropy_with_logits(logits, liver)
        inside, truth = logits.detach() > 0, liver > 0.5
        voxels = inside.sum() + truth.sum()
        figures = {"dice": float(2 * (inside & truth).sum() / voxels.clamp(min=1))}
        return Step(entropy + 1 - soft_dice, figures)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return metrics of `LearnedLocalizer` with these weights, measured on the held-out phantoms."""
        if not self.held_out:
            return {}
        with TemporaryDirectory() as folder:
            path = Path(folder) / LOCALIZER_FILE
            save_weights(network, path)
            localizer = LearnedLocalizer(torch.device(self.device), path)
        scores = [_score(localizer.locate(case.hu, case.spacing_mm), case) for case in self.held_out]
        coarse, covered, lower = np.mean(scores, axis=0)
        return {"coarse_dice": float(coarse), "in_box": float(covered), "lower_face_mm": float(lower)}


def _score(location: Location | None, phantom: Phantom) -> tuple[float, float, float]:
    """Return Dice of the coarse mask, the part of the liver inside the box, and the error of the lower end.

    The error is the distance in mm between the lower ends of the coarse mask and of the liver. If no liver
    was found, then the error is the liver's height.
    """
    liver = phantom.labels > 0
    step = phantom.spacing_mm[0]
    slices = np.flatnonzero(liver.any(axis=(1, 2)))
    if location is None:
        return 0.0, 0.0, len(slices) * step
    z, y, x = (np.arange(n, dtype=np.float64) + 0.5 for n in liver.shape)
    coarse = location.coarse.at(z, y, x) > 0.5
    found = np.flatnonzero(coarse.any(axis=(1, 2)))
    lower = abs(int(found[0]) - int(slices[0])) * step
    box: Box = location.box
    return dice(coarse, liver), float(liver[box.outer(liver.shape)].sum() / liver.sum()), lower
