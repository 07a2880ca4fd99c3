"""Grids: boxes, the square crop that a model sees, and resampling between it and the volume.

These conventions hold in the whole method. Volumes are ``(Z, Y, X)``. A continuous coordinate counts voxel
*edges*: voxel ``i`` covers ``[i, i + 1)``. A half-open box ``[start, stop)`` has the edge coordinates
``start`` and ``stop``. Pixels of a crop and cells of its masks are counted in the same way. Spacing is
(z, y, x) in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Coordinates = NDArray[np.float64]
Spacing = tuple[float, float, float]

AIR_HU = -1000.0


class Voxels(Protocol):
    """HU ``(Z, Y, X)``: an array, or an object that reads the array when it is first indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of slices, rows, columns."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """Return the indexed region as an array."""
        ...


@dataclass(frozen=True)
class Box:
    """A half-open box in edge coordinates (z, y, x) of a volume. The coordinates may be fractional."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]

    @property
    def size(self) -> tuple[float, float, float]:
        """Extent in voxels, (z, y, x)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def size_mm(self, spacing: Spacing) -> tuple[float, float, float]:
        """Extent in mm, (z, y, x)."""
        z, y, x = (n * s for n, s in zip(self.size, spacing, strict=True))
        return z, y, x

    def extended(self, mm: tuple[float, float, float], spacing: Spacing, shape: tuple[int, ...]) -> Box:
        """Return the box grown by `mm` at each face and clipped to a volume of `shape`."""
        margin = [m / s for m, s in zip(mm, spacing, strict=True)]
        z0, y0, x0 = (max(0.0, a - m) for a, m in zip(self.start, margin, strict=True))
        z1, y1, x1 = (min(float(n), b + m) for b, m, n in zip(self.stop, margin, shape, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1))

    def outer(self, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
        """Return index slices of all voxels that the box touches."""
        z, y, x = (
            slice(max(0, int(np.floor(a))), min(n, int(np.ceil(b))))
            for a, b, n in zip(self.start, self.stop, shape, strict=True)
        )
        return z, y, x


def bounding_box(mask: Mask) -> Box | None:
    """Return the tight box of a mask ``(Z, Y, X)``, or None if it is empty."""
    if not mask.any():
        return None
    start, stop = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        start.append(float(hit[0]))
        stop.append(float(hit[-1] + 1))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def tight_box(mask: Mask) -> Box:
    """Return the tight box of a mask ``(Z, Y, X)`` that is not empty.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask has no box")
    return box


Matrix = Any
"""A `scipy.sparse.csr_array`.

A row of a resampling matrix has only a few weights. Sparse products use one thread. So the products do not
wait for busy cores, and their result does not depend on the number of cores.
"""


def sampling_matrix(count: int, edges: NDArray[np.float64], outside_zero: bool = False) -> Matrix:
    """Return the matrix that resamples a signal of `count` samples to the cells between `edges`.

    Interpolation is linear at the cells' centres. If cells are wider than samples, then the triangular kernel
    is as wide as a cell, against aliasing. If cells are much narrower than samples, then a cubic kernel
    (Keys, a = -0.5) keeps edges sharp.

    Parameters
    ----------
    count
        Number of input samples, sample ``i`` covering ``[i, i + 1)``.
    edges
        ``(n + 1,)`` ascending, equidistant cell edges in input coordinates.
    outside_zero
        Value of cells outside the input: zero if true, else the nearest sample's value.

    Returns
    -------
    Matrix
        ``(n, count)`` float32. The weights of a cell inside the input sum to 1.
    """
    width = float(edges[1] - edges[0])
    centres = (edges[:-1] + edges[1:]) / 2.0 - 0.5  # in sample indices
    if not outside_zero:
        centres = np.clip(centres, 0.0, count - 1.0)
    distance = np.abs(centres[:, None] - np.arange(count)[None, :])
    weights = _keys(distance) if width < 0.6 else np.maximum(0.0, 1.0 - distance / max(1.0, width))
    total = weights.sum(axis=1, keepdims=True)
    if outside_zero:
        inside = (centres >= -0.5) & (centres <= count - 0.5)
        weights = np.where(inside[:, None], weights, 0.0)
    return sparse.csr_array((weights / np.maximum(total, 1e-6)).astype(np.float32))


def resampled(along_y: Matrix, plane: NDArray[np.generic], along_x: Matrix) -> Float32:
    """Resample a plane ``(Y, X)`` along both axes."""
    half = along_y @ plane.astype(np.float32)
    return np.asarray((along_x @ half.T).T, np.float32)


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))


def _linear_matrix(nodes: NDArray[np.float64], targets: NDArray[np.float64]) -> Matrix:
    """Return ``(targets, nodes)`` weights of linear interpolation, constant beyond the ends."""
    eye = np.eye(len(nodes))
    weights = np.stack([np.interp(targets, nodes, row) for row in eye], axis=1)
    return sparse.csr_array(weights.astype(np.float32))


