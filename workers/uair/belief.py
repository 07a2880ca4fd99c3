"""The belief over the shapes of a target, a probability distribution. This module makes the first belief.

A shape is the zero level of a field of signed distances, in mm, positive inside::

    phi(x) = mean(x) + sum_f a_f F_f(x) + sum_k b_k C_k(x) + o

``mean`` is the mean distance map of the first members (equation 1). ``F_f`` are the directions in which these
members differ. ``C_k`` are smooth cosine fields for errors that all members share. ``o`` moves the whole
surface. A particle is a vector ``(a, b, o)``. The belief consists of `PARTICLES` equally likely particles.
`workers.uair.posterior` updates them after an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.ensemble import CUT, LIMIT
from workers.uair.grids import Float32, Mask, Spacing, bounding_box

Float16 = NDArray[np.float16]
Float64 = NDArray[np.float64]

PARTICLES = 256
MOST_CELLS = 24000
"""Particles are compared on at most this many cells. Larger targets are sampled with a stride."""
MARGIN_MM = 4.0
MARGIN_RADII = 0.4
"""Shapes may reach this fraction of the radius beyond all members, but at least `MARGIN_MM`."""
MOST_FACTORS = 12
MOST_MODES = 160
LENGTH_RADII = 0.6
"""Length scale (standard deviation) of the smooth fields' kernel, in radii."""
AMPLITUDE_RADII, LEAST_AMPLITUDE_MM, MOST_AMPLITUDE_MM = 0.10, 0.3, 2.5
"""Standard deviation of the smooth fields before any answer.

It is the first value times the radius, plus the second value in mm. It is at most the third value in mm.
"""
DENSITY_MEAN = 0.5
"""Mean of the coefficient of the density evidence before any answer, see `with_direction`.

The coefficient's standard deviation is 1. The mean is positive, because networks follow the density too
little.
"""
REACH = 2.0
"""Distance from the surface up to which shapes follow the density, in deviations of the smooth fields."""
OFFSET_RADII, MOST_OFFSET_MM = 0.08, 1.0
"""Standard deviation of the offset (how far outwards readers draw) in radii, and its maximum in mm."""
PREFERENCE_SHARE = 0.2
"""The fraction of the offset's standard deviation that remains if a reader's preference is remembered."""
LEVEL = 0.45
"""A candidate contains a cell if more than this fraction of the shapes in its cluster contain the cell.

The value is below one half, because the expected Dice is then larger.
"""
NEAR_MM = 6.0
_LEVEL_LOGIT = float(np.log(LEVEL / (1.0 - LEVEL)))


