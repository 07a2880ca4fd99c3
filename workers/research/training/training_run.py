"""The task, options, progress and report of a training run: records that the loop uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dicom_config.errors import ConfigError
from workers.phantoms.phantom import Size


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training run.

    Attributes
    ----------
    output
        Weight file to write (safetensors). The checkpoint is beside it, with the suffix ``.checkpoint``.
    cache
        Folder of training geometries. Missing geometries are built.
    iterations, minutes
        Length of the schedule in iterations or in minutes; exactly one is given. The minutes of a resumed run
        include the time of its earlier parts. If the length is given in minutes, then the results depend on
        the machine's speed.
    seed
        Seed of the random weights, samples and steps.
    resume
        Whether to continue from the checkpoint if there is one.
    chunk_minutes
        The run writes a checkpoint and ends after about this time. A resumed run continues the schedule.
    initial_weights
        Path of weights to start from; None for random weights.
    blend_with, blend_part
        File of other weights, and their part in the written weights, which are a mixture. So the network
        loses less of what the other weights have learned.
    rate
        Peak learning rate; None uses the task's rate.
    batch_size
        Images (or volumes) per step; None uses the task's number.
    geometries
        Number of anatomies for training.
    real, real_share
        Folder of real CTs with masks (see `RealCases`), and the part of the samples that comes from them.
    held_out
        Number of phantoms for measurements, which are not used for training; 0 for none.
    held_out_size
        Size of these phantoms (see `make_phantom`).
    threads, loaders
        CPU threads of the network, and processes that draw samples (0: in this process).
    device
        ``cpu`` or ``cuda``.
    report_every, checkpoint_every, validate_every
        Iterations between progress reports, between checkpoints, and between measurements on held-out
        phantoms. The run is also measured on these phantoms at the end. If `validate_every` is 0, then it is
        measured only at the end.
    """

    output: Path
    cache: Path
    iterations: int | None = None
    minutes: float | None = None
    seed: int = 0
    resume: bool = False
    chunk_minutes: float | None = None
    initial_weights: Path | None = None
    blend_with: Path | None = None
    blend_part: float = 0.25
    rate: float | None = None
    batch_size: int | None = None
    geometries: int = 200
    real: Path | None = None
    real_share: float = 0.6
    held_out: int = 6
    held_out_size: Size = "standard"
    threads: int = 1
    loaders: int = 1
    device: str = "cpu"
    report_every: int = 20
    checkpoint_every: int = 200
    validate_every: int = 0

    def __post_init__(self) -> None:
        if (self.iterations is None) == (self.minutes is None):
            raise ConfigError(
                "training-length",
                "The length of the training is unclear.",
                "Give either iterations or minutes.",
            )
        if not 0 < self.blend_part < 1:
            raise ConfigError(
                "training-blend",
                "The part of blended weights is not between 0 and 1.",
                "Give a part above 0 and below 1.",
            )

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint, which contains the state of the run."""
        return self.output.with_name(self.output.name + ".checkpoint")

    @property
    def log(self) -> Path:
        """Path of the log of losses and metrics, one JSON object in each line."""
        return self.output.with_name(self.output.name + ".log")


@dataclass(frozen=True)
class Progress:
    """The argument of a progress callback.

    Attributes
    ----------
    iteration
        Steps done.
    fraction
        Part of the schedule done, 0 to 1.
    seconds
        Time since the start, including the earlier parts of a resumed run.
    loss
        Mean loss since the last report.
    figures
        Metrics such as Dice: their means in training since the last report, or their values on held-out
        phantoms (see `held_out`).
    held_out
        Whether `figures` were measured on held-out phantoms.
    building
        Before the first step: number of built anatomies, and number of all missing anatomies.
    """

    iteration: int
    fraction: float
    seconds: float
    loss: float
    figures: Mapping[str, float]
    held_out: bool = False
    building: tuple[int, int] | None = None


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainReport:
    """The result of a training run. `figures` are the averaged weights' metrics on held-out phantoms.

    If a run ended before the end of its schedule, then `finished` is False. An unfinished run has a
    checkpoint, but no weights and no metrics.
    """

    iterations: int
    seconds: float
    weights: Path
    checkpoint: Path
    figures: Mapping[str, float]
    history: tuple[Progress, ...]
    finished: bool = True


@dataclass(frozen=True)
class Step:
    """The result of one forward pass: the loss to minimise, and the metrics (`figures`) to report."""

    loss: Tensor
    figures: Mapping[str, float]


class Task(Protocol):
    """The training of one network."""

    @property
    def peak_rate(self) -> float:
        """Highest learning rate."""
        ...

    @property
    def warm_up(self) -> int:
        """Steps of linear warm-up."""
        ...

    @property
    def weight_decay(self) -> float:
        """AdamW's weight decay of matrices and kernels."""
        ...

    @property
    def averaging(self) -> float:
        """Decay of the running average of weights, below 1."""
        ...

    def network(self) -> nn.Module:
        """Return the network with random weights (torch's global generator is seeded before)."""
        ...

    def batches(self) -> Dataset[Any]:
        """Return a map from iteration to batch (a tuple of tensors). The map must be picklable."""
        ...

    def step(self, network: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Step:
        """Return loss and metrics of a batch on the network's device."""
        ...

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return the metrics on held-out phantoms."""
        ...
