"""Keep training geometries (anatomies without densities) on disk. Each is built once for all samples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.fields import Mask
from workers.phantoms.geometry import GENERATION, Geometry, training_geometry

_LOG = logging.getLogger(__name__)

# Geometries that a loader keeps in memory, 16 MB each.
_KEPT_IN_MEMORY = 128
# Number of voxels from which samples choose a place. More voxels would only need more memory.
_PLACES = 20000


@dataclass(frozen=True)
class Subject:
    """A geometry (anatomy without densities), with cached values that sampling needs repeatedly."""

    geometry: Geometry

    @cached_property
    def liver(self) -> Mask:
        """``(Z, Y, X)``: liver with vessels and lesions."""
        return self.geometry.liver

    @cached_property
    def liver_span(self) -> tuple[tuple[int, int], ...]:
        """Half-open index range of the liver along z, y, x; the whole grid if there is no liver."""
        if not self.liver.any():
            return tuple((0, n) for n in self.liver.shape)
        hits = [np.flatnonzero(self.liver.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        return tuple((int(hit[0]), int(hit[-1]) + 1) for hit in hits)

    @cached_property
    def liver_voxels(self) -> NDArray[np.intp]:
        """``(n, 3)`` indices of voxels, evenly sampled from the liver."""
        return _thinned(np.argwhere(self.liver))

    @cached_property
    def surface_voxels(self) -> NDArray[np.intp]:
        """``(n, 3)`` indices of voxels, evenly sampled from the liver's surface."""
        return _thinned(np.argwhere(self.liver & ~ndi.binary_erosion(self.liver, iterations=2)))

    @cached_property
    def lesion_slices(self) -> tuple[NDArray[np.int64], ...]:
        """The indices of the slices of each lesion. Lesions without a slice are left out."""
        numbers = range(1, self.geometry.lesions.count + 1)
        slices = (np.flatnonzero(self.geometry.lesion(n).any(axis=(1, 2))) for n in numbers)
        return tuple(found for found in slices if len(found))


def _thinned(places: NDArray[np.intp]) -> NDArray[np.intp]:
    return places[:: max(1, len(places) // _PLACES)]


@dataclass(frozen=True)
class GeometryCache:
    """A folder of training geometries with seeds 0 to `count` - 1, each in a ``.npz`` file."""

    folder: Path
    count: int

    def path(self, index: int) -> Path:
        """Return the path of geometry `index`. The file need not exist."""
        return self.folder / f"geometry-{GENERATION}-{index:07d}.npz"

    def subject(self, index: int) -> Subject:
        """Return geometry `index`. Build it if its file is missing."""
        if not self.path(index).exists():
            _build(index, self.path(index))
        return _read(self.path(index))

    def fill(self, processes: int = 0, progress: Callable[[int, int], None] | None = None) -> None:
        """Build the missing geometries, in this process or in several processes.

        Parameters
        ----------
        processes
            Number of building processes; 0 builds in this process.
        progress
            A function that is called after each geometry. Its arguments are the number of built geometries
            and the number that were missing at the start.
        """
        missing = [index for index in range(self.count) if not self.path(index).exists()]
        if not missing:
            return
        _LOG.info("building %d of %d training geometries", len(missing), self.count)
        paths = [self.path(index) for index in missing]
        if processes == 0:
            for done, (seed, path) in enumerate(zip(missing, paths, strict=True), start=1):
                _build(seed, path)
                if progress:
                    progress(done, len(missing))
            return
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(_build, missing, paths), start=1):
                if progress:
                    progress(done, len(missing))


def _build(seed: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    training_geometry(seed).save(path)


@lru_cache(maxsize=_KEPT_IN_MEMORY)
def _read(path: Path) -> Subject:
    return Subject(Geometry.load(path))