@dataclass(frozen=True)
class Belief:
    """Equally likely shapes of one target on the cells of its crop.

    Parameters
    ----------
    start
        First cell (z, y, x) of the window that contains the shapes.
    cell_mm
        Size of a cell (z, y, x).
    mean
        ``(n, h, w)`` distances in the window.
    factors
        ``(F, n', h', w')`` distances on every `stride`-th cell of the window.
    stride
        Cells (z, y, x) from one sample of the window to the next.
    allowed
        ``(n, h, w)``: cells of the window that the target may cover.
    radius_mm
        Radius of a sphere with the mean's volume.
    particles
        ``(P, F + K + 1)``: the coefficients of factors and smooth fields, and the offset in mm.
    """

    start: tuple[int, int, int]
    cell_mm: Spacing
    mean: Float16
    factors: Float16
    stride: tuple[int, int, int]
    allowed: Mask
    radius_mm: float
    particles: Float16

    @property
    def part(self) -> tuple[slice, slice, slice]:
        """The window as slices of the crop's cells."""
        z, y, x = (slice(first, first + n) for first, n in zip(self.start, self.mean.shape, strict=True))
        return z, y, x

    @property
    def sampled(self) -> tuple[slice, slice, slice]:
        """Every `stride`-th cell of the window."""
        z, y, x = (slice(None, None, step) for step in self.stride)
        return z, y, x

    def with_preference(self, change_mm: float) -> Belief:
        """Return the belief after the preference changed by `change_mm`. Every second particle moves."""
        particles = self.particles.astype(np.float32)
        particles[1::2, -1] += change_mm
        return replace(self, particles=particles.astype(np.float16))

    @cached_property
    def _basis(self) -> Float32:
        """``(F + K + 1, V)``: the fields on the samples. A particle's coefficients multiply these fields."""
        shape = self.factors.shape[1:]
        fields = _cosines(shape, self._modes)
        factors = self.factors.reshape(len(self.factors), fields.shape[1]).astype(np.float32)
        return np.concatenate([factors, fields, np.ones((1, fields.shape[1]), np.float32)])

    @cached_property
    def _modes(self) -> NDArray[np.int64]:
        return _lowest_modes(self._sample_shape, self._extent_mm)

    @property
    def _sample_shape(self) -> tuple[int, int, int]:
        z, y, x = self.factors.shape[1:]
        return z, y, x

    @property
    def _extent_mm(self) -> Spacing:
        z, y, x = (
            n * step * mm for n, step, mm in zip(self._sample_shape, self.stride, self.cell_mm, strict=True)
        )
        return z, y, x

    @cached_property
    def fields(self) -> Float32:
        """``(P, V)`` distances of every particle on the samples."""
        mean = self.mean[self.sampled].astype(np.float32).ravel()
        fields = self.particles.astype(np.float32) @ self._basis
        fields += mean
        fields[:, ~self._allowed_samples] = -NEAR_MM
        return fields

    @cached_property
    def shapes(self) -> Float32:
        """``(P, V)``: 1 inside each particle's surface, else 0."""
        return (self.fields > 0).astype(np.float32)

    @property
    def _allowed_samples(self) -> Mask:
        return np.asarray(self.allowed[self.sampled].ravel())

    def samples_of(self, mask: Mask) -> Float32:
        """Return the values ``(V,)``, 0 or 1, of a mask ``(n, h, w)`` of the crop's cells at the samples."""
        return np.asarray(mask[self.part][self.sampled].ravel(), np.float32)

    def agreement(self, masks: Mask) -> Float64:
        """Return the Dice ``(P, K)`` of each particle with masks ``(K, n, h, w)`` of the crop's cells."""
        scale = float(np.prod(self.stride))
        drawn = np.stack([self.samples_of(mask) for mask in masks])
        # A mask may have cells beyond the window. No particle contains these cells.
        sizes = np.maximum(drawn.sum(axis=1), masks.reshape(len(masks), -1).sum(axis=1) / scale)
        return dices(self.shapes, drawn, sizes)

    def deviation_from(self, mask: Mask) -> Float32:
        """Return the root mean square difference ``(n, h, w)`` of the shapes from a mask of the crop's cells.

        After a selection, the mask replaces the mean of equation 1 (section 4.4 of the paper). A cell's value
        is the square root of the probability that the mask is wrong in this cell.
        """
        wrong = self.shapes.mean(axis=0)
        inside = self.samples_of(mask) > 0
        wrong = np.where(inside, 1.0 - wrong, wrong).reshape(self._sample_shape)
        deviation = np.zeros(mask.shape, np.float32)
        deviation[self.part] = np.sqrt(np.clip(self._whole(wrong), 0.0, 1.0))
        return deviation

    def _whole(self, samples: Float32) -> Float32:
        """Return samples ``(n', h', w')`` interpolated to all cells of the window."""
        if self.stride == (1, 1, 1):
            return samples
        values = samples
        for axis, (step, count) in enumerate(zip(self.stride, self.mean.shape, strict=True)):
            nodes = np.arange(values.shape[axis]) * step
            weights = np.stack(
                [np.interp(np.arange(count), nodes, row) for row in np.eye(len(nodes))], axis=1
            ).astype(np.float32)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
        return values

    def logits_of(self, members: NDArray[np.intp], crop_shape: tuple[int, ...]) -> Float32:
        """Return the logits ``(n, h, w)`` of a candidate that represents some particles, on the crop's cells.

        A cell's logit is ``logit(m) - logit(LEVEL)``, limited to `LIMIT`. Here m is the mean of
        ``1 / (1 + exp(-phi / s))`` over the particles, and s is half the size of a sample.
        """
        rounded = 0.5 * self.cell_mm[1] * min(self.stride)
        occupied: Float32 = _logistic(self.fields[members] / rounded).mean(axis=0)
        bound = np.float32(LIMIT)
        wanted = np.clip(_logit(occupied) - _LEVEL_LOGIT, -bound, bound)
        mean = np.clip(self.mean.astype(np.float32) / rounded, -bound, bound)
        change = wanted.reshape(self._sample_shape) - mean[self.sampled]
        inside = np.clip(mean + self._whole(change), -bound, bound)
        logits = np.full(crop_shape, -LIMIT, np.float32)
        logits[self.part] = np.where(self.allowed, inside, np.minimum(inside, CUT))
        return logits


