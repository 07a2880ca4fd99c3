"""Training of the lesion finder on phantoms and on real CTs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers.models.learned_lesions import LearnedLesions
from workers.models.lesion_net import LESION, LESION_WEIGHT, LIVER, LesionNet
from workers.models.precision import half_precision
from workers.models.weights import LESIONS_FILE, save_weights
from workers.phantoms import Phantom
from workers.research.training.geometries import GeometryCache
from workers.research.training.loop import train
from workers.research.training.prepare import prepare, real_cases
from workers.research.training.real_cases import RealCases
from workers.research.training.sampling.lesion_samples import CLIPPED, LesionSample, draw_lesion_sample
from workers.research.training.sampling.real_lesions import draw_real_sample
from workers.research.training.training_run import ProgressCallback, Step, TrainOptions, TrainReport
from workers.truth.metrics import dice
from workers.uair.grids import tight_box

BATCH_SIZE = 1
# Added to numerator and denominator of the Dice quotients, in voxels.
_DICE_SMOOTHING = 50.0
# In voxels. This number reduces the weight of samples that show hardly any liver.
_LEAST_LIVER = 2000.0
_AROUND_MM = (20.0, 15.0, 15.0)
# A lesion counts as found if at least this part of its voxels is marked. A marked region is a false finding
# if a smaller part of the region is lesion.
_HIT = 0.1


def train_lesions(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the lesion finder and write its weights.

    The metrics are means over held-out phantoms. They are Dice of the liver, Dice of the union of lesions,
    recall of lesions of at least 10 mm, and false findings per case.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    cache, held_out = prepare(options, progress)
    task = LesionTask(
        samples=LesionBatches(
            cache,
            options.seed,
            options.batch_size or BATCH_SIZE,
            real_cases(options, progress),
            options.real_share,
        ),
        held_out=held_out,
        device=options.device,
    )
    return train(task, options, progress)


@dataclass(frozen=True)
class LesionBatches(Dataset[tuple[Tensor, ...]]):
    """Map from iteration to batch: channels ``(B, 5, Z, Y, X)``, masks ``(B, 2, …)``, weight ``(B, …)``.

    If there are real cases, then the part `real_share` of the samples comes from them.
    """

    cache: GeometryCache
    seed: int
    batch_size: int
    real: RealCases | None = None
    real_share: float = 0.0

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        """Return the batch of a step. Its random values depend only on seed and iteration."""
        samples = [self._sample(iteration, index) for index in range(self.batch_size)]
        parts = ((sample.channels, sample.masks, sample.weight) for sample in samples)
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))

    def _sample(self, iteration: int, index: int) -> LesionSample:
        rng = np.random.default_rng([self.seed, iteration, index])
        if self.real is not None and rng.random() < self.real_share:
            return draw_real_sample(self.real, rng)
        clipped = 0.0 if self.real is None else CLIPPED
        return draw_lesion_sample(self.cache.subject(int(rng.integers(self.cache.count))), rng, clipped)


@dataclass(frozen=True)
class LesionTask:
    """The training of `LesionNet`: Dice and cross-entropy for the liver, Dice and focal loss for lesions."""

    samples: LesionBatches
    held_out: tuple[Phantom, ...]
    device: str
    peak_rate: float = 3e-3
    warm_up: int = 40
    weight_decay: float = 0.01
    averaging: float = 0.99

    def network(self) -> LesionNet:
        """Return the network with random weights."""
        return LesionNet()

    def batches(self) -> Dataset[Any]:
        """Return the samples."""
        return self.samples

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch. A step has no random part.

        Convolutions run in bfloat16 (half the time or less, if the processor multiplies such matrices).
        """
        channels, masks, weight = batch
        with half_precision(self.device):
            raw = network(channels)
        logits = raw.float()
        liver, lesion = masks[:, LIVER], masks[:, LESION]
        organ = functional.binary_cross_entropy_with_logits(logits[:, LIVER], liver)
        organ = organ + 1 - _soft_dice(logits[:, LIVER], liver)
        focal = _focal(logits[:, LESION], lesion, weight, liver) + 1 - _soft_dice(logits[:, LESION], lesion)
        figures = {
            "liver_dice": _hard_dice(logits[:, LIVER], liver),
            "lesion_dice": _hard_dice(logits[:, LESION], lesion),
        }
        return Step(focal + 0.3 * organ, figures)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return metrics of `LearnedLesions` with these weights, measured on the held-out phantoms."""
        if not self.held_out:
            return {}
        with TemporaryDirectory() as folder:
            path = Path(folder) / LESIONS_FILE
            save_weights(network, path)
            finder = LearnedLesions(torch.device(self.device), path)
        scores = [_score(finder, phantom) for phantom in self.held_out]
        found, wanted, false = (sum(score[index] for score in scores) for index in (2, 3, 4))
        return {
            "liver_dice": float(np.mean([score[0] for score in scores])),
            "lesion_dice": float(np.mean([score[1] for score in scores])),
            "recall": found / max(1, wanted),
            "false_findings": false / len(scores),
        }


def _soft_dice(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    shared = 2 * (probability * truth).sum() + _DICE_SMOOTHING
    return shared / ((probability + truth).sum() + _DICE_SMOOTHING)


def _focal(logits: Tensor, truth: Tensor, weight: Tensor, liver: Tensor) -> Tensor:
    """Return the weighted focal cross-entropy (exponent 1): sum over all voxels, divided by liver voxels.

    Voxels of lesions count `LESION_WEIGHT` times. Without this weight, the network found no lesion in its
    first hundreds of steps.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    wrong = probability + truth - 2 * probability * truth
    rare = 1 + (LESION_WEIGHT - 1) * truth
    return (entropy * wrong * weight * rare).sum() / liver.sum().clamp(min=_LEAST_LIVER)


def _hard_dice(logits: Tensor, truth: Tensor) -> float:
    inside, wanted = logits.detach() > 0, truth > 0.5
    return float((2 * (inside & wanted).sum() + 1) / (inside.sum() + wanted.sum() + 1))


def _score(finder: LearnedLesions, phantom: Phantom) -> tuple[float, float, int, int, int]:
    """Return Dice of the liver, Dice of the lesions, and three counts.

    The counts are: found lesions of at least 10 mm, all lesions of at least 10 mm, and false findings.
    """
    labels, spacing = phantom.labels, phantom.spacing_mm
    around = tight_box(labels > 0).extended(_AROUND_MM, spacing, labels.shape)
    found = finder.search(phantom.hu, spacing, around, phantom.meta.liver_hu)
    z, y, x = (np.arange(n, dtype=np.float64) + 0.5 for n in labels.shape)
    liver, lesions = (found_map.at(z, y, x) > 0.5 for found_map in (found.liver, found.lesions))
    wanted = [1 + lesion.number for lesion in phantom.meta.lesions if lesion.diameter_mm >= 10.0]
    hits = sum(bool(lesions[labels == value].mean() >= _HIT) for value in wanted)
    parts, count = ndimage.label(lesions)
    inside = ndimage.mean(labels > 1, parts, np.arange(1, count + 1)) if count else []
    false = int(sum(share < _HIT for share in inside))
    return dice(liver, labels > 0), dice(lesions, labels > 1), hits, len(wanted), false
