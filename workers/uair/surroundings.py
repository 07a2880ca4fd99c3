"""What a proposed lesion looks like and what lies around it, as numbers for the false-positive filter.

Two sets. `blob_features` are cheap and read off the isotropic grid on which proposals are made; they decide
which proposals the model is asked about. `pool_features` are read off the ensemble of its answers. A lesion
is compact, has liver on all sides, and ends where its density does; a fissure, the gallbladder, a kidney's
fat or a vessel is long, opens to one side, or goes on outside the liver.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.candidates import dice_matrix
from workers.uair.ensemble import Ensemble, probability, statistics
from workers.uair.extent import Tissue
from workers.uair.grids import Crop, Float32, Mask

Features = NDArray[np.float32]
Window = tuple[slice, slice, slice]

SHELL_MM = (2.0, 8.0)
REACH_MM = 16.0
GROWTH_MM = 10.0
FAT_HU = -20.0
BRIGHT_HU = 60.0
"""Above the liver's density by this: a vessel, the heart, opacified bowel."""
FEWEST_IN_OCTANT = 4

BLOB_NAMES = (
    "sign",
    "peak",
    "log_volume",
    "elongation",
    "flatness",
    "fill",
    "hu",
    "contrast_hu",
    "contrast",
    "heterogeneity",
    "deepest_mm",
    "depth_mm",
    "enclosed",
    "enclosed_least",
    "like",
    "like_least",
    "fat",
    "bright",
    "growth",
    "growth_outside",
    "growth_elongation",
    "liver_hu",
)
POOL_NAMES = (
    "agreement",
    "agreement_least",
    "surrounded",
    "surrounded_least",
    "log_majority",
    "majority_contrast",
    "majority_hu",
    "majority_heterogeneity",
    "ring_like",
    "ring_like_least",
    "ring_fat",
    "ring_bright",
    "edge",
    "quality",
    "quality_spread",
    "size_spread",
    "blob_agreement",
    "blob_ratio",
    "majority_elongation",
    "majority_flatness",
    "majority_fill",
    "cut_off",
    "outside",
    "deviation",
)


@dataclass(frozen=True)
class Neighbourhood:
    """The liver and its density on an isotropic grid.

    Parameters
    ----------
    hu
        ``(z, y, x)`` lightly smoothed HU.
    liver, domain
        ``(z, y, x)`` the liver's mask, and where lesions may be.
    tissue
        The liver's density in `hu`.
    grid_mm
        Side of a voxel.
    """

    hu: Float32
    liver: Mask
    domain: Mask
    tissue: Tissue
    grid_mm: float

    @cached_property
    def depth_mm(self) -> Float32:
        """``(z, y, x)`` distance to the surface of the domain."""
        return np.asarray(ndimage.distance_transform_edt(self.domain, self.grid_mm), np.float32)

    def around(self, region: Window) -> tuple[Window, Window]:
        """Return a region grown by `REACH_MM` and where the region lies in it."""
        reach = round(REACH_MM / self.grid_mm)
        wide = [
            slice(max(0, part.start - reach), min(n, part.stop + reach))
            for part, n in zip(region, self.hu.shape, strict=True)
        ]
        inner = [slice(p.start - w.start, p.stop - w.start) for p, w in zip(region, wide, strict=True)]
        return (wide[0], wide[1], wide[2]), (inner[0], inner[1], inner[2])


def grown(mask: Mask, hu: Float32, tissue: Tissue, reach_cells: float) -> Mask:
    """Return what goes on from a blob at more than half of its contrast, no farther than `reach_cells`."""
    half = (float(np.median(hu[mask])) - tissue.median) / 2.0
    beyond = (hu - tissue.median) * np.sign(half) > abs(half)
    near = ndimage.distance_transform_edt(~mask) <= reach_cells
    return np.asarray(ndimage.binary_propagation(mask, mask=(beyond & near) | mask))


def axes_of(mask: Mask, spacing: tuple[float, float, float]) -> tuple[float, float]:
    """Return elongation (longest to middle principal axis) and flatness (middle to shortest) of a mask."""
    places = np.argwhere(mask) * np.asarray(spacing)
    if len(places) < 2:
        return 1.0, 1.0
    variances = np.linalg.eigvalsh(np.cov(places.T) + 0.3 * np.eye(3))
    return float(np.sqrt(variances[2] / variances[1])), float(np.sqrt(variances[1] / variances[0]))


def least_octant(shell: Mask, good: Mask, centre: NDArray[np.float64]) -> float:
    """Return the smallest part of `shell` that is `good` in any of the eight octants about `centre`."""
    places = np.argwhere(shell)
    if len(places) == 0:
        return 0.0
    octant = (places > centre) @ np.array([4, 2, 1])
    count = np.bincount(octant, minlength=8)
    inside = np.bincount(octant, weights=good[shell], minlength=8)
    known = count >= FEWEST_IN_OCTANT
    return float((inside[known] / count[known]).min()) if known.any() else 0.0


