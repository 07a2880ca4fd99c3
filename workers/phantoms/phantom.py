"""A complete phantom: CT volume, truth, and a record of its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.appearance import Phase, Scan, scan_volume
from workers.phantoms.fields import Grid, Triple
from workers.phantoms.geometry import Geometry, build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.phantoms.looks import LesionKind
from workers.phantoms.settings import PLAIN, Setting
from workers.phantoms.tissues import Tissue

Size = Literal["small", "standard", "demo"]


@dataclass(frozen=True)
class _Preset:
    shape: tuple[int, int, int]
    spacing_mm: Triple
    lesions: int
    min_radius: float
    max_radius: float
    max_noise_hu: float


# The sizes cover similar extents (200 to 270 mm high, 384 to 410 mm wide). They differ mainly in voxel size.
_PRESETS: Mapping[str, _Preset] = MappingProxyType(
    {
        "small": _Preset((40, 128, 128), (5.0, 3.0, 3.0), 2, 11.0, 22.0, 12.0),
        "standard": _Preset((84, 224, 272), (3.0, 1.5, 1.5), 3, 5.0, 30.0, 18.0),
        "demo": _Preset((90, 256, 256), (3.0, 1.6, 1.6), 4, 11.0, 24.0, 12.0),
    }
)


@dataclass(frozen=True)
class LesionRecord:
    """One lesion: number n (label 1 + n), kind, volume, equivalent diameter, and contrast to the liver.

    `rim_mm` is the depth below the label's outline to which a rim, capsule or halo reaches; 0 if there is
    none.
    """

    number: int
    kind: LesionKind
    volume_ml: float
    diameter_mm: float
    contrast_hu: float
    rim_mm: float


@dataclass(frozen=True)
class PhantomRecord:
    """The record of a phantom's content. `liver_ml` includes the lesions."""

    seed: int
    phase: Phase
    liver_ml: float
    liver_hu: float
    noise_hu: float
    lesions: tuple[LesionRecord, ...]


class Examination(NamedTuple):
    """A patient's anatomy, and the values of the scan. `phantom_of` makes a phantom from them."""

    geometry: Geometry
    scan: Scan
    rng: np.random.Generator
    seed: int
    margins_mm: Sequence[float] | None


@dataclass(frozen=True)
class Phantom:
    """A CT volume with its truth, canonical grid (axes grow to superior, posterior, patient left).

    Attributes
    ----------
    hu
        ``(Z, Y, X)`` int16.
    spacing_mm
        (z, y, x).
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver without lesions, 1 + n lesion n.
    meta
        The record of its content.
    """

    hu: NDArray[np.int16]
    spacing_mm: Triple
    labels: NDArray[np.uint8]
    meta: PhantomRecord


def make_phantom(
    seed: int,
    *,
    size: Size = "standard",
    lesions: int | None = None,
    phase: Phase | None = Phase.PORTAL,
    setting: Setting = PLAIN,
) -> Phantom:
    """Make the phantom of a seed.

    Parameters
    ----------
    seed
        The same arguments always give the same phantom.
    size
        ``small``: 40 x 128 x 128 at 5 x 3 x 3 mm (under a second), ``standard``: 84 x 224 x 272 at 3 x 1.5 x
        1.5 mm, ``demo``: 90 x 256 x 256 at 3 x 1.6 x 1.6 mm.
    lesions
        Number of lesions. A lesion without enough space is left out. By default, a plain phantom has the
        preset's number (2, 3, 4) of different kinds. Other phantoms have a random number of lesions,
        sometimes none.
    phase
        Contrast phase; None: a random phase.
    setting
        `PLAIN` gives clear cases, with the slices and lesions of `size`. `TRAINING` and `TEST` give all the
        variety, with random sizes of lesions. With `TEST`, the distances of slices are random, too.
    """
    return phantom_of(*draw_examination(seed, size, lesions, phase, setting))


def draw_examination(
    seed: int, size: Size, lesions: int | None, phase: Phase | None, setting: Setting
) -> Examination:
    """Draw the anatomy and scan values of a phantom at random, without its voxel values.

    The parameters are those of `make_phantom`.
    """
    preset = _PRESETS[size]
    chance = np.random.default_rng([seed, 3])
    if setting.varied:
        plan = LesionPlan.draw(chance, setting, lesions)
    else:
        count = preset.lesions if lesions is None else lesions
        plan = LesionPlan(count, preset.min_radius, preset.max_radius, min_inside=0.75)
    geometry = build_geometry(seed, _grid(preset, setting, chance), plan, setting)
    rng = np.random.default_rng([seed, 2])
    scan = Scan.draw(
        rng,
        geometry.lesions.count,
        phase,
        max_noise_hu=preset.max_noise_hu,
        varied_lesions=not setting.varied,
        setting=setting,
    )
    margins = [chance.uniform(*setting.margin_mm) for _ in scan.looks] if setting.varied else None
    return Examination(geometry, scan, rng, seed, margins)


def _grid(preset: _Preset, setting: Setting, chance: np.random.Generator) -> Grid:
    """Return the preset's grid. If the setting varies the slice distance, then the grid keeps its height."""
    (z, y, x), (step, *plane) = preset.shape, preset.spacing_mm
    if not setting.slice_mm:
        return Grid(preset.shape, preset.spacing_mm)
    drawn = float(chance.choice(setting.slice_mm))
    return Grid((round(z * step / drawn), y, x), (drawn, plane[0], plane[1]))


def phantom_of(
    geometry: Geometry,
    scan: Scan,
    rng: np.random.Generator,
    seed: int,
    margins_mm: Sequence[float] | None = None,
) -> Phantom:
    """Return a simulated scan of `geometry`: volume, true labels (see `Geometry.labels`) and record."""
    labels = geometry.labels(margins_mm)
    voxel_ml = float(np.prod(geometry.spacing_mm)) / 1000
    volumes = np.bincount(labels.ravel(), minlength=2 + geometry.lesions.count) * voxel_ml
    lesions = tuple(
        LesionRecord(
            number=number,
            kind=look.kind,
            volume_ml=float(volumes[1 + number]),
            diameter_mm=float(2 * (volumes[1 + number] * 1000 * 0.75 / np.pi) ** (1 / 3)),
            contrast_hu=look.core,
            rim_mm=max(0.0, look.rim_mm - margin) if look.rim_mm else 0.0,
        )
        for number, (look, margin) in enumerate(
            zip(scan.looks, margins_mm or [0.0] * len(scan.looks), strict=True), start=1
        )
    )
    meta = PhantomRecord(
        seed=seed,
        phase=scan.phase,
        liver_ml=float(volumes[1:].sum()),
        liver_hu=float(scan.hu[Tissue.LIVER]),
        noise_hu=scan.noise_hu,
        lesions=lesions,
    )
    return Phantom(scan_volume(geometry, scan, rng), geometry.spacing_mm, labels, meta)
