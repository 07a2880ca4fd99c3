"""Prepare the training data and the held-out data of a training run."""

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
    """Return a run's real cases after their CTs were read into the cache; None if `options.real` is None.

    Raises
    ------
    InputError
        A pair of files cannot be used; the error contains the pair's name, see `RealCases.fill`.
    """
    if options.real is None:
        return None
    cases = RealCases(options.real, options.cache)
    cases.fill(_building_progress(progress))
    return cases


def real_tumours(options: TrainOptions, progress: ProgressCallback | None = None) -> RealTumours | None:
    """Return the tumours of a run's real cases, cut out into the cache; None if `options.real` is None.

    Raises
    ------
    InputError
        A pair of files cannot be used; the error contains the pair's name, see `RealCases.fill`.
    """
    if options.real is None:
        return None
    tumours = RealTumours(RealCases(options.real, options.cache))
    tumours.fill(_building_progress(progress))
    return tumours


def _building_progress(progress: ProgressCallback | None) -> Callable[[int, int], None]:
    """Return a callback for the filling of a cache. It reports the numbers of done and of missing items."""

    def tell(done: int, missing: int) -> None:
        if progress:
            progress(Progress(0, done / missing, 0.0, float("nan"), {}, building=(done, missing)))

    return tell


def held_out_phantoms(options: TrainOptions) -> tuple[Phantom, ...]:
    """Make the held-out phantoms, with random contrast phases. Training uses other seeds and settings."""
    seeds = range(FIRST_SEED, FIRST_SEED + options.held_out)
    return tuple(make_phantom(seed, size=options.held_out_size, phase=None, setting=TEST) for seed in seeds)
