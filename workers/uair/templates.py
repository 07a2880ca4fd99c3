"""Template scans: their stored data, and the liver's probability in a box that they helped to locate.

A liver's *extreme points* are where it touches the six faces of its box. Arrays are on a grid of 3 mm.
Coordinates (z, y, x) count voxel edges. This module uses neither networks nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.grids import Box, Float32, Mask, bounding_box

GRID_MM = 3.0
"""Voxel size of the grid (the paper, section 4.5)."""
FACES = ("inferior", "anterior", "right", "superior", "posterior", "left")
"""The six faces of a box on the canonical grid: its start along z, y, x, then its stop."""
ATLAS_SHAPE = (32, 32, 32)
"""Cells of the averaged masks, which all fill the same box."""
_HU_BINS = np.arange(-240.0, 400.0, 8.0)
_LEAST_SPREAD_HU = 10.0


@dataclass(frozen=True)
class Template:
    """The stored data of a template scan: the liver's coarse shape and features, but no densities.

    Attributes
    ----------
    coordinates
        ``(6, 3)`` latent coordinates of the extreme points, mm, in the order of `FACES`.
    features
        ``(6, F)`` unit feature vectors of the extreme points.
    mask
        ``(Z, Y, X)`` the liver inside its box, voxels of 3 mm.
    """

    coordinates: Float32
    features: Float32
    mask: Mask


def extreme_points(mask: Mask) -> NDArray[np.int64]:
    """Return the extreme points ``(6, 3)`` of a mask in voxel edges, in the order of `FACES`.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask has no extreme points")
    points = []
    for stops, edges in ((False, box.start), (True, box.stop)):
        for axis, edge in enumerate(edges):
            layer = np.argwhere(mask.take(int(edge) - stops, axis))
            middle = np.rint(layer.mean(axis=0) + 0.5)
            points.append(np.insert(middle, axis, edge).astype(np.int64))
    return np.stack(points)


def atlas_of(masks: Sequence[Mask]) -> Float32:
    """Stretch masks ``(Z, Y, X)`` to `ATLAS_SHAPE`, and return the share of masks that contain each cell."""
    summed = np.zeros(ATLAS_SHAPE)
    for mask in masks:
        places = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(ATLAS_SHAPE, mask.shape, strict=True)]
        grid = np.meshgrid(*places, indexing="ij")
        summed += ndimage.map_coordinates(mask.astype(np.float32), grid, order=1, mode="nearest")
    return (summed / len(masks)).astype(np.float32)


def in_box(atlas: Float32, box: Box, shape: tuple[int, ...], blur: float) -> Float32:
    """Return the atlas stretched into a box, on a grid of `shape`. The grid's end cuts the atlas off.

    `blur` is the standard deviation of the position of the box's faces, in voxels.
    """
    places = [
        ((np.arange(n) + 0.5 - start) / (stop - start)) * cells - 0.5
        for n, start, stop, cells in zip(shape, box.start, box.stop, atlas.shape, strict=True)
    ]
    grid = np.meshgrid(*places, indexing="ij")
    sharp = ndimage.map_coordinates(atlas, grid, order=1, mode="grid-constant")
    # A scan that ends inside the liver does not make the liver less likely at its end.
    return np.asarray(ndimage.gaussian_filter(sharp, blur, mode="nearest"), np.float32)


def weighed_by_density(prior: Float32, hu: Float32) -> Float32:
    """Return the liver's probability from a prior and the density (Bayes' rule, voxel by voxel).

    The liver's density is estimated from the surest voxels, as a normal distribution with robust parameters.
    The density of its surroundings is a histogram of the voxels with a small prior.

    Parameters
    ----------
    prior
        ``(Z, Y, X)`` probability of the liver without the density.
    hu
        ``(Z, Y, X)`` smoothed HU.
    """
    sure = hu[prior > 0.7 * prior.max()]
    median = float(np.median(sure))
    spread = max(_LEAST_SPREAD_HU, 1.4826 * float(np.median(np.abs(sure - median))))
    liver = np.exp(-0.5 * ((hu - median) / spread) ** 2) / (spread * np.sqrt(2.0 * np.pi))
    around = hu[(prior > 0.02) & (prior < 0.3)]
    counts, _ = np.histogram(np.clip(around, _HU_BINS[0], _HU_BINS[-1] - 1), _HU_BINS)
    width = _HU_BINS[1] - _HU_BINS[0]
    smooth = ndimage.gaussian_filter1d(counts + 0.5, 1.0, mode="nearest")
    other = (smooth / (smooth.sum() * width))[np.clip(np.digitize(hu, _HU_BINS) - 1, 0, len(counts) - 1)]
    likely = prior * liver
    return np.asarray(likely / np.maximum(likely + (1.0 - prior) * other, 1e-9), np.float32)
