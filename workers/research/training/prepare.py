"""Prepare the data of a training run, and its held-out data."""

from __future__ import annotations

from collections.abc import Callable

from workers.phantoms import TEST, Phantom, make_phantom
from workers.research.training.geometries import GeometryCache
from workers.research.training.real_cases import RealCases
from workers.research.training.real_tumours import RealTumours
from workers.research.training.training_run import Progress, ProgressCallback, TrainOptions

FIRST_SEED = 9_000_000


def prepare(
    options: TrainOptions, progress: ProgressCallback | None = None
) -> tuple[GeometryCache, tuple[Phantom, ...]]:
    """Return the filled cache of training anatomies, and the held-out phantoms."""
    return filled_cache(options, progress), held_out_phantoms(options)


def filled_cache(options: TrainOptions, progress: ProgressCallback | None = None) -> GeometryCache:
    """Return the cache with all training anatomies that a run needs."""
    cache = GeometryCache(options.cache, options.geometries)
    cache.fill(options.loaders, _building_progress(progress))
    return cache


def real_cases(options: TrainOptions, progress: ProgressCallback | None = None) -> RealCases | None:
    """Return the real cases of a run, read into its cache; None if `options.real` is None.

    Raises
    ------
    InputError
        A pair of files cannot be used; the error has its name, see `RealCases.fill`.
    """
    if options.real is None:
        return None
    cases = RealCases(options.real, options.cache)
    cases.fill(_building_progress(progress))
    return cases


def real_tumours(options: TrainOptions, progress: ProgressCallback | None = None) -> RealTumours | None:
    """Return the tumours of a run's real cases, cut out into its cache; None if `options.real` is None.

    Raises
    ------
    InputError
        A pair of files cannot be used; the error has its name, see `RealCases.fill`.
    """
    if options.real is None:
        return None
    tumours = RealTumours(RealCases(options.real, options.cache))
    tumours.fill(_building_progress(progress))
    return tumours


def _building_progress(progress: ProgressCallback | None) -> Callable[[int, int], None]:
    """Return the callback that reports (done, missing) while a cache is filled."""

    def tell(done: int, missing: int) -> None:
        if progress:
            progress(Progress(0, done / missing, 0.0, float("nan"), {}, building=(done, missing)))

    return tell


def held_out_phantoms(options: TrainOptions) -> tuple[Phantom, ...]:
    """Make the phantoms for measuring a run, with random phases. Training uses other seeds and settings."""
    seeds = range(FIRST_SEED, FIRST_SEED + options.held_out)
    return tuple(make_phantom(seed, size=options.held_out_size, phase=None, setting=TEST) for seed in seeds)