def blob_features(mask: Mask, region: Window, peak: float, sign: float, where: Neighbourhood) -> Features:
    """Return the numbers named by `BLOB_NAMES`.

    Parameters
    ----------
    mask
        The blob on its `region` of the grid.
    peak
        Its largest robust z-score.
    sign
        1 if brighter than the liver, -1 if darker.
    """
    wide, inner = where.around(region)
    hu, tissue = where.hu[wide], where.tissue
    blob = np.zeros(hu.shape, bool)
    blob[inner] = mask
    distance = ndimage.distance_transform_edt(~blob, where.grid_mm)
    shell = (distance > SHELL_MM[0]) & (distance <= SHELL_MM[1])
    centre = np.argwhere(blob).mean(axis=0)
    values, around = hu[blob], hu[shell]
    like, liver = tissue.like(hu), where.liver[wide]
    region_grown = grown(blob, hu, tissue, GROWTH_MM / where.grid_mm)
    depth = where.depth_mm[wide][blob]
    side = (where.grid_mm,) * 3
    elongation, flatness = axes_of(blob, side)
    median = float(np.median(values))
    fresh = region_grown & ~blob
    return np.array(
        [
            sign,
            peak,
            np.log(blob.sum() * where.grid_mm**3 / 1000.0),
            elongation,
            flatness,
            mask.sum() / mask.size,
            median,
            median - tissue.median,
            (median - tissue.median) / tissue.spread,
            float(values.std()) / tissue.spread,
            depth.max(),
            depth.mean(),
            liver[shell].mean(),
            least_octant(shell, liver, centre),
            like[shell].mean(),
            least_octant(shell, like & liver, centre),
            (around < FAT_HU).mean(),
            (around > tissue.median + BRIGHT_HU).mean(),
            np.log(region_grown.sum() / blob.sum()),
            (fresh & ~where.domain[wide]).sum() / region_grown.sum(),
            axes_of(region_grown, side)[0],
            tissue.median,
        ],
        np.float32,
    )


def pool_features(
    pool: Ensemble, hu: Float32, liver: Mask, domain: Mask, blob: Mask, tissue: Tissue, crop: Crop
) -> Features | None:
    """Return the numbers named by `POOL_NAMES`, or None if the members have no majority.

    Parameters
    ----------
    pool
        A proposal's first ensemble.
    hu
        ``(n, h, w)`` mean HU of mask cells.
    liver, domain
        ``(n, h, w)`` the liver, and where lesions may be.
    blob
        ``(n, h, w)`` the proposal.
    tissue
        The liver's density.
    crop
        Where the model looked.
    """
    masks = pool.masks
    majority = masks.mean(axis=0) >= 0.5
    if not majority.any():
        return None
    spacing = (crop.step_mm, crop.cell_mm, crop.cell_mm)
    distance = ndimage.distance_transform_edt(~majority, spacing)
    ring = (distance > SHELL_MM[0]) & (distance <= SHELL_MM[1])
    skin = (distance > 0) & (distance <= 2.5)
    rind = majority & (ndimage.distance_transform_edt(majority, spacing) <= 2.5)
    like = tissue.like(hu)
    centre = np.argwhere(majority).mean(axis=0)
    similarity = dice_matrix(masks)
    others = (similarity.sum(axis=1) - 1.0) / max(1, len(similarity) - 1)
    volumes = masks.reshape(len(masks), -1).sum(axis=1)
    contrast = float(np.median(hu[majority])) - tissue.median
    elongation, flatness = axes_of(majority, spacing)
    extent = [np.flatnonzero(majority.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    _, deviation = statistics(probability(pool.logits))
    in_ring, around = max(1, int(ring.sum())), hu[ring]
    return np.array(
        [
            others.mean(),
            others.min(),
            (ring & liver).sum() / in_ring,
            least_octant(ring, liver, centre),
            np.log(majority.sum() * crop.cell_volume_ml),
            contrast / tissue.spread,
            contrast + tissue.median,
            float(hu[majority].std()) / tissue.spread,
            (ring & like).sum() / in_ring,
            least_octant(ring, like & liver, centre),
            (around < FAT_HU).sum() / in_ring,
            (around > tissue.median + BRIGHT_HU).sum() / in_ring,
            np.sign(contrast) * (_mean(hu[rind]) - _mean(hu[skin])) / tissue.spread,
            np.median(pool.quality),
            pool.quality.std(),
            np.log(np.maximum(volumes, 1)).std(),
            2.0 * (majority & blob).sum() / (majority.sum() + blob.sum()),
            np.log(majority.sum() / max(1, int(blob.sum()))),
            elongation,
            flatness,
            majority.sum() / np.prod([hit[-1] - hit[0] + 1 for hit in extent]),
            (majority[0].sum() + majority[-1].sum()) / majority.sum(),
            (majority & ~domain).sum() / majority.sum(),
            deviation[majority].mean(),
        ],
        np.float32,
    )


def _mean(values: Float32) -> float:
    return float(values.mean()) if values.size else 0.0
