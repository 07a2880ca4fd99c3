"""Draw one training sample of the coordinate network from a body and a random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.models.coordinate_net import CELL, PATCH, SURROUNDINGS, cells_of
from workers.models.windows import AIR_HU
from workers.phantoms.appearance import Scan
from workers.phantoms.fields import Floats
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import Tissue
from workers.research.training.geometries import Subject
from workers.uair.localize import body_region
from workers.uair.templates import GRID_MM

#: Number of patches of a sample, and number of blocks of points that are compared with another examination.
PATCHES, BLOCKS = 12, 4
#: Number of a block's points along each axis, and the distance of neighbouring points in cells.
PLACES, APART = 4, 2
BLOCK = (PLACES - 1) * APART + SURROUNDINGS
CELL_MM = CELL * GRID_MM
_REACH = PATCH // CELL // 2
_LEAST_HEIGHT_MM = 130.0


@dataclass(frozen=True)
class CoordinateSample:
    """Patches and points of one body, as cells of the coordinate network (see `cells_of`).

    Attributes
    ----------
    patches
        ``(PATCHES, 2, 32, 32, 32)``.
    centres
        ``(PATCHES, 3)`` mm, (z, y, x).
    first, second
        ``(BLOCKS, 2, BLOCK, BLOCK, BLOCK)``: blocks around the same points in two examinations.
    """

    patches: Floats
    centres: NDArray[np.float32]
    first: Floats
    second: Floats


@dataclass(frozen=True)
class ExaminedBody:
    """A stretched body, examined twice.

    Attributes
    ----------
    first, second
        ``(2, Z, Y, X)`` cells.
    region
        (start, stop) of the body along y and x, in cells.
    """

    first: Floats
    second: Floats
    region: tuple[tuple[int, int], tuple[int, int]]


def draw_body(subject: Subject, rng: np.random.Generator) -> ExaminedBody:
    """Draw the part of a sample that takes long: a stretched body and two examinations of this body."""
    tissue, lesion = _resampled(subject, rng)
    scans = [Scan.draw(rng, subject.geometry.lesions.count, setting=TRAINING) for _ in range(2)]
    first, second = (_rendered(tissue, lesion, scan, rng) for scan in scans)
    _, y, x = body_region(first)
    region = ((y.start // CELL, y.stop // CELL), (x.start // CELL, x.stop // CELL))
    return ExaminedBody(cells_of(first), cells_of(second), region)


def draw_coordinate_sample(body: ExaminedBody, rng: np.random.Generator) -> CoordinateSample:
    """Draw a scan's extent in z, and the places of patches and points in the box of the body.

    Patches may extend beyond the box. The blocks around the points lie inside the box.
    """
    part = _drawn_part(body.first.shape[1], rng)
    first, second = body.first[:, part], body.second[:, part]
    (top, bottom), (right, left) = body.region
    low, high = [0, top, right], [first.shape[1] + 1, bottom + 1, left + 1]
    centres = rng.integers(low, high, (PATCHES, 3))
    reach = BLOCK // 2
    inside = np.maximum(np.array(high) - reach, np.array(low) + reach + 1)
    middles = rng.integers(np.array(low) + reach, inside, (BLOCKS, 3))
    return CoordinateSample(
        patches=_cut(first, centres, _REACH),
        centres=centres.astype(np.float32) * np.float32(CELL_MM),
        first=_cut(first, middles, reach),
        second=_cut(second, middles, reach),
    )


def _resampled(subject: Subject, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return tissues and lesion numbers at 3 mm, stretched along each axis. Every axis has whole cells."""
    geometry = subject.geometry
    stretch = np.array([rng.uniform(0.8, 1.25), *(rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 2))])
    steps = GRID_MM / (np.array(geometry.spacing_mm) * stretch)
    grid = np.ix_(
        *(
            np.minimum(((np.arange(int(n / step) // CELL * CELL) + 0.5) * step).astype(int), n - 1)
            for n, step in zip(geometry.tissue.shape, steps, strict=True)
        )
    )
    lesion = np.where(geometry.lesions.distance[grid] > 0, geometry.lesions.number[grid], 0)
    return geometry.tissue[grid], lesion.astype(np.uint8)


def _rendered(
    tissue: NDArray[np.uint8], lesion: NDArray[np.uint8], scan: Scan, rng: np.random.Generator
) -> Floats:
    """Return the HU of a scan averaged to 3 mm."""
    hu = scan.hu[tissue]
    parenchyma = tissue == Tissue.LIVER
    for number in np.unique(lesion[lesion > 0]):
        hu[(lesion == number) & parenchyma] += scan.looks[int(number) - 1].core
    hu += scan.texture[tissue] * rng.standard_normal(hu.shape, dtype=np.float32)
    # Tissues were resampled by nearest neighbour. The blur imitates the average over 3 mm.
    hu = ndi.gaussian_filter(hu, rng.uniform(0.35, 0.8), truncate=2.0)
    noise = np.float32(scan.noise_hu * rng.uniform(0.2, 0.9))
    return np.asarray(hu + noise * rng.standard_normal(hu.shape, dtype=np.float32), np.float32)


def _drawn_part(cells: int, rng: np.random.Generator) -> slice:
    """Return the range of cells along z that a scan shows. Often the scan shows only a part of the body."""
    spare = cells - int(_LEAST_HEIGHT_MM / CELL_MM)
    if spare <= 0 or rng.random() < 0.4:
        return slice(0, cells)
    below = int(rng.uniform(0, spare) * rng.random())
    return slice(below, cells - int(rng.uniform(0, spare - below) * rng.random()))


def _cut(cells: Floats, centres: NDArray[np.int64], reach: int) -> Floats:
    """Return cubes ``(n, 2, 2 reach, …)`` around the cell edges `centres` ``(n, 3)``. Outside lies air."""
    air = cells_of(np.full((CELL,) * 3, AIR_HU, np.float32))
    padded = np.broadcast_to(air, (2, *(n + 2 * reach for n in cells.shape[1:]))).copy()
    padded[:, *(slice(reach, -reach),) * 3] = cells
    return np.stack([padded[:, *(slice(c, c + 2 * reach) for c in centre)] for centre in centres.tolist()])