@dataclass(frozen=True)
class Crop:
    """A stack of square, resampled slices around a target. A model sees only this region of the volume.

    Parameters
    ----------
    centre
        (y, x) edge coordinates of the square's centre in the volume.
    side_mm
        Length of the square's side.
    slices
        Indices of the volume's slices, ascending and equidistant.
    spacing
        The volume's (z, y, x) mm.
    shape
        The volume's shape.
    pixels
        Side of the model's input.
    cells
        Side of the model's masks.
    """

    centre: tuple[float, float]
    side_mm: float
    slices: tuple[int, ...]
    spacing: Spacing
    shape: tuple[int, int, int]
    pixels: int
    cells: int

    @property
    def cell_mm(self) -> float:
        """In-plane size of a mask cell in mm."""
        return self.side_mm / self.cells

    @property
    def step_mm(self) -> float:
        """Distance between neighbouring slices of the crop in mm."""
        step = self.slices[1] - self.slices[0] if len(self.slices) > 1 else 1
        return step * self.spacing[0]

    @property
    def cell_volume_ml(self) -> float:
        """Volume of one mask cell in ml."""
        return self.cell_mm**2 * self.step_mm / 1000.0

    @property
    def stack_shape(self) -> tuple[int, int, int]:
        """Shape of the masks of a single member."""
        return len(self.slices), self.cells, self.cells

    def _edges(self, axis: int, count: int) -> NDArray[np.float64]:
        """Return the edges of `count` cells along y (0) or x (1), in volume coordinates."""
        half = self.side_mm / self.spacing[axis + 1] / 2.0
        return np.linspace(self.centre[axis] - half, self.centre[axis] + half, count + 1)

    @cached_property
    def _image_matrices(self) -> tuple[slice, slice, Matrix, Matrix]:
        """Return the region of a slice that the crop covers, and the matrices that resample this region."""
        parts, matrices = [], []
        for axis in (0, 1):
            full = sampling_matrix(self.shape[axis + 1], self._edges(axis, self.pixels), outside_zero=True)
            used = np.unique(full.indices)
            part = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
            parts.append(part)
            matrices.append(full[:, part])
        return parts[0], parts[1], matrices[0], matrices[1]

    def _plane(self, hu: Voxels, z: int) -> Float32:
        rows, columns, along_y, along_x = self._image_matrices
        part = hu[int(np.clip(z, 0, self.shape[0] - 1)), rows, columns].astype(np.float32) - AIR_HU
        return resampled(along_y, part, along_x) + np.float32(AIR_HU)

    def images(self, hu: Voxels, neighbour_mm: float) -> tuple[Float32, Float32]:
        """Resample the crop's slices and their neighbours.

        Parameters
        ----------
        hu
            The volume.
        neighbour_mm
            Distance in mm from a slice to its neighbours above and below; at least one slice distance.

        Returns
        -------
        tuple of NDArray
            HU ``(n, pixels, pixels)`` of the slices, and the mean HU of each slice's two neighbours. Outside
            of the volume in-plane, the value is air. Beyond the volume's ends, its last slice is repeated.
        """
        shift = max(1, round(neighbour_mm / self.spacing[0]))
        wanted = {z + offset for z in self.slices for offset in (-shift, 0, shift)}
        planes = {z: self._plane(hu, z) for z in sorted(wanted)}
        own = np.stack([planes[z] for z in self.slices])
        around = np.stack([(planes[z - shift] + planes[z + shift]) / 2.0 for z in self.slices])
        return own, around

    def cell_means(self, images: Float32) -> Float32:
        """Return the mean ``(n, cells, cells)`` of the pixels of each mask cell."""
        part = self.pixels // self.cells
        split = images.reshape(len(images), self.cells, part, self.cells, part)
        return np.asarray(split.mean(axis=(2, 4)), np.float32)

    def around(self, box: Box) -> tuple[float, float, float, float]:
        """Return the in-plane extent (x0, y0, x1, y1) of a box of the volume, in pixels."""
        y0, x0 = self.to_pixels(*box.start[1:])
        y1, x1 = self.to_pixels(*box.stop[1:])
        return x0, y0, x1, y1

    def to_pixels(self, y: float, x: float) -> tuple[float, float]:
        """Map volume edge coordinates (y, x) to the crop's pixel edge coordinates (y, x)."""
        scale = self.pixels / self.side_mm
        return (
            (y - self.centre[0]) * self.spacing[1] * scale + self.pixels / 2.0,
            (x - self.centre[1]) * self.spacing[2] * scale + self.pixels / 2.0,
        )

    def region(self) -> tuple[slice, slice, slice]:
        """Return the region of the volume that the crop covers, as index slices."""
        half = self.side_mm / 2.0
        y0, x0 = (c - half / s for c, s in zip(self.centre, self.spacing[1:], strict=True))
        y1, x1 = (c + half / s for c, s in zip(self.centre, self.spacing[1:], strict=True))
        reach = (self.slices[1] - self.slices[0]) // 2 if len(self.slices) > 1 else 0
        start = (float(self.slices[0] - reach), y0, x0)
        return Box(start, (float(self.slices[-1] + 1 + reach), y1, x1)).outer(self.shape)

    def to_volume(self, logits: NDArray[np.generic]) -> tuple[tuple[slice, slice, slice], Float32]:
        """Interpolate logits ``(n, cells, cells)`` to the voxels of `region`.

        Returns
        -------
        tuple
            The region's index slices and its float32 logits (trilinear). The caller thresholds them.
        """
        region = self.region()
        z, y, x = (np.arange(part.start, part.stop) + 0.5 for part in region)
        return region, self.sampled(logits, z, y, x, outside=-10.0)

    def positive_part(self, logits: Float32) -> tuple[tuple[slice, slice, slice], Float32]:
        """Interpolate logits as `to_volume` does, but only where the result may be positive.

        Returns
        -------
        tuple
            Index slices of a box inside `region`, and the logits in this box. The box ends at the nearest
            cells beyond the positive cells. Voxels farther out lie between cells that are not positive.
        """
        box = bounding_box(logits > 0)
        if box is None:
            return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), np.float32)
        parts, voxels = [], []
        edges = zip(self.region(), self.cell_centres(), box.start, box.stop, strict=True)
        for part, nodes, first, last in edges:
            centres = np.arange(part.start, part.stop) + 0.5
            low = nodes[int(first) - 1] if first > 0 else -np.inf
            high = nodes[int(last)] if last < len(nodes) else np.inf
            inside = np.flatnonzero((centres > low) & (centres < high))
            start, stop = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            parts.append(slice(part.start + int(start), part.start + int(stop)))
            voxels.append(centres[start:stop])
        z, y, x = voxels
        return (parts[0], parts[1], parts[2]), self.sampled(logits, z, y, x, outside=-10.0)

    def sampled(
        self,
        logits: NDArray[np.generic],
        z: Coordinates,
        y: Coordinates,
        x: Coordinates,
        outside: float,
    ) -> Float32:
        """Interpolate logits ``(n, cells, cells)`` at the outer product of volume edge coordinates.

        Points outside of the crop get the value `outside`.
        """
        nodes = np.asarray(self.slices, float) + 0.5
        reach = self.step_mm / self.spacing[0] / 2.0 + 0.5
        covered = [(z >= nodes[0] - reach) & (z <= nodes[-1] + reach)]
        in_plane = []
        for axis, targets in enumerate((y, x)):
            edges = self._edges(axis, self.cells)
            covered.append((targets >= edges[0]) & (targets <= edges[-1]))
            in_plane.append(_linear_matrix((edges[:-1] + edges[1:]) / 2.0, targets))
        along_z = _linear_matrix(nodes, z)
        used = slice(int(along_z.indices.min(initial=0)), int(along_z.indices.max(initial=0)) + 1)
        wide = np.stack([resampled(in_plane[0], plane, in_plane[1]) for plane in logits[used]])
        flat = along_z[:, used] @ wide.reshape(len(wide), -1)
        values = flat.reshape(len(z), *wide.shape[1:])
        values[~covered[0]] = outside
        values[:, ~covered[1]] = outside
        values[:, :, ~covered[2]] = outside
        return values

    def mask_on(self, mask: Mask, other: Crop) -> Mask:
        """Resample a mask ``(n, cells, cells)`` of this crop to the cells of another crop."""
        signed = np.where(mask, 1.0, -1.0)
        return np.asarray(self.sampled(signed, *other.cell_centres(), outside=-1.0) > 0)

    def cell_centres(self) -> tuple[Coordinates, Coordinates, Coordinates]:
        """Return the volume edge coordinates of slices, cell rows and cell columns."""
        y, x = (self._edges(axis, self.cells) for axis in (0, 1))
        return np.asarray(self.slices, float) + 0.5, (y[:-1] + y[1:]) / 2.0, (x[:-1] + x[1:]) / 2.0