def prior_belief(
    masks: Mask,
    allowed: Mask | None,
    cell_mm: Spacing,
    rng: np.random.Generator,
    *,
    preference_mm: float = 0.0,
) -> Belief:
    """Return the belief before any answer.

    All coefficients have normal distributions: ``a`` with the members' own covariance, and ``b`` with a
    spectrum ``exp(-(s |k|)^2)`` scaled to `AMPLITUDE_RADII`. The standard deviation of ``o`` is
    `OFFSET_RADII`. The members are particles, too.

    Parameters
    ----------
    masks
        ``(N, n, h, w)`` members. No member is empty.
    allowed
        ``(n, h, w)``: cells that the target may cover; None: all cells.
    cell_mm
        Size of a cell (z, y, x).
    preference_mm
        The remembered preference of the reader, in mm outwards. Half of the particles begin with this offset.
        The other half fits other readers.
    """
    shape = masks.shape[1:]
    allowed = np.ones(shape, bool) if allowed is None else allowed
    volume = float((masks.mean(axis=0) > 0.5).sum() or masks[0].sum()) * float(np.prod(cell_mm))
    radius = max(2.0, float((volume * 0.75 / np.pi) ** (1.0 / 3.0)))
    margin = max(MARGIN_MM, MARGIN_RADII * radius) + max(0.0, preference_mm)
    part = window_around(np.asarray(masks.any(axis=0)), cell_mm, margin)
    window = masks[(slice(None), *part)]
    stride = _stride(window.shape[1:], cell_mm)
    sampled = tuple(slice(None, None, step) for step in stride)
    sampling = (stride[0] * cell_mm[0], stride[1] * cell_mm[1], stride[2] * cell_mm[2])
    distances = np.stack([distance_mm(mask[sampled], sampling) for mask in window])
    coarse = distances.mean(axis=0)
    count = len(masks)
    flat = (distances - coarse).reshape(count, -1)
    gram = flat @ flat.T
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    order = np.argsort(-values, kind="stable")[: min(MOST_FACTORS, count - 1)]
    kept = order[values[order] > 1e-3]
    scale = np.sqrt(max(1, count - 1))
    factors = (vectors[:, kept].T @ flat / scale).astype(np.float32)
    own = vectors[:, kept] * scale
    fine = coarse
    if stride != (1, 1, 1):
        majority = window.mean(axis=0) > 0.5
        majority = majority if majority.any() else window[0]
        fine = distance_mm(majority, cell_mm)
    blank = Belief(
        start=(part[0].start, part[1].start, part[2].start),
        cell_mm=cell_mm,
        mean=fine.astype(np.float16),
        factors=factors.reshape(len(factors), *coarse.shape).astype(np.float16),
        stride=stride,
        allowed=allowed[part],
        radius_mm=radius,
        particles=np.zeros((0, 0), np.float16),
    )
    drawn = smooth_fields(blank, rng, PARTICLES, LENGTH_RADII * radius, _amplitude_mm(radius))
    drawn[:, : len(factors)] = rng.standard_normal((PARTICLES, len(factors)))
    drawn[:, -1] = rng.normal(0.0, min(MOST_OFFSET_MM, OFFSET_RADII * radius), PARTICLES)
    exact = min(count, PARTICLES // 4)
    drawn[:exact] = 0.0
    drawn[:exact, : len(factors)] = own[:exact]
    if preference_mm:
        drawn[1::2, -1] = preference_mm + PREFERENCE_SHARE * drawn[1::2, -1]
    return replace(blank, particles=drawn.astype(np.float16))


def with_direction(belief: Belief, evidence: Float32, rng: np.random.Generator) -> Belief:
    """Return the belief with shapes that follow a density evidence ``(n, h, w)``, see `workers.uair.density`.

    The evidence becomes one more factor F. Near the surface, the factor moves shapes as far as a smooth field
    does (root mean square). Far from the surface, the factor is multiplied by ``exp(-(mean / (2 A))^2 / 2)``,
    with the fields' standard deviation A. Its coefficient is normal with mean `DENSITY_MEAN` and standard
    deviation 1.
    """
    samples = evidence[belief.part][belief.sampled]
    amplitude, depth = _amplitude_mm(belief.radius_mm), belief.mean[belief.sampled].astype(np.float32)
    near = np.abs(depth) < max(2.0, belief.radius_mm / 4.0)
    size = float(np.sqrt((samples[near] ** 2).mean())) if near.any() else 0.0
    if size == 0.0:
        return belief
    nearness = np.exp(-0.5 * (depth / (REACH * amplitude)) ** 2)
    factor = (samples * nearness * (amplitude / size)).astype(np.float16)
    coefficients = rng.normal(DENSITY_MEAN, 1.0, len(belief.particles)).astype(np.float16)
    return replace(
        belief,
        factors=np.concatenate([belief.factors, factor[None]]),
        particles=np.insert(belief.particles, len(belief.factors), coefficients, axis=1),
    )


def _amplitude_mm(radius_mm: float) -> float:
    return min(MOST_AMPLITUDE_MM, AMPLITUDE_RADII * radius_mm + LEAST_AMPLITUDE_MM)


def smooth_fields(
    belief: Belief, rng: np.random.Generator, count: int, length_mm: float, amplitude_mm: float
) -> Float64:
    """Return coefficients ``(count, F + K + 1)`` of random smooth fields with this length and amplitude."""
    modes = belief._modes
    waves = np.pi * modes / np.asarray(belief._extent_mm)
    power = np.exp(-0.5 * (length_mm**2) * (waves**2).sum(axis=1))
    power *= amplitude_mm / np.sqrt((power**2).sum())
    drawn = np.zeros((count, len(belief.factors) + len(modes) + 1))
    drawn[:, len(belief.factors) : -1] = rng.standard_normal((count, len(modes))) * power
    return drawn


@lru_cache(maxsize=64)
def _lowest_modes(shape: tuple[int, int, int], extent_mm: Spacing) -> NDArray[np.int64]:
    """Return the modes ``(K, 3)``: the number of half waves along each axis. Longest waves come first."""
    grid = np.meshgrid(*(np.arange(min(n, 12)) for n in shape), indexing="ij")
    modes = np.stack([axis.ravel() for axis in grid], axis=1)
    waves = ((modes / np.asarray(extent_mm)) ** 2).sum(axis=1)
    return np.asarray(modes[np.argsort(waves, kind="stable")][:MOST_MODES])


def _cosines(shape: tuple[int, ...], modes: NDArray[np.int64]) -> Float32:
    """Return ``(K, V)`` products of cosines, each of mean square 1."""
    tables = []
    for count in shape:
        number = np.arange(min(count, 12))[:, None]
        table = np.cos(np.pi * number * (np.arange(count) + 0.5) / count)
        table[1:] *= np.sqrt(2.0)
        tables.append(table.astype(np.float32))
    z, y, x = (table[modes[:, axis]] for axis, table in enumerate(tables))
    fields = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    return np.asarray(fields.reshape(len(modes), -1))


def window_around(mask: Mask, cell_mm: Spacing, margin_mm: float) -> tuple[slice, slice, slice]:
    """Return the box of a mask with a margin in mm around it.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty target")
    return box.extended((margin_mm,) * 3, cell_mm, mask.shape).outer(mask.shape)


def _stride(shape: tuple[int, ...], cell_mm: Spacing) -> tuple[int, int, int]:
    """Return the stride (z, y, x) in cells, so that there are at most `MOST_CELLS` samples."""
    pitch = min(cell_mm)
    while True:
        z, y, x = (max(1, round(pitch / mm)) for mm in cell_mm)
        if np.prod([-(-n // step) for n, step in zip(shape, (z, y, x), strict=True)]) <= MOST_CELLS:
            return z, y, x
        pitch *= 1.15


def distance_mm(mask: Mask, sampling: Spacing) -> Float32:
    """Return the signed distance in mm to a mask's surface, positive inside; -20 for an empty mask."""
    if not mask.any():
        return np.full(mask.shape, -20.0, np.float32)
    half = sampling[1] / 2.0
    outside = ndimage.distance_transform_edt(~mask, sampling)
    if mask.all():
        return np.full(mask.shape, 20.0, np.float32)
    inside = ndimage.distance_transform_edt(mask, sampling)
    return np.where(mask, inside - half, half - outside).astype(np.float32)


def dices(shapes: Float32, candidates: Float32, sizes: Float32 | None = None) -> Float64:
    """Return the Dice ``(P, K)`` of shapes ``(P, V)`` with candidates ``(K, V)``. All values are 0 or 1.

    If candidates reach beyond the samples, then `sizes` ``(K,)`` are the candidates' whole sizes in samples.
    """
    drawn = candidates.sum(axis=1) if sizes is None else sizes
    shared = shapes @ candidates.T
    return np.asarray(2.0 * shared / np.maximum(shapes.sum(axis=1)[:, None] + drawn[None], 1.0), np.float64)


def _logistic(values: Float32) -> Float32:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -20.0, 20.0))), np.float32)


def _logit(chance: Float32) -> Float32:
    inside = np.clip(chance, 1e-4, 1.0 - 1e-4)
    return np.asarray(np.log(inside / (1.0 - inside)), np.float32)
