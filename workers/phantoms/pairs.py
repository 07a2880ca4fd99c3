"""Two phantoms of one patient at two times. Lesions grow, shrink, appear and vanish; breathing moves organs.

The change of each lesion is known. Apart from lesions, the phantoms differ only in noise and in the depth of
breath.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.phantoms.appearance import Phase, Scan
from workers.phantoms.fields import Grid, Triple, smooth_field
from workers.phantoms.geometry import Geometry, build_geometry
from workers.phantoms.lesion_shapes import DISTANCE_STEP_MM, LesionMaps, LesionPlan
from workers.phantoms.phantom import Phantom, phantom_of

_SHAPE, _SPACING_MM = (72, 176, 208), (3.0, 1.9, 1.9)
_BREATH_MM = 22.0
_ELASTIC_MM = 4.0
_SHARE_NEW, _SHARE_VANISHED = 0.2, 0.2
_FIELD_MM = 60.0


@dataclass(frozen=True, eq=False)
class Pair:
    """A patient at two times.

    Parameters
    ----------
    before, now
        The phantoms. A lesion has the same number in both of them.
    growth_mm
        Lesion number -> outward shift of the surface (negative: inward), for lesions in both phantoms.
    new, vanished
        Numbers of lesions in only one of the phantoms.
    """

    before: Phantom
    now: Phantom
    growth_mm: Mapping[int, float]
    new: tuple[int, ...]
    vanished: tuple[int, ...]


def make_pair(seed: int, *, lesions: int = 5, phase: Phase | None = Phase.PORTAL) -> Pair:
    """Make the pair of a seed: 72 x 176 x 208 voxels of 3 x 1.9 x 1.9 mm.

    Parameters
    ----------
    lesions
        Number of different lesions in the two phantoms.
    phase
        Contrast phase of both phantoms; None: a random phase for each.
    """
    rng = np.random.default_rng([seed, 11])
    plan = LesionPlan(lesions, 6.0, 26.0, median_radius=11.0, min_inside=0.75)
    geometry = build_geometry(seed, Grid(_SHAPE, _SPACING_MM), plan)
    count = geometry.lesions.count
    fate = rng.choice(3, size=count, p=[1 - _SHARE_NEW - _SHARE_VANISHED, _SHARE_NEW, _SHARE_VANISHED])
    numbers = range(1, count + 1)
    new = tuple(n for n in numbers if fate[n - 1] == 1)
    vanished = tuple(n for n in numbers if fate[n - 1] == 2)
    growth = {n: float(rng.uniform(-4.0, 5.0)) for n in numbers if fate[n - 1] == 0}
    scan = Scan.draw(rng, count, phase, max_noise_hu=18.0, varied_lesions=True)
    later = replace(Scan.draw(rng, count, phase, max_noise_hu=18.0), looks=scan.looks)
    before = phantom_of(_grown(geometry, {}, without=new), scan, rng, seed)
    grown = phantom_of(_grown(geometry, growth, without=vanished), later, rng, seed)
    return Pair(before, _breathed(grown, rng), growth, new, vanished)


def _grown(geometry: Geometry, growth_mm: Mapping[int, float], without: tuple[int, ...]) -> Geometry:
    """Return the anatomy with the surfaces of lesions moved, and some lesions left out."""
    maps = geometry.lesions
    steps = np.zeros(maps.count + 1)
    for number, mm in growth_mm.items():
        steps[number] = mm / DISTANCE_STEP_MM
    distance = np.clip(maps.distance + steps[maps.number], -127, 127).astype(np.int8)
    owner = np.where(np.isin(maps.number, without), 0, maps.number).astype(np.uint8)
    distance = np.where(owner > 0, distance, -127).astype(np.int8)
    return replace(geometry, lesions=LesionMaps(owner, distance, maps.count))


def _breathed(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    """Move the organs up or down, less at the back, and deform them smoothly."""
    shape, spacing = phantom.hu.shape, phantom.spacing_mm
    depth = np.linspace(1.15, 0.55, shape[1])[None, :, None]
    shift = rng.uniform(-_BREATH_MM, _BREATH_MM) * depth
    offsets = [_field(rng, shape, spacing) for _ in range(3)]
    offsets[0] = offsets[0] + shift.astype(np.float32)
    offsets[1] = offsets[1] + np.float32(rng.uniform(-5, 5))
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    places = [g + o / np.float32(s) for g, o, s in zip(grid, offsets, spacing, strict=True)]
    hu = ndimage.map_coordinates(phantom.hu.astype(np.float32), places, order=1, mode="nearest")
    labels = ndimage.map_coordinates(phantom.labels, places, order=0, mode="constant")
    return replace(phantom, hu=np.rint(hu).astype(np.int16), labels=labels)


def _field(rng: np.random.Generator, shape: tuple[int, ...], spacing: Triple) -> NDArray[np.float32]:
    return smooth_field(rng, shape, spacing, _FIELD_MM, _ELASTIC_MM)
