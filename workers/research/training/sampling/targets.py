"""The possible targets of a sample: liver, single lesions, and other organs to make the model general."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.fields import Mask
from workers.phantoms.lesion_shapes import DISTANCE_STEP_MM
from workers.phantoms.settings import TRAINING
from workers.phantoms.tissues import Tissue
from workers.research.training.geometries import Subject

_MIN_PIXELS = 20
_MIN_LESION_PIXELS = 4
# A lesion is large if some voxel of the slice lies deeper than this below the lesion's surface.
_LARGE_MM = 4.0


class TargetKind(StrEnum):
    """The kind of a target. It determines how often the target is drawn, and its prompts."""

    LIVER = "liver"
    LESION = "lesion"
    OTHER = "other"


#: Relative frequency of a target of each kind.
FREQUENCY: Mapping[TargetKind, float] = MappingProxyType(
    {TargetKind.LIVER: 3.0, TargetKind.LESION: 3.0, TargetKind.OTHER: 0.25}
)

_SINGLE_ORGANS = (
    (Tissue.SPLEEN,),
    (Tissue.AORTA,),
    (Tissue.CAVA,),
    (Tissue.GALLBLADDER,),
    (Tissue.PANCREAS,),
    (Tissue.HEART,),
    (Tissue.STOMACH_WALL, Tissue.STOMACH_CONTENT, Tissue.GAS),
    (Tissue.MARROW,),
)
_PAIRED_ORGANS = ((Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA), (Tissue.LUNG,))


@dataclass(frozen=True)
class Target:
    """One structure in a slice, with its mask ``(Y, X)``."""

    kind: TargetKind
    mask: Mask


def targets_of(subject: Subject, z: int, rng: np.random.Generator) -> list[Target]:
    """Return the targets in slice `z`.

    A lesion's outline is moved by -1.8 to 0.3 mm, because the outlines of two readers differ. Negative values
    move the outline outwards, because readers often include the rim. The outlines of small lesions move less
    than the outlines of large lesions.
    """
    geometry = subject.geometry
    found: list[Target] = []
    if (liver := subject.liver[z]).sum() > _MIN_PIXELS:
        found.append(Target(TargetKind.LIVER, liver))
    number = geometry.lesions.number[z]
    for lesion in np.unique(number[number > 0]):
        where = (number == lesion) & liver
        depth = geometry.lesions.distance[z]
        large = where.any() and depth[where].max() > _LARGE_MM / DISTANCE_STEP_MM
        margin = rng.uniform(*TRAINING.margin_mm) * (1.0 if large else 0.5)
        mask = where & (depth > margin / DISTANCE_STEP_MM)
        if mask.sum() >= _MIN_LESION_PIXELS and (where & (depth > 0)).any():
            found.append(Target(TargetKind.LESION, mask))
    found.extend(_others(geometry.tissue[z], rng))
    return found


def _others(tissue: NDArray[np.uint8], rng: np.random.Generator) -> list[Target]:
    masks = [np.isin(tissue, organ) for organ in _SINGLE_ORGANS]
    half = tissue.shape[1] // 2
    for organ in _PAIRED_ORGANS:
        mask = np.isin(tissue, organ)
        one_side = np.zeros_like(mask)
        side = slice(None, half) if rng.random() < 0.5 else slice(half, None)
        one_side[:, side] = mask[:, side]
        masks.append(one_side)
    return [Target(TargetKind.OTHER, mask) for mask in masks if mask.sum() > _MIN_PIXELS]
