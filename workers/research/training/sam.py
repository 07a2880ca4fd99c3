"""Training of the embedded promptable model on phantoms."""

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

from workers.models.embedded import INPUT_SIZE, MASK_SIZE, TOKEN_COUNT, EmbeddedSam
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.weights import EMBEDDED_FILE, save_weights
from workers.phantoms import Phantom
from workers.research.evaluation.baselines import segment_by_tight_boxes
from workers.research.training.geometries import GeometryCache
from workers.research.training.loop import train
from workers.research.training.losses import correction_click, mask_loss
from workers.research.training.prepare import prepare
from workers.research.training.sampling.sam_samples import SamSample, draw_sam_sample
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport
from workers.truth.metrics import dice

BATCH_SIZE = 6
PROMPTS = 3
_STRIDE = INPUT_SIZE // MASK_SIZE
_VALIDATION_STEP_MM = 6.0


def train_sam(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the embedded model and write its weights.

    The metrics are the mean Dice of the liver and the mean Dice of the lesions in held-out phantoms. The
    prompt is a tight box on each slice.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    cache, held_out = prepare(options, progress)
    task = SamTask(
        samples=SamBatches(cache, options.seed, options.batch_size or BATCH_SIZE),
        held_out=held_out,
        device=options.device,
    )
    return train(task, options, progress)


@dataclass(frozen=True)
class SamBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: images, masks, boxes, points, point labels (leading axes B, K)."""

    cache: GeometryCache
    seed: int
    batch_size: int

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        samples = [self._sample(iteration, index) for index in range(self.batch_size)]
        parts = (
            (sample.image, sample.masks, sample.boxes, sample.points, sample.point_labels)
            for sample in samples
        )
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))

    def _sample(self, iteration: int, index: int) -> SamSample:
        rng = np.random.default_rng([self.seed, iteration, index])
        return draw_sam_sample(self.cache.subject(int(rng.integers(self.cache.count))), rng, PROMPTS)


@dataclass(frozen=True)
class SamTask:
    """The training of `EmbeddedSam` (docs/training.md).

    A step has two passes. The prompts of the first pass are a box and clicks. The second pass also gets a
    mask of the first pass. In six of ten cases, it also gets a click in the wrong pixels of this mask. Gain
    and offset of the images vary at random.
    """

    samples: SamBatches
    held_out: tuple[Phantom, ...]
    device: str
    peak_rate: float = 1.1e-3
    warm_up: int = 150
    weight_decay: float = 0.03
    averaging: float = 0.998

    def network(self) -> EmbeddedSam:
        """Return the network with random weights."""
        return EmbeddedSam()

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch."""
        assert isinstance(network, EmbeddedSam)
        images, masks, boxes, points, labels = batch
        count = masks.shape[1]
        image_of = torch.arange(len(images), device=images.device).repeat_interleave(count)
        truth = functional.avg_pool2d(masks.flatten(0, 1)[:, None].float(), _STRIDE)[:, 0]
        boxes, points, labels = (part.flatten(0, 1) for part in (boxes, points, labels))
        features = network.encode(_jittered(images, generator))
        logits, quality = network.decode(features, image_of, boxes, (points, labels))
        first = mask_loss(logits, quality, truth)
        earlier = _chosen(logits.detach(), first.best, generator)
        click, click_label = correction_click(earlier, truth, _STRIDE, generator)
        skipped = torch.rand(len(earlier), 1, generator=generator).to(click_label.device) < 0.4
        click_label = torch.where(skipped, torch.full_like(click_label, -1), click_label)
        all_points = torch.cat([points, click], dim=1), torch.cat([labels, click_label], dim=1)
        logits, quality = network.decode(features, image_of, boxes, all_points, earlier[:, None])
        second = mask_loss(logits, quality, truth)
        figures = {
            "iou_single": float(first.iou[:, 0].mean()),
            "iou_best": float(first.iou.max(dim=1).values.mean()),
            "iou_refined": float(second.iou[:, 0].mean()),
        }
        return Step(first.total + second.total, figures)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return the mean Dice of `EmbeddedPredictor` with tight boxes, for the liver and for the lesions."""
        if not self.held_out:
            return {}
        with TemporaryDirectory() as folder:
            path = Path(folder) / EMBEDDED_FILE
            save_weights(network, path)
            predictor = EmbeddedPredictor(torch.device(self.device), path)
        livers: list[float] = []
        lesions: list[float] = []
        for phantom in self.held_out:
            for value in range(1, 2 + len(phantom.meta.lesions)):
                lesion = value > 1
                truth = phantom.labels == value if lesion else phantom.labels > 0
                answer = segment_by_tight_boxes(
                    predictor,
                    phantom.hu,
                    phantom.spacing_mm,
                    truth,
                    lesion=lesion,
                    step_mm=0.0 if lesion else _VALIDATION_STEP_MM,
                )
                (lesions if lesion else livers).append(dice(answer, truth))
        figures = {"liver_dice": float(np.mean(livers))}
        return figures | ({"lesion_dice": float(np.mean(lesions))} if lesions else {})


def _jittered(images: Tensor, generator: torch.Generator) -> Tensor:
    gain = 1 + 0.08 * torch.randn(len(images), 1, 1, 1, generator=generator)
    offset = 0.08 * torch.randn(len(images), images.shape[1], 1, 1, generator=generator)
    return images * gain.to(images.device) + offset.to(images.device)


def _chosen(logits: Tensor, best: Tensor, generator: torch.Generator) -> Tensor:
    """Return one mask ``(P, h, w)`` of the first pass for each prompt: for half of the prompts the best."""
    count = len(logits)
    any_token = torch.randint(0, TOKEN_COUNT, (count,), generator=generator).to(best.device)
    take_best = (torch.rand(count, generator=generator) < 0.5).to(best.device)
    token = torch.where(take_best, best, any_token)
    return logits[torch.arange(count, device=logits.device), token]
