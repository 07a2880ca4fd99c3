"""Training of the networks that label whole slices, on the same phantoms as the promptable model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers.models.slice_networks import SliceNetwork, build_slice_network
from workers.phantoms import Phantom
from workers.research.training.geometries import GeometryCache
from workers.research.training.loop import train
from workers.research.training.prepare import prepare
from workers.research.training.sampling.slice_samples import LESION, SliceSample, draw_slice_sample
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport
from workers.truth.metrics import dice

BATCH_SIZE = 6


def train_slice_network(
    name: str, options: TrainOptions, progress: ProgressCallback | None = None
) -> TrainReport:
    """Train a network of `build_slice_network` and write its weights.

    The metrics are means over held-out phantoms: Dice of the liver and, if there are lesions, Dice of the
    union of all lesions.

    Raises
    ------
    ConfigError
        ``evaluate-extra-missing``: MONAI is not installed. ``training-checkpoint``: as for `train`.
    """
    build_slice_network(name)
    cache, held_out = prepare(options, progress)
    samples = SliceBatches(cache, options.seed, options.batch_size or BATCH_SIZE)
    return train(SliceTask(name, samples, held_out, options.device), options, progress)


@dataclass(frozen=True)
class SliceBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: images ``(B, 3, 256, 256)`` and classes ``(B, 1, 256, 256)``."""

    cache: GeometryCache
    seed: int
    batch_size: int

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        samples = [self._sample(iteration, index) for index in range(self.batch_size)]
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))
        return images, torch.from_numpy(np.stack([sample.classes for sample in samples]))[:, None].long()

    def _sample(self, iteration: int, index: int) -> SliceSample:
        rng = np.random.default_rng([self.seed, iteration, index])
        return draw_slice_sample(self.cache.subject(int(rng.integers(self.cache.count))), rng)


@dataclass(frozen=True)
class SliceTask:
    """The training of a slice network. The loss is MONAI's sum of cross-entropy and Dice over the batch."""

    name: str
    samples: SliceBatches
    held_out: tuple[Phantom, ...]
    device: str
    peak_rate: float = 2e-3
    warm_up: int = 50
    weight_decay: float = 0.01
    averaging: float = 0.99
    loss: nn.Module = field(default_factory=lambda: _loss())

    def network(self) -> nn.Module:
        """Return the network with random weights."""
        return build_slice_network(self.name)

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch. A step has no random part."""
        images, classes = batch
        logits = network(images)
        found = logits.detach().argmax(dim=1, keepdim=True)
        figures = {
            "liver_dice": _batch_dice(found > 0, classes > 0),
            "lesion_dice": _batch_dice(found == LESION, classes == LESION),
        }
        return Step(self.loss(logits, classes), figures)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return the mean Dice of liver and lesions on the held-out cases."""
        if not self.held_out:
            return {}
        segmenter = SliceNetwork(network, torch.device(self.device))
        pairs = [(segmenter.segment(case.hu, case.spacing_mm), case.labels) for case in self.held_out]
        figures = {"liver_dice": float(np.mean([dice(ours > 0, truth > 0) for ours, truth in pairs]))}
        tumours = [dice(ours > 1, truth > 1) for ours, truth in pairs if (truth > 1).any()]
        return figures | ({"tumour_dice": float(np.mean(tumours))} if tumours else {})


def _loss() -> nn.Module:
    from monai.losses import DiceCELoss

    loss: nn.Module = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    return loss


def _batch_dice(found: Tensor, wanted: Tensor) -> float:
    total = found.sum() + wanted.sum()
    return float(2 * (found & wanted).sum() / total.clamp(min=1))
