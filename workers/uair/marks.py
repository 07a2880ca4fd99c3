"""Segment lesions that a reader marked. The marks give prompts and update the belief over shapes.

A line or a contour gives a lesion's place and edge. A point gives only its place. The marks of a lesion
become an ellipsoid and points of the edge. The ellipsoid's box prompts the networks. The points of the edge
update the belief.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.belief import Belief
from workers.uair.candidates import by_size
from workers.uair.compose import LIVER, Labels, spread_apart, tidied
from workers.uair.ensemble import Decoder, in_half, probability
from workers.uair.finder import BEYOND_MM, PlanCrop
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing
from workers.uair.outlines import Outliner, led_in_box
from workers.uair.prompts import Outline
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import (
    LARGEST_DICE,
    LESION_PLAN,
    CandidateOptions,
    first_pool,
    new_candidates,
    open_target,
)

Float64 = NDArray[np.float64]

POINT, LINE, CONTOUR = "point", "line", "contour"
OTHER_AXES = 0.8
"""Extent of a lesion across its measured axis, as a fraction of this axis. Readers measure the longest."""
POINT_RADIUS_MM = 8.0
LEAST_RADIUS_MM = 2.0
EDGE_MM = 1.5
"""Standard deviation, in mm, of the distance from a mark's end to the lesion's true edge."""
MOST_EDGE_POINTS = 24
DOMAIN_GROWTH = 1.5
"""Outside of the liver, a marked lesion may reach this far, in half axes of its ellipsoid."""


@dataclass(frozen=True)
class DrawnMark:
    """A drawn shape. Its `points` ``(n, 3)`` are z, y, x in voxels from the corner of the canonical grid."""

    shape: str
    points: Float64


@dataclass(frozen=True)
class MarkedTarget:
    """A lesion that a reader marked: its label value, and its marks."""

    value: int
    marks: tuple[DrawnMark, ...]

    @property
    def edge(self) -> Float64:
        """``(n, 3)`` points of the lesion's edge; empty if all marks are points."""
        found = [mark.points for mark in self.marks if mark.shape != POINT]
        points = np.concatenate(found) if found else np.empty((0, 3))
        return np.asarray(points[:: max(1, -(-len(points) // MOST_EDGE_POINTS))])


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: `centre`, and the half axes as columns of `axes`; z, y, x in mm."""

    centre: Float64
    axes: Float64

    def box(self, spacing: Spacing) -> Box:
        """Return the ellipsoid's box in edge coordinates of the volume."""
        half = np.sqrt((self.axes**2).sum(axis=1))
        low, high = (self.centre - half) / spacing, (self.centre + half) / spacing
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def holds(self, crop: Crop, spacing: Spacing, *, times: float = 1.0) -> Mask:
        """Return the crop's cells ``(n, h, w)`` whose centres lie in the ellipsoid, scaled by `times`."""
        places = np.meshgrid(*crop.cell_centres(), indexing="ij")
        offsets = np.stack([at * mm for at, mm in zip(places, spacing, strict=True)], axis=-1) - self.centre
        relative = offsets @ np.linalg.inv(self.axes).T
        return np.asarray((relative**2).sum(axis=-1) <= times**2)


def ellipsoid_of(target: MarkedTarget, spacing: Spacing) -> Ellipsoid:
    """Return the ellipsoid that a lesion's marks suggest."""
    drawn = [(mark.shape, mark.points * np.asarray(spacing)) for mark in target.marks]
    edges = [points for shape, points in drawn if shape != POINT]
    if not edges:
        centre = np.concatenate([points for _, points in drawn]).mean(axis=0)
        return Ellipsoid(centre, POINT_RADIUS_MM * np.eye(3))
    points = np.concatenate(edges)
    long = _longest(edges)
    centre = (long[0] + long[1]) / 2.0
    first = (long[1] - long[0]) / 2.0
    length = max(LEAST_RADIUS_MM, float(np.linalg.norm(first)))
    first = first / max(1e-9, float(np.linalg.norm(first))) * length
    second_way, third_way = _across(first, points - centre)
    # A contour or a second axis gives the width. Without them, `OTHER_AXES` gives it.
    wide = float(np.abs((points - centre) @ second_way).max())
    deep = float(np.abs((points - centre) @ third_way).max())
    has_width = wide > 0.25 * length
    second = max(LEAST_RADIUS_MM, wide if has_width else OTHER_AXES * length)
    usual = np.sqrt(length * second) * OTHER_AXES if has_width else OTHER_AXES * length
    third = max(LEAST_RADIUS_MM, usual, deep)
    return Ellipsoid(centre, np.column_stack([first, second * second_way, third * third_way]))


def _longest(edges: Sequence[Float64]) -> Float64:
    """Return the two points of all edges that lie farthest apart."""
    points = np.concatenate(edges)
    points = points[:: max(1, len(points) // 200)] if len(points) > 400 else points
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    a, b = np.unravel_index(int(apart.argmax()), apart.shape)
    return points[[a, b]]


def _across(first: Float64, offsets: Float64) -> tuple[Float64, Float64]:
    """Return two directions, perpendicular to an axis and to each other.

    Marks reach farthest along the first direction.
    """
    along = first / np.linalg.norm(first)
    rest = offsets - np.outer(offsets @ along, along)
    reach = np.linalg.norm(rest, axis=1)
    if reach.max() < 1e-6:
        # There is only a line. If it lies in a slice, the direction is across the line in this slice.
        axis = np.array([1.0, 0.0, 0.0]) if abs(along[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
        second = np.cross(along, axis)
    else:
        second = rest[int(reach.argmax())]
    second = second / np.linalg.norm(second)
    return second, np.cross(along, second)


@dataclass(frozen=True)
class MarkAsker:
    """Prompts the networks for marked lesions.

    Parameters
    ----------
    plan_crop
        See `workers.uair.finder.PlanCrop`.
    encode_crop
        Returns the model bound to a crop, and the mean HU ``(n, h, w)`` of the crop's cells.
    options
        The options for choosing four candidates.
    rng_of
        Returns the random generator for a round number and a label value.
    outliner
        A 3-D model that outlines lesions; None: only the promptable model segments lesions.
    """

    plan_crop: PlanCrop
    encode_crop: Callable[[Crop], tuple[Decoder, Float32]]
    options: CandidateOptions
    rng_of: Callable[[int, int], np.random.Generator]
    outliner: Outliner | None

    def with_marked(
        self,
        state: RoundState,
        marked: Sequence[MarkedTarget],
        spacing: Spacing,
        shape: tuple[int, ...],
    ) -> RoundState:
        """Return `state` with a target for each new lesion. A lesion's four candidates fit its marks."""
        first_is_best = state.targets[0].held
        for lesion in marked:
            rng = self.rng_of(state.number, lesion.value)
            known = {target.value: target for target in state.targets}
            if lesion.value not in known:
                state = self._opened(state, lesion, spacing, shape, rng)
                known = {target.value: target for target in state.targets}
            target = measured(known[lesion.value], lesion, rng, first_is_best=first_is_best)
            known[lesion.value] = target
            state = replace(state, targets=tuple(known.values()))
        return state

    def _opened(
        self,
        state: RoundState,
        lesion: MarkedTarget,
        spacing: Spacing,
        shape: tuple[int, ...],
        rng: np.random.Generator,
    ) -> RoundState:
        ellipsoid, liver = ellipsoid_of(lesion, spacing), state.targets[0]
        box = ellipsoid.box(spacing)
        crop = self.plan_crop(
            box.extended((BEYOND_MM, 0.0, 0.0), spacing, shape), spacing, shape, LESION_PLAN
        )
        decode, cells = self.encode_crop(crop)
        domain = state.domain | ellipsoid.holds(liver.crop, spacing, times=DOMAIN_GROWTH)
        pool = first_pool(decode, crop, _outline(box, crop), LESION_PLAN, self.options, rng)
        if self.outliner is not None:
            pool = led_in_box(pool, self.outliner, box, crop, cells, rng)
        target = open_target(
            lesion.value,
            crop,
            pool,
            self.options,
            organ=liver.crop.mask_on(domain, crop),
            preference_mm=state.preference.lesion_mm,
            hu=cells,
        )
        return replace(state, targets=(*state.targets, target), domain=domain)


def measured(
    target: TargetState, marked: MarkedTarget, rng: np.random.Generator, *, first_is_best: bool
) -> TargetState:
    """Return a target with confidence 1, whose belief and four candidates follow the marks on its edge.

    Parameters
    ----------
    first_is_best
        Whether candidate 1 becomes the most likely candidate. If not, then the four are sorted by size.
    """
    target = replace(target, confidence=1.0, present=(True,) * 4)
    if target.belief is None or not len(marked.edge):
        return target
    belief = after_measuring(target.belief, cells_of(marked.edge, target.crop), rng)
    otherwise = probability(tidied(target.offered.astype(np.float32).mean(axis=0)))
    offered = by_size(spread_apart(new_candidates(belief, target.crop, rng, otherwise), None, LARGEST_DICE))
    if first_is_best:
        best = int(belief.agreement(offered > 0).mean(axis=0).argmax())
        offered = np.concatenate([offered[best : best + 1], np.delete(offered, best, axis=0)])
    deviation = belief.deviation_from(offered.mean(axis=0) > 0)
    return replace(
        target, offered=in_half(offered), deviation=in_half(deviation), belief=belief, held=False, drawn=False
    )


def cells_of(points: Float64, crop: Crop) -> Float64:
    """Return points in the volume's edge coordinates as fractional indices ``(n, 3)`` of the crop's cells."""
    columns = []
    for at, centres in zip(points.T, crop.cell_centres(), strict=True):
        step = float(centres[1] - centres[0]) if len(centres) > 1 else 1.0
        columns.append((at - float(centres[0])) / step)
    return np.column_stack(columns)


def after_measuring(belief: Belief, cells: Float64, rng: np.random.Generator) -> Belief:
    """Return the belief after points of the edge were measured, by an ensemble Kalman update.

    The signed distance of a shape at a point is a linear function of the shape's coefficients. So one update
    moves all particles. If the points lie farther from the surface than the belief's spread, then the spread
    grows first.

    Parameters
    ----------
    cells
        ``(n, 3)`` from `cells_of`.
    """
    shape = belief.factors.shape[1:]
    places = (cells - np.asarray(belief.start)) / np.asarray(belief.stride)
    places = np.clip(places, 0.0, np.asarray(shape) - 1.0).T
    fields = belief.fields.reshape(-1, *shape)
    distances = np.stack(
        [ndimage.map_coordinates(field, places, order=1, mode="nearest") for field in fields]
    ).astype(np.float64)
    particles = belief.particles.astype(np.float64)
    mean, middle = particles.mean(axis=0), distances.mean(axis=0)
    count, noise = len(particles), EDGE_MM**2 * np.eye(distances.shape[1])
    spread = distances - middle
    covariance = spread.T @ spread / (count - 1)
    surprise = float(middle @ middle) / float(np.trace(covariance + noise))
    wider = float(np.sqrt(max(1.0, surprise)))
    away = wider * (particles - mean)
    spread, covariance = wider * spread, wider**2 * covariance
    gain = (away.T @ spread / (count - 1)) @ np.linalg.inv(covariance + noise)
    seen = rng.normal(0.0, EDGE_MM, distances.shape)
    moved = mean + away + (seen - middle - spread) @ gain.T
    return replace(belief, particles=np.clip(moved, -1e4, 1e4).astype(np.float16))


def without(state: RoundState, values: Sequence[int]) -> RoundState:
    """Return `state` with lesions dropped. No candidate of this and later rounds contains these lesions."""
    targets = tuple(
        replace(target, present=(False,) * 4) if target.value in values else target
        for target in state.targets
    )
    return replace(state, targets=targets)


def take_marked(selected: Labels, made: Labels, values: Sequence[int]) -> Labels:
    """Return the selected labels, with the marked lesions of a round's candidate 1.

    Earlier voxels of these lesions that are not in candidate 1 become liver.

    Parameters
    ----------
    selected, made
        ``(Z, Y, X)`` label volumes: the earlier selection, and candidate 1.
    values
        Label values of the marked lesions.
    """
    marked = np.isin(made, values)
    before = np.isin(selected, values)
    return np.where(marked, made, np.where(before, np.uint8(LIVER), selected)).astype(np.uint8)


def _outline(box: Box, crop: Crop) -> Outline:
    """Return the outline of a 3-D box on the slices of a crop that reaches beyond it."""
    centres = crop.cell_centres()[0]
    inside = np.flatnonzero((centres > box.start[0]) & (centres < box.stop[0]))
    middle = int(np.abs(centres - (box.start[0] + box.stop[0]) / 2).argmin())
    first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (middle, middle + 1)
    unknown = np.full((len(crop.slices), 4), np.nan, np.float32)
    return Outline(crop.around(box), first, last, unknown)
