"""The training loop that all networks share: schedule, averaging, checkpoints, progress.

The loop trains a `Task`. The loop itself does not depend on images or losses. Every batch and every random
choice of a step is a pure function of (seed, iteration). So a resumed run gives the same numbers as an
uninterrupted run.
"""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dicom_config.errors import ConfigError
from workers.models.weights import load_weights, save_weights
from workers.research.training.real_cases import RealCases
from workers.research.training.training_run import (
    Progress,
    ProgressCallback,
    Step,
    Task,
    TrainOptions,
    TrainReport,
)

_LOG = logging.getLogger(__name__)

_ENDLESS = 1 << 40
_LAST_RATE = 0.02  # of the peak learning rate, at the end of the cosine
_MAX_GRADIENT_NORM = 1.0
_FORMAT = 1


@dataclass
class _Run:
    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    iteration: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started


def train(task: Task, options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Run a training to its end and write the weights. They are the running average over the steps.

    Raises
    ------
    ConfigError
        ``training-checkpoint``: the checkpoint to resume from belongs to another run.
    """
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    run = _start(task, options)
    history: list[Progress] = []

    def tell(event: Progress) -> None:
        history.append(event)
        if progress:
            progress(event)

    recent: list[Step] = []
    batches = _load(task, options, run.iteration)
    while (fraction := _fraction(options, run)) < 1:
        if _chunk_is_over(options, run):
            _save(options, run)
            return _report(options, run, history, finished=False)
        recent.append(_advance(task, options, run, next(batches), fraction))
        if run.iteration % options.report_every == 0:
            tell(_summary(options, run, recent))
            recent.clear()
        if run.iteration % options.checkpoint_every == 0:
            _save(options, run)
        if options.validate_every and run.iteration % options.validate_every == 0:
            tell(_held_out(task, options, run))
    _save(options, run)
    _blend(task, options, run)
    tell(_held_out(task, options, run))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_weights(run.average, options.output, {"iterations": str(run.iteration), "seed": str(options.seed)})
    _LOG.info("trained %d iterations in %.0f s", run.iteration, run.elapsed)
    return _report(options, run, history, finished=True)


def learning_rate(peak: float, warm_up: int, iteration: int, fraction: float) -> float:
    """Return the rate of step `iteration` (from 0): linear warm-up times a cosine over the schedule."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))
    return peak * min(1.0, (iteration + 1) / warm_up) * (cosine * (1 - _LAST_RATE) + _LAST_RATE)


def keep_freed_memory() -> None:
    """Let glibc's allocator keep freed memory blocks, so that it does not return them to the system.

    Each step frees and allocates the same large tensors. Kept blocks cause no page faults, and training was
    1.5 times faster. Without glibc, the function does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_max = -1, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 1 << 30)


def _start(task: Task, options: TrainOptions) -> _Run:
    torch.manual_seed(options.seed)
    network = task.network()
    if options.initial_weights:
        load_weights(network, options.initial_weights)
    network.to(options.device).train()
    run = _Run(network, copy.deepcopy(network).eval(), _optimizer(task, network))
    if options.resume and options.checkpoint.exists():
        _restore(options, run)
    return run


def _optimizer(task: Task, network: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW. Weight decay acts on matrices and kernels, not on biases, norms, tokens and positions."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        matrix = parameter.ndim > 1 and "pos" not in name and "token" not in name
        (decayed if matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": task.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=task.peak_rate, betas=(0.9, 0.98))


def _load(task: Task, options: TrainOptions, first: int) -> Iterator[tuple[Tensor, ...]]:
    stop = _ENDLESS if options.iterations is None else options.iterations
    loader: DataLoader[Any] = DataLoader(
        task.batches(),
        batch_size=None,
        sampler=range(first, stop),
        num_workers=options.loaders,
        prefetch_factor=4 if options.loaders else None,
        # A forked child of a process that has used OpenMP may hang.
        multiprocessing_context="spawn" if options.loaders else None,
    )
    return iter(loader)


def _blend(task: Task, options: TrainOptions, run: _Run) -> None:
    """Move the averaged weights towards the weights of `blend_with`, if this option is set."""
    if options.blend_with is None:
        return
    other = task.network()
    load_weights(other, options.blend_with)
    other.to(options.device)
    with torch.no_grad():
        for parameter, theirs in zip(run.average.parameters(), other.parameters(), strict=True):
            parameter.lerp_(theirs, options.blend_part)


def _chunk_is_over(options: TrainOptions, run: _Run) -> bool:
    minutes = options.chunk_minutes
    return minutes is not None and time.monotonic() - run.started > 60 * minutes


def _report(options: TrainOptions, run: _Run, history: list[Progress], *, finished: bool) -> TrainReport:
    figures = history[-1].figures if finished else {}
    return TrainReport(
        run.iteration, run.elapsed, options.output, options.checkpoint, figures, tuple(history), finished
    )


def _fraction(options: TrainOptions, run: _Run) -> float:
    if options.iterations is not None:
        return run.iteration / options.iterations if options.iterations else 1.0
    return run.elapsed / (60 * (options.minutes or 1e-9))


def _advance(
    task: Task, options: TrainOptions, run: _Run, batch: tuple[Tensor, ...], fraction: float
) -> Step:
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(options.rate or task.peak_rate, task.warm_up, run.iteration, fraction)
    generator = torch.Generator().manual_seed((options.seed << 32) + run.iteration)
    step = task.step(run.network, tuple(part.to(options.device) for part in batch), generator)
    run.optimizer.zero_grad(set_to_none=True)
    step.loss.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), _MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.iteration += 1
    _follow(run, task.averaging)
    return Step(step.loss.detach(), step.figures)


@torch.no_grad()
def _follow(run: _Run, averaging: float) -> None:
    """Move the averaged weights towards the network's weights, faster at the beginning."""
    keep = min(averaging, run.iteration / (run.iteration + 20))
    for parameter, current in zip(run.average.parameters(), run.network.parameters(), strict=True):
        parameter.lerp_(current, 1 - keep)
    for buffer, current_buffer in zip(run.average.buffers(), run.network.buffers(), strict=True):
        buffer.copy_(current_buffer)


def _summary(options: TrainOptions, run: _Run, steps: list[Step]) -> Progress:
    names = steps[0].figures
    figures = {name: sum(step.figures[name] for step in steps) / len(steps) for name in names}
    loss = sum(float(step.loss) for step in steps) / len(steps)
    return Progress(run.iteration, min(1.0, _fraction(options, run)), run.elapsed, loss, figures)


def _held_out(task: Task, options: TrainOptions, run: _Run) -> Progress:
    figures = task.measure(run.average)
    fraction = min(1.0, _fraction(options, run))
    return Progress(run.iteration, fraction, run.elapsed, math.nan, figures, held_out=True)


def _identity(options: TrainOptions) -> dict[str, int | float | str | None]:
    """Return the options that must be equal in a resumed run and in the run that it continues."""
    return {
        "format": _FORMAT,
        "seed": options.seed,
        "iterations": options.iterations,
        "minutes": options.minutes,
        "batch_size": options.batch_size,
        "geometries": options.geometries,
        "rate": options.rate,
        "real": None if options.real is None else RealCases(options.real, options.cache).digest,
        "real_share": None if options.real is None else options.real_share,
    }


def _save(options: TrainOptions, run: _Run) -> None:
    state = {
        "identity": _identity(options),
        "network": run.network.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "iteration": run.iteration,
        "seconds": run.elapsed,
    }
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = options.checkpoint.with_name(options.checkpoint.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(options.checkpoint)


def _restore(options: TrainOptions, run: _Run) -> None:
    state = torch.load(options.checkpoint, map_location=options.device, weights_only=True)
    if state["identity"] != _identity(options):
        raise ConfigError(
            "training-checkpoint",
            f"The checkpoint {options.checkpoint.name} belongs to a run with other options.",
            "Give the options of that run, or write to another output.",
        )
    run.network.load_state_dict(state["network"])
    run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.iteration = state["iteration"]
    run.seconds = state["seconds"]
    run.started = time.monotonic()
