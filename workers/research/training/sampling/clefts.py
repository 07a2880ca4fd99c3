"""Paint clefts of the liver into a sample's tissues: hilar fat, fissures, gallbladder bed, ribs.

Training anatomies have thin vessels in parenchyma without fat, and smooth surfaces. On real CT, the finder
mistook fat and partial volume for lesions: at the hilum, along the round ligament and under ribs. The painted
tissues are never lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.fields import Floats, Mask, Window, smooth_field
from workers.phantoms.tissues import LIVER_TISSUES, Tissue

Range = tuple[float, float]
Point = NDArray[np.float64]

# The part of the samples that get each kind of cleft.
_HILAR_FAT = 0.6
_DUCTS = 0.5
_ARTERY = 0.4
_FISSURE = 0.5
_SECOND_FISSURE = 0.4
_SHRUNK_GALLBLADDER = 0.25
_GALLBLADDER_BED = 0.3
_INDENTED = 0.4
_RIB = 0.6
# Experts count fat as liver if the fat is thinner than this (mm).
_THICK_MM = 5.0
# To find places, every second pixel in plane is enough.
_COARSE = 2
_WALL = (Tissue.MUSCLE, Tissue.CORTEX, Tissue.MARROW)


@dataclass(frozen=True)
class _Fissure:
    """A plate of fat near the hilum.

    Attributes
    ----------
    start
        Ranges of the point where the plate starts, (z, y, x) mm from the hilum.
    direction
        Direction of the plate from its start, (z, y, x).
    opens
        If True, the plate is widest at its end, at the liver's surface. If False, it is widest at its start.
    """

    start: tuple[Range, Range, Range]
    direction: tuple[float, float, float]
    opens: bool


# From the hilum, the fissure of the round ligament runs forward and down. The fissure of the venous ligament
# runs to the left and back. The hilum itself continues to the right and back.
_FISSURES = (
    _Fissure(((-15, 15), (-25, -5), (10, 40)), (-0.4, -1.0, 0.1), opens=True),
    _Fissure(((0, 25), (-5, 12), (5, 25)), (0.2, 0.5, 0.8), opens=True),
    _Fissure(((-12, 12), (-8, 8), (-5, 10)), (0.0, 0.3, -1.0), opens=False),
)


@dataclass(frozen=True)
class _Canvas:
    """Tissues of a sample, ``(Z, Y, X)``; voxel size `steps` in mm; painted voxels that count as liver."""

    tissue: NDArray[np.uint8]
    counted: Mask
    steps: Point

    @property
    def coarse(self) -> NDArray[np.uint8]:
        """The tissues at half of the in-plane resolution, ``(Z, Y / 2, X / 2)``."""
        return self.tissue[:, ::_COARSE, ::_COARSE]

    def place(self, index: Sequence[int]) -> Point:
        """Return the position in mm of a voxel of `coarse`."""
        z, y, x = index
        return np.array([z, y * _COARSE, x * _COARSE]) * self.steps

    def around(self, center: Point, reach: Sequence[float] | Point) -> tuple[Window, list[Floats]]:
        """Return the window of `reach` mm around a point, and the (z, y, x) distances in mm as open grids."""
        window, offsets = [], []
        for axis, (at, half, step) in enumerate(zip(center, reach, self.steps, strict=True)):
            n = self.tissue.shape[axis]
            low = int(np.clip((at - half) // step, 0, n - 1))
            high = int(np.clip((at + half) // step + 2, low + 1, n))
            window.append(slice(low, high))
            grid = (np.arange(low, high) * step - at).astype(np.float32)
            offsets.append(grid.reshape([-1 if along == axis else 1 for along in range(3)]))
        return (window[0], window[1], window[2]), offsets

    def paint(self, window: Window, where: Mask, tissue: Tissue, counted: Mask | None = None) -> None:
        """Set the tissue of the voxels `where`. Painted voxels in `counted` still count as liver."""
        self.tissue[window][where] = tissue
        self.counted[window][where] = False if counted is None else counted[where]


def cut_clefts(
    tissue: NDArray[np.uint8], steps: tuple[float, float, float], rng: np.random.Generator
) -> Mask:
    """Paint fat and other tissues that lie in or beside some livers into `tissue`, in place.

    Parameters
    ----------
    tissue
        ``(Z, Y, X)`` values of `Tissue`, canonical grid.
    steps
        (z, y, x) mm.
    rng
        Source of randomness.

    Returns
    -------
    NDArray
        ``(Z, Y, X)``: painted voxels that experts count as liver, mostly thin fat.
    """
    canvas = _Canvas(tissue, np.zeros(tissue.shape, bool), np.asarray(steps))
    hilum = _hilum(canvas)
    if hilum is not None:
        if rng.random() < _HILAR_FAT:
            _fatten_hilum(canvas, hilum, rng)
        if rng.random() < _FISSURE:
            for which in rng.permutation(len(_FISSURES))[: 1 + int(rng.random() < _SECOND_FISSURE)]:
                _open_fissure(canvas, hilum, _FISSURES[which], rng)
        if rng.random() < _SHRUNK_GALLBLADDER:
            _shrink_gallbladder(canvas, hilum, rng)
    if rng.random() < _GALLBLADDER_BED:
        _line_gallbladder(canvas, rng)
    if rng.random() < _INDENTED:
        _indent(canvas, rng)
    return canvas.counted


def _hilum(canvas: _Canvas) -> Point | None:
    """Return the point in mm with the most portal vein voxels around it; None if there is no portal vein."""
    portal = (canvas.coarse == Tissue.PORTAL_VEIN).astype(np.float32)
    dense = ndi.uniform_filter(portal, 7, mode="constant")
    best = int(dense.argmax())
    if dense.flat[best] <= 0:
        return None
    return canvas.place([int(at) for at in np.unravel_index(best, dense.shape)])


def _fatten_hilum(canvas: _Canvas, hilum: Point, rng: np.random.Generator) -> None:
    """Extend the portal trunk to the hilum. Surround the trunk and nearby branches with fat."""
    reach = rng.uniform(28, 50)
    window, offsets = canvas.around(hilum, [reach] * 3)
    region = canvas.tissue[window]
    organ = np.isin(region, LIVER_TISSUES)
    way = np.sqrt(sum(part**2 for part in offsets))
    trunk = _unit(np.array([-18.0, 8.0, 20.0]) + rng.normal(0, 6, 3))
    radius = rng.uniform(4, 9)
    vessel = _tube(offsets, np.zeros(3), trunk * 2 * reach) < radius
    canvas.paint(window, vessel & organ, Tissue.PORTAL_TRUNK)
    vessel |= (region == Tissue.PORTAL_VEIN) | (region == Tissue.PORTAL_TRUNK)

    coarse, fine = (_field(canvas, way.shape, rng, length) for length in (18.0, 6.0))
    most = float(np.exp(rng.uniform(np.log(2.0), np.log(13.0))))
    sleeve = most * np.clip(1.15 - way / np.float32(reach), 0, 1) * (1 + np.float32(0.35) * coarse)
    sleeve += fine * np.float32(rng.uniform(0.3, 1.2))
    distance = ndi.distance_transform_edt(~vessel, sampling=canvas.steps)
    inside = organ & (distance <= sleeve)
    counted = sleeve < _THICK_MM
    canvas.paint(window, inside & ~vessel, Tissue.FAT, counted)
    canvas.paint(window, inside & vessel, Tissue.PORTAL_TRUNK, counted)
    strands = inside & ~vessel & (fine > rng.uniform(0.8, 4.0))
    canvas.paint(window, strands, Tissue.SOFT_TISSUE, counted)
    companions = ((_DUCTS, Tissue.GALLBLADDER, (1.5, 4.5)), (_ARTERY, Tissue.AORTA, (1.2, 2.5)))
    for share, tissue, radii in companions:
        if rng.random() < share:
            beside = rng.normal(0, 1, 3)
            beside = _unit(beside - beside @ trunk * trunk) * (radius + rng.uniform(1, 5))
            end = beside - trunk * rng.uniform(0, 15)
            tube = organ & (_tube(offsets, end, beside + trunk * 2 * reach) < rng.uniform(*radii))
            canvas.paint(window, tube & ~vessel, tissue, counted)


def _open_fissure(canvas: _Canvas, hilum: Point, fissure: _Fissure, rng: np.random.Generator) -> None:
    """Paint a plate of fat, see `_Fissure`, sometimes with a cord in the fat."""
    start = hilum + rng.uniform(*np.transpose(fissure.start))
    out = _unit(np.asarray(fissure.direction) + rng.normal(0, 0.2, 3))
    along = np.array([1.0, 0.0, 0.0]) + rng.normal(0, 0.15, 3)
    along = _unit(along - along @ out * out)
    across = np.cross(out, along)
    length = rng.uniform(30, 60)
    height = rng.uniform(12, 35)
    # Half the size of the window: the projection of the plate's three axes.
    reach = 0.5 * length * np.abs(out) + height * np.abs(along) + 12 * np.abs(across)
    window, offsets = canvas.around(start + 0.5 * length * out, reach)
    offsets = [part + np.float32(0.5 * length * step) for part, step in zip(offsets, out, strict=True)]
    depth, level, aside = (_along(offsets, axis) for axis in (out, along, across))
    field = _field(canvas, depth.shape, rng, 15.0)
    most = float(np.exp(rng.uniform(np.log(0.8), np.log(6.0))))
    way = depth / np.float32(length)
    half = most * np.clip(0.3 + way if fissure.opens else 1.2 - way, 0, 1) * (1 + np.float32(0.3) * field)
    half[(depth < 0) | (np.abs(level) > height)] = 0
    aside += field * np.float32(rng.uniform(0, 2.5))
    inside = np.isin(canvas.tissue[window], LIVER_TISSUES) & (np.abs(aside) < half)
    counted = 2 * half < _THICK_MM
    canvas.paint(window, inside, Tissue.FAT, counted)
    if rng.random() < 0.6:
        cord = (level - rng.uniform(-0.5, 0.5) * height) ** 2 + aside**2 < rng.uniform(1.5, 4) ** 2
        canvas.paint(window, cord & inside, Tissue.SOFT_TISSUE, counted)


def _shrink_gallbladder(canvas: _Canvas, hilum: Point, rng: np.random.Generator) -> None:
    """Paint a collapsed gallbladder with its wall in a bed of fat, from the hilum forward and down."""
    neck = hilum + rng.uniform((-25, -20, -25), (0, 0, 5))
    axis = _unit(np.array([-0.6, -1.0, -0.1]) + rng.normal(0, 0.3, 3)) * rng.uniform(20, 50)
    window, offsets = canvas.around(neck + axis / 2, np.abs(axis) / 2 + 20)
    offsets = [part + np.float32(step / 2) for part, step in zip(offsets, axis, strict=True)]
    gap = _tube(offsets, np.zeros(3), axis)
    gap += _field(canvas, gap.shape, rng, 15.0) * np.float32(rng.uniform(0, 2))
    lumen, wall = rng.uniform(0, 7), rng.uniform(1.5, 3.5)
    fat = rng.uniform(1, 7)
    room = np.isin(canvas.tissue[window], (*LIVER_TISSUES, Tissue.FAT))
    layers = (
        (fat + wall + lumen, Tissue.FAT),
        (wall + lumen, Tissue.SOFT_TISSUE),
        (lumen, Tissue.GALLBLADDER),
    )
    for radius, tissue in layers:
        canvas.paint(window, room & (gap < radius), tissue)


def _line_gallbladder(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Paint one to three pixels of fat beside parts of the gallbladder."""
    whole = canvas.tissue == Tissue.GALLBLADDER
    found = ndi.find_objects(whole.astype(np.uint8))
    if not found:
        return
    margin = int(rng.integers(1, 4))
    z, y, x = (slice(max(0, part.start - 1 - margin), part.stop + 1 + margin) for part in found[0])
    window = z, y, x
    near = ndi.binary_dilation(whole[window], ndi.generate_binary_structure(2, 1)[None], iterations=margin)
    bed = near & (canvas.tissue[window] == Tissue.LIVER)
    bed &= _field(canvas, bed.shape, rng, 15.0) > rng.uniform(-1.5, 0.5)
    canvas.paint(window, bed, Tissue.FAT, bed)


