"""Propose lesions: compact places whose density differs from the rest of the liver (docs/engine.md).

All steps use an isotropic grid. First, the liver's mask is closed and filled, because a predicted liver often
lacks large lesions. Then density (HU) is compared with the liver's own median at several scales, in robust
standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.grids import Box, Float32, Mask, Spacing, tight_box
from workers.uair.localize import CoarseMap, largest_component

GRID_MM = 2.0
SCALES_MM = (2.0, 3.5, 6.0)
DARK_Z = (2.6, 4.0, 6.0)
BRIGHT_Z = (3.6, 5.5)
"""Thresholds of the robust z-score, above which dark or bright voxels are outliers.

There are several thresholds, because a low threshold merges a lesion with the liver's blurred edge. Bright
outliers are mostly vessels, so their thresholds are higher.
"""
BRIGHT_WEIGHT = 0.55
MIN_RADIUS_MM = 1.6
MAX_ELONGATION = 3.2
MIN_FILL = 0.12
CLOSING_MM = 14.0
DILATION_MM = 3.0
DOUBTFUL_MM = 40.0
RIM_MM = 16.0
SKIN_MM = 2.5
"""Depth in mm below the liver's surface from which density is used. Nearer to the surface it is blurred."""
OVERLAP = 0.4
"""Two proposals are the same if their boxes share more than this fraction of the smaller box."""
PLAUSIBLE_HU = (-40.0, 250.0)
"""The HU of tissue of a liver or a lesion. Fat and gas, which closing may include, lie outside."""


@dataclass(frozen=True)
class Proposal:
    """A possible lesion.

    Parameters
    ----------
    box
        In the volume's edge coordinates.
    outline
        The proposed region, as a map over a box of the volume.
    score
        Among proposals of the same kind, a larger score means a more likely lesion. The score of a learned
        proposal is a probability. Otherwise it is a robust z-score, weighted by size and compactness.
    volume_ml
        Volume of the region.
    learned
        Whether a learned finder made the proposal. Its outline is then a probability map.
    """

    box: Box
    outline: CoarseMap
    score: float
    volume_ml: float
    learned: bool = False


@dataclass(frozen=True)
class _Blob:
    region: tuple[slice, slice, slice]
    mask: Mask
    score: float


def lesion_domain(liver: Mask, spacing_mm: Spacing, doubtful: Mask | None = None) -> Mask:
    """Return the possible places of lesions: the liver closed, filled and slightly dilated.

    `doubtful` is a mask of cells that another source labels as liver. Within `DOUBTFUL_MM` of the liver,
    these cells join the domain, because a mask of liver density lacks a lesion at the liver's surface. Only
    pieces that are thicker than `RIM_MM` join.
    """
    reach = [max(1, round(CLOSING_MM / s)) for s in spacing_mm]
    padded = np.pad(largest_component(liver), [(n + 1, n + 1) for n in reach])
    outside = ndimage.distance_transform_edt(~padded, spacing_mm)
    closed = ndimage.distance_transform_edt(outside <= CLOSING_MM, spacing_mm) > CLOSING_MM
    filled = ndimage.binary_fill_holes(closed | padded)
    grown = ndimage.distance_transform_edt(~filled, spacing_mm) <= DILATION_MM
    inner = tuple(slice(n + 1, -(n + 1)) for n in reach)
    domain = grown[inner]
    if doubtful is not None:
        bay = doubtful & ~domain & (outside[inner] <= DOUBTFUL_MM)
        core = ndimage.distance_transform_edt(bay, spacing_mm) > RIM_MM / 2.0
        domain = domain | (bay & (ndimage.distance_transform_edt(~core, spacing_mm) <= RIM_MM))
    return np.asarray(domain)


def propose(
    hu: Float32,
    domain: Mask,
    liver: Mask,
    origin: tuple[float, float, float],
    volume_spacing: Spacing,
    limit: int,
) -> list[Proposal]:
    """Return up to `limit` proposals, the best first.

    Parameters
    ----------
    hu
        ``(z, y, x)`` HU at `GRID_MM` isotropic.
    domain
        ``(z, y, x)``: the result of `lesion_domain` on the same grid.
    liver
        ``(z, y, x)`` the liver itself. Its density is the reference. Bright outliers count only inside the
        liver, because heart and opacified bowel lie beyond it.
    origin
        The start of the grid in the volume's edge coordinates.
    volume_spacing
        Voxel spacing of the volume. The proposals' boxes count the volume's voxels.
    """
    low, high = PLAUSIBLE_HU
    smooth = ndimage.gaussian_filter(hu, 1.0)
    inside = ndimage.binary_opening(domain & (smooth > low) & (smooth < high))
    core = ndimage.distance_transform_edt(inside, GRID_MM) > DILATION_MM + SKIN_MM
    if (core & liver).sum() < 100:
        return []
    kept: list[_Blob] = []
    for blob in sorted(_blobs(hu, core, core & liver), key=lambda blob: -blob.score):
        if all(_overlap(blob.region, other.region) < OVERLAP for other in kept):
            kept.append(blob)
        if len(kept) == limit:
            break
    return [_proposal(blob, origin, volume_spacing) for blob in kept]


