"""Phantoms that no training sees: other seeds and another setting of the generator."""

from __future__ import annotations

from workers.training.loop import TrainOptions
from workers.training.phantoms import TEST, Phantom, make_phantom

FIRST_SEED = 9_000_000


def held_out_phantoms(options: TrainOptions) -> tuple[Phantom, ...]:
    """Make the phantoms on which a run is measured; the same for every training seed, all phases."""
    seeds = range(FIRST_SEED, FIRST_SEED + options.held_out)
    return tuple(make_phantom(seed, size=options.held_out_size, phase=None, setting=TEST) for seed in seeds)