def _indent(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Press ribs, or strips of muscle and fat, into the liver's surface near the body wall."""
    coarse = canvas.coarse
    wall = np.isin(coarse, _WALL)
    touching = ndi.binary_dilation(wall, iterations=2) & np.isin(coarse, LIVER_TISSUES)
    places = np.argwhere(touching)
    if len(places) == 0:
        return
    first = places[rng.integers(len(places))]
    step = rng.uniform(20, 34) / canvas.steps[0]
    rib = bool(rng.random() < _RIB)
    sheath = Tissue.FAT if rng.random() < 0.35 else Tissue.MUSCLE
    slope = rng.normal(0, 0.35)
    for number in range(int(rng.integers(1, 5))):
        wanted = first + np.array([number * step, 0, 0])
        at = places[np.abs(places - wanted).sum(axis=1).argmin()]
        if np.abs(at - wanted).sum() > step:
            break
        low = np.maximum(at - 5, 0)
        outside = np.argwhere(wall[tuple(slice(a, b + 6) for a, b in zip(low, at, strict=True))]) + low - at
        outward = outside.mean(axis=0) + rng.normal(0, 0.3, 3) if len(outside) else np.zeros(3)
        if np.linalg.norm(outward) < 0.5:
            continue
        outward = _unit(outward)
        _press(canvas, canvas.place([int(index) for index in at]), outward, slope, sheath, rib, rng)


def _press(
    canvas: _Canvas,
    at: Point,
    outward: Point,
    slope: float,
    sheath: Tissue,
    rib: bool,
    rng: np.random.Generator,
) -> None:
    """Paint a ridge, and fill the space between the ridge and the body wall."""
    along = np.array([slope, -outward[2], outward[1]])
    along = _unit(along - along @ outward * outward) if np.linalg.norm(along) > 0.1 else np.eye(3)[1]
    radius, half, deep = rng.uniform(4, 9), rng.uniform(8, 35), rng.uniform(1, 8)
    window, offsets = canvas.around(at, radius + half * np.abs(along) + 12)
    height = _along(offsets, outward) + np.float32(deep - radius)
    beyond = np.maximum(np.abs(_along(offsets, along)) - half, 0)
    aside = _along(offsets, np.cross(outward, along))
    gap = np.minimum(height, 0) ** 2 + beyond**2 + aside**2
    soft = np.isin(canvas.tissue[window], (*LIVER_TISSUES, Tissue.FAT)) & (height < 2 * radius)
    canvas.paint(window, soft & (gap < radius**2), sheath)
    if rib:
        bone = max(2.0, radius - rng.uniform(1, 4))
        canvas.paint(window, soft & (gap < bone**2), Tissue.CORTEX)
        canvas.paint(window, soft & (gap < max(0.0, bone - 1.8) ** 2), Tissue.MARROW)


def _unit(vector: Point) -> Point:
    return np.asarray(vector / np.linalg.norm(vector))


def _along(offsets: list[Floats], axis: Point) -> Floats:
    return np.asarray(sum(part * np.float32(step) for part, step in zip(offsets, axis, strict=True)))


def _tube(offsets: list[Floats], start: Point, end: Point) -> Floats:
    """Return the distance in mm of each voxel from the line between `start` and `end`."""
    length = float(np.linalg.norm(end - start))
    shifted = [part - np.float32(at) for part, at in zip(offsets, start, strict=True)]
    at = np.clip(_along(shifted, (end - start) / length), 0, length)
    axis = (end - start) / length
    apart = sum((part - at * np.float32(step)) ** 2 for part, step in zip(shifted, axis, strict=True))
    return np.asarray(np.sqrt(apart))


def _field(canvas: _Canvas, shape: tuple[int, ...], rng: np.random.Generator, length: float) -> Floats:
    z, y, x = canvas.steps
    return smooth_field(rng, shape, (float(z), float(y), float(x)), length, 1.0)