def _blobs(hu: Float32, core: Mask, sure: Mask) -> list[_Blob]:
    weight = core.astype(np.float32)
    median = float(np.median(hu[sure]))
    excess = np.clip(hu - median, -150.0, 200.0) * weight
    blobs = []
    for scale in SCALES_MM:
        sigma = scale / GRID_MM
        # Normalised convolution: voxels outside the liver have no weight.
        share = ndimage.gaussian_filter(weight, sigma)
        smooth = ndimage.gaussian_filter(excess, sigma) / np.maximum(share, 0.15)
        values = smooth[sure]
        middle = float(np.median(values))
        spread = max(1.5, 1.4826 * float(np.median(np.abs(values - middle))))
        z_score = (smooth - middle) / spread
        for limit in DARK_Z:
            blobs += _components(-z_score, core & (z_score < -limit), 1.0)
        for limit in BRIGHT_Z:
            blobs += _components(z_score, sure & (z_score > limit), BRIGHT_WEIGHT)
    return blobs


def _components(z_score: Float32, mask: Mask, weight: float) -> list[_Blob]:
    labels, _ = ndimage.label(mask)
    smallest = 4.0 / 3.0 * np.pi * MIN_RADIUS_MM**3 / GRID_MM**3
    blobs = []
    for number, region in enumerate(ndimage.find_objects(labels), start=1):
        blob = labels[region] == number
        cells = int(blob.sum())
        if cells < max(2.0, smallest):
            continue
        elongation = _elongation(blob)
        fill = cells / blob.size
        if elongation > MAX_ELONGATION or fill < MIN_FILL:
            continue
        size = np.clip((cells * GRID_MM**3 / 1000.0) ** (1.0 / 6.0), 0.3, 2.0)
        compact = np.clip(fill / 0.45, 0.2, 1.2) / np.clip(elongation, 1.0, 4.0) ** 0.7
        peak = float(z_score[region][blob].max())
        blobs.append(_Blob(region, blob, float(peak * size * compact * weight)))
    return blobs


def _elongation(blob: Mask) -> float:
    """Return the ratio of the longest to the middle principal axis. It is large for vessels."""
    places = np.argwhere(blob) * GRID_MM
    variances = np.linalg.eigvalsh(np.cov(places.T) + 0.3 * np.eye(3))
    return float(np.sqrt(variances[2] / variances[1]))


def _overlap(a: tuple[slice, slice, slice], b: tuple[slice, slice, slice]) -> float:
    shared = float(
        np.prod([max(0, min(p.stop, q.stop) - max(p.start, q.start)) for p, q in zip(a, b, strict=True)])
    )
    sizes = [float(np.prod([p.stop - p.start for p in part])) for part in (a, b)]
    return shared / min(sizes)


def box_on_grid(mask: Mask, step_mm: float, origin: tuple[float, float, float], spacing: Spacing) -> Box:
    """Return the box of a mask on an isotropic grid, half a cell wider at each face, in volume coordinates.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    tight = tight_box(mask)
    to_volume: NDArray[np.float64] = step_mm / np.asarray(spacing)
    z0, y0, x0 = np.asarray(origin) + (np.asarray(tight.start) - 0.5) * to_volume
    z1, y1, x1 = np.asarray(origin) + (np.asarray(tight.stop) + 0.5) * to_volume
    return Box((float(z0), float(y0), float(x0)), (float(z1), float(y1), float(x1)))


def _proposal(blob: _Blob, origin: tuple[float, float, float], spacing: Spacing) -> Proposal:
    pad = 1
    padded = np.pad(blob.mask, pad)
    first = np.asarray([part.start for part in blob.region], float) - pad
    z0, y0, x0 = np.asarray(origin) + first * GRID_MM / np.asarray(spacing)
    start = (float(z0), float(y0), float(x0))
    outline = CoarseMap(padded.astype(np.float32), GRID_MM, spacing, start)
    box = box_on_grid(padded, GRID_MM, start, spacing)
    return Proposal(box, outline, blob.score, float(blob.mask.sum() * GRID_MM**3 / 1000.0))
