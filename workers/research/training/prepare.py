"""The data of a training run, and the data on which it is measured."""

from __future__ import annotations

from workers.phantoms import TEST, Phantom, make_phantom
from workers.research.training.geometries import GeometryCache
from workers.research.training.real_cases import RealCases
from workers.research.training.training_run import Progress, ProgressCallback, TrainOptions

FIRST_SEED = 9_000_000


def prepare(
    options: TrainOptions, progress: ProgressCallback | None = None
) -> tuple[GeometryCache, tuple[Phantom, ...]]:
    """Return the filled cache of training anatomies and the held-out phantoms of a run."""
    return filled_cache(options, progress), held_out_phantoms(options)


def filled_cache(options: TrainOptions, progress: ProgressCallback | None = None) -> GeometryCache:
    """Return the cache of training anatomies with all that a run needs."""

    def tell(done: int, missing: int) -> None:
        if progress:
            progress(Progress(0, done / missing, 0.0, float("nan"), {}, building=(done, missing)))

    cache = GeometryCache(options.cache, options.geometries)
    cache.fill(options.loaders, tell)
    return cache


def real_cases(options: TrainOptions, progress: ProgressCallback | None = None) -> RealCases | None:
    """Return the real cases of a run, read into its cache; None if it has none.

    Raises
    ------
    InputError
        Whatever makes a pair of files unusable, with its name; see `RealCases.fill`.
    """
    if options.real is None:
        return None

    def tell(done: int, missing: int) -> None:
        if progress:
            progress(Progress(0, done / missing, 0.0, float("nan"), {}, building=(done, missing)))

    cases = RealCases(options.real, options.cache)
    cases.fill(tell)
    return cases


def held_out_phantoms(options: TrainOptions) -> tuple[Phantom, ...]:
    """Make the phantoms on which a run is measured: seeds and a setting that no training sees, all phases."""
    seeds = range(FIRST_SEED, FIRST_SEED + options.held_out)
    return tuple(make_phantom(seed, size=options.held_out_size, phase=None, setting=TEST) for seed in seeds)