def plan_crop(
    box: Box,
    spacing: Spacing,
    shape: tuple[int, int, int],
    *,
    pixels: int,
    cells: int,
    margin: float,
    min_side_mm: float,
    step_mm: float,
    whole_slice: bool = False,
) -> Crop:
    """Plan the crop around a box.

    Parameters
    ----------
    box
        The box that the crop must contain.
    margin
        Side of the crop as a multiple of the box's longer in-plane side.
    min_side_mm
        The least side of the crop in mm.
    step_mm
        Wanted distance of slices in mm. The crop uses the nearest multiple of the volume's slice distance.
    whole_slice
        Whether the crop covers whole slices, as in the published SAM preprocessing.
    """
    stride = max(1, round(step_mm / spacing[0]))
    low = max(0, int(np.floor(box.start[0])))
    high = min(shape[0], int(np.ceil(box.stop[0])))
    last = max(low, high - 1)
    slices = tuple(range(low, last + 1, stride))
    if whole_slice:
        centre = (shape[1] / 2.0, shape[2] / 2.0)
        side = max(shape[1] * spacing[1], shape[2] * spacing[2])
    else:
        centre = ((box.start[1] + box.stop[1]) / 2.0, (box.start[2] + box.stop[2]) / 2.0)
        side = max(min_side_mm, margin * max(box.size_mm(spacing)[1:]))
    return Crop(centre, side, slices, spacing, shape, pixels, cells)
