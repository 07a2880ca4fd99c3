"""Training of the lesion outliner, a 3-D network that segments one lesion, on phantoms and real tumours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers.models.learned_outlines import LearnedOutlines
from workers.models.outline_net import OutlineNet
from workers.models.precision import half_precision
from workers.models.weights import OUTLINES_FILE, save_weights
from workers.models.windows import NEIGHBOUR_MM
from workers.phantoms import Phantom
from workers.research.training.geometries import GeometryCache
from workers.research.training.loop import train
from workers.research.training.losses import outline_loss
from workers.research.training.prepare import prepare, real_tumours
from workers.research.training.real_tumours import RealTumours
from workers.research.training.sampling.lesion_samples import CLIPPED
from workers.research.training.sampling.outline_prompts import OutlineSample
from workers.research.training.sampling.outline_samples import draw_outline_sample
from workers.research.training.sampling.real_outlines import draw_real_outline_sample
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport
from workers.truth.metrics import dice
from workers.uair.grids import bounding_box
from workers.uair.outlines import Question, cells_in
from workers.uair.targets import LESION_PLAN

BATCH_SIZE = 2
PIXELS, CELLS = 256, 64
"""Pixels and cells of the crops on which held-out lesions are measured."""
_NEVER = -30.0


def train_outlines(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the lesion outliner and write its weights.

    The network gives several alternative masks of a lesion. Two metrics are means over the lesions of
    held-out phantoms: Dice of the first mask, and Dice of the best mask. The prompt is the tight 3-D box of
    the lesion.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    cache, held_out = prepare(options, progress)
    task = OutlineTask(
        samples=OutlineBatches(
            cache,
            options.seed,
            options.batch_size or BATCH_SIZE,
            real_tumours(options, progress),
            options.real_share,
        ),
        held_out=held_out,
        device=options.device,
    )
    return train(task, options, progress)


@dataclass(frozen=True)
class OutlineBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: channels ``(B, 8, n, h, w)``, truth and weights ``(B, n, h, w)``.

    If there are real tumours, then the part `real_share` of the samples comes from them.
    """

    cache: GeometryCache
    seed: int
    batch_size: int
    real: RealTumours | None = None
    real_share: float = 0.0

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        samples = [self._sample(iteration, index) for index in range(self.batch_size)]
        parts = ((sample.channels, sample.truth, sample.counts) for sample in samples)
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))

    def _sample(self, iteration: int, index: int) -> OutlineSample:
        rng = np.random.default_rng([self.seed, iteration, index])
        if self.real is not None and rng.random() < self.real_share:
            return draw_real_outline_sample(self.real, rng)
        clipped = 0.0 if self.real is None else CLIPPED
        return draw_outline_sample(self.cache.subject(int(rng.integers(self.cache.count))), rng, clipped)


@dataclass(frozen=True)
class OutlineTask:
    """The training of `OutlineNet` with Dice and focal loss. The best alternative mask counts most."""

    samples: OutlineBatches
    held_out: tuple[Phantom, ...]
    device: str
    peak_rate: float = 3e-3
    warm_up: int = 100
    weight_decay: float = 0.01
    averaging: float = 0.995

    def network(self) -> OutlineNet:
        """Return the network with random weights."""
        return OutlineNet()

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch. A step has no random part.

        Convolutions run in bfloat16 (half the time or less, if the processor multiplies such matrices).
        """
        channels, truth, counts = batch
        with half_precision(self.device):
            raw = network(channels)
        logits = torch.where(
            counts[:, None] > 0, raw.float(), torch.full_like(raw, _NEVER, dtype=torch.float32)
        )
        with torch.no_grad():
            inside, wanted = logits > 0, truth[:, None] > 0.5
            shared = 2 * (inside & wanted).flatten(2).sum(2) + 1
            scores = shared / (inside.flatten(2).sum(2) + wanted.flatten(2).sum(2) + 1)
            figures = {"dice": float(scores[:, 0].mean()), "best": float(scores.max(dim=1).values.mean())}
        return Step(outline_loss(logits, truth), figures)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return metrics of `LearnedOutlines` with these weights, measured on the held-out phantoms."""
        if not self.held_out:
            return {}
        with TemporaryDirectory() as folder:
            path = Path(folder) / OUTLINES_FILE
            save_weights(network, path)
            outliner = LearnedOutlines(torch.device(self.device), path)
        scores = [score for phantom in self.held_out for score in _scores(outliner, phantom)]
        return {
            "dice": float(np.mean([score[0] for score in scores])),
            "best": float(np.mean([max(score) for score in scores])),
        }


def _scores(outliner: LearnedOutlines, phantom: Phantom) -> list[list[float]]:
    """Return for each lesion the Dice of every alternative mask. The prompt is the lesion's tight 3-D box."""
    found: list[list[float]] = []
    for record in phantom.meta.lesions:
        truth = phantom.labels == 1 + record.number
        box = bounding_box(truth)
        if box is None:
            continue
        crop = LESION_PLAN.crop(box, phantom.spacing_mm, truth.shape, pixels=PIXELS, cells=CELLS)
        cells = crop.cell_means(crop.images(phantom.hu, NEIGHBOUR_MM)[0])
        asked = [Question(cells_in(box, crop))]
        (answers,) = outliner.outline(cells, asked, crop.cell_mm, crop.step_mm)
        found.append([])
        for logits in answers:
            region, values = crop.to_volume(logits)
            drawn = np.zeros(truth.shape, bool)
            drawn[region] = values > 0
            found[-1].append(dice(drawn, truth))
    return found
