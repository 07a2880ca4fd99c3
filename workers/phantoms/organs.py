"""Draw the abdominal organs of a phantom. The liver stays in one piece."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage as ndi

from workers.phantoms.fields import Floats, Mask, Triple, Window, solid
from workers.phantoms.scene import Scene
from workers.phantoms.settings import Setting
from workers.phantoms.tissues import Tissue

# Range of the volume of adult livers in ml, tumours included.
_VOLUME_ML = (900.0, 2500.0)


@dataclass(frozen=True)
class Taper:
    """A tilted plane that cuts off the medial side of the right lobe, which then ends in a lateral tip.

    Attributes
    ----------
    tip, top
        Heights between which the cut runs, mm.
    narrow, wide
        x of the cut at these heights, mm.
    bend
        Exponent of the change of x between the two heights. If it is below 1, then the lobe narrows late.
    """

    tip: float
    top: float
    narrow: float
    wide: float
    bend: float

    def medial(self, z: Floats) -> Floats:
        """Return the x coordinate at which the right lobe ends medially, at heights `z`."""
        way = np.clip((z - self.tip) / (self.top - self.tip), 0, 1.5)
        edge: Floats = (self.narrow + (self.wide - self.narrow) * way**self.bend).astype(np.float32)
        return edge


@dataclass(frozen=True)
class LiverPlan:
    """The places and sizes of the liver's two lobes.

    Centres and radii are (z, y, x) in mm. `nodular_mm` roughens the surface.
    """

    right: Triple
    right_radii: Triple
    left: Triple
    left_radii: Triple
    taper: Taper | None = None
    nodular_mm: float = 0.0

    @classmethod
    def draw(cls, scene: Scene) -> LiverPlan:
        """Draw lobes that hang from the diaphragm's right dome and end above the grid's lower face."""
        body, rng = scene.habitus, scene.rng
        scale = rng.uniform(0.82, 1.22)
        rx = min(rng.uniform(62, 85) * scale, 0.72 * body.inner_width)
        ry = min(rng.uniform(62, 90) * scale, 0.95 * body.inner_depth)
        rz = min(rng.uniform(60, 105) * scale, 0.5 * (body.right_dome - 8))
        right = (
            body.right_dome - rz * rng.uniform(0.80, 0.98),
            rng.uniform(-12, 16),
            -body.inner_width + rx * rng.uniform(0.82, 1.0),
        )
        lx = rng.uniform(45, 100) * scale
        left = (
            body.right_dome - rng.uniform(28, 62) * scale,
            -body.inner_depth * rng.uniform(0.30, 0.55),
            right[2] + rx * rng.uniform(0.45, 0.8) + 0.35 * lx,
        )
        left_radii = (rng.uniform(26, 50) * scale, rng.uniform(28, 46) * scale, lx)
        return cls(right, (rz, ry, rx), left, left_radii)

    def varied(self, scene: Scene, setting: Setting) -> LiverPlan:
        """Stretch both lobes, roughen the surface, and let the right lobe taper in some patients."""
        body, rng = scene.habitus, scene.rng
        (z, y, x), (rz, ry, rx) = self.right, self.right_radii
        longer = min(rz * rng.uniform(*setting.stretch), (body.right_dome - 6) / 1.9)
        z -= 0.95 * (longer - rz)
        lz, ly, lx = self.left_radii
        reach = rng.uniform(*setting.left_reach)
        tip, top = z - longer, body.right_dome - rng.uniform(35, 80)
        taper = Taper(
            tip=tip,
            top=max(top, tip + 40),
            narrow=-body.inner_width + rng.uniform(22, 55),
            wide=x + rx * rng.uniform(0.8, 1.2),
            bend=rng.uniform(0.6, 1.4),
        )
        return replace(
            self,
            right=(z, y, x),
            right_radii=(longer, ry, rx),
            left=(self.left[0], self.left[1], self.left[2] + (reach - 1) * lx),
            left_radii=(lz, ly, lx * reach),
            taper=taper if rng.random() < setting.taper else None,
            nodular_mm=rng.uniform(*setting.nodular_mm),
        )

    @property
    def right_beside(self) -> float:
        """Distance in mm of the right lobe's medial surface from the lobe's centre."""
        return self.right_radii[2]


def liver_mask(scene: Scene, plan: LiverPlan) -> Mask:
    """Return the liver ``(Z, Y, X)`` under the diaphragm: both lobes, without a hollow at the lower side."""
    rng = scene.rng
    z, y, x = scene.warped
    right = solid(z, y, x, plan.right, plan.right_radii, rng.uniform(-0.3, 0.3), power=rng.uniform(2.0, 2.6))
    left = solid(z, y, x, plan.left, plan.left_radii, rng.uniform(-0.15, 0.25))
    if plan.taper is not None:
        right = np.maximum(right, 1 + (x - plan.taper.medial(z)) / np.float32(plan.right_beside))
    sharpness = np.float32(rng.uniform(6, 16))
    depth = np.logaddexp(-sharpness * (right - 1), -sharpness * (left - 1)) / sharpness * 60
    depth -= scene.bump * np.float32(rng.uniform(0.5, 2.5))
    if plan.nodular_mm > 0:
        depth -= scene.field(12, plan.nodular_mm)
    room: Mask = scene.grid.z <= scene.ceiling - np.float32(rng.uniform(0, 4))
    room &= scene.wall_norm < 1 - rng.uniform(0, 4) / scene.habitus.inner_width
    if rng.random() < 0.7:
        room &= ~_visceral_hollow(scene, plan)
    return room & (depth > _level(depth[room], float(np.prod(scene.grid.spacing_mm)) / 1000))


def _level(depth: Floats, voxel_ml: float) -> float:
    """Return the depth of the liver's surface: 0, or the depth that gives the liver a usual volume."""
    volume = int((depth > 0).sum()) * voxel_ml
    wanted = float(np.clip(volume, *_VOLUME_ML))
    if wanted == volume:
        return 0.0
    rank = int(np.clip(len(depth) - wanted / voxel_ml, 0, len(depth) - 1))
    return float(np.partition(depth, rank)[rank])


def _visceral_hollow(scene: Scene, plan: LiverPlan) -> Mask:
    """Return the ball that is cut out of the liver, so that the liver's lower surface is concave."""
    rng = scene.rng
    radius = rng.uniform(60, 95)
    center = (
        plan.right[0] - plan.right_radii[0] * rng.uniform(0.75, 1.1) - 0.25 * radius,
        rng.uniform(-5, 40),
        plan.right[2] + plan.right_beside * rng.uniform(0.7, 1.1) + 0.45 * radius,
    )
    z, y, x = scene.warped
    hollow: Mask = solid(z, y, x, center, (radius * 0.9, radius, radius)) < 1
    return hollow


def draw_liver(scene: Scene, inside: Mask) -> None:
    """Paint the liver over the other tissues."""
    scene.tissue[inside] = Tissue.LIVER


def draw_fissure(scene: Scene, plan: LiverPlan) -> None:
    """Paint the fat of the falciform ligament between the lobes."""
    rng = scene.rng
    z, y, x = scene.warped
    middle = plan.left[2] - plan.left_radii[2] * rng.uniform(0.2, 0.7)
    gap = np.abs(x - middle - 0.3 * (y - plan.left[1])) < rng.uniform(0.6, 2.5)
    gap &= (y < plan.left[1] + rng.uniform(-5, 30)) & (z < plan.left[0] + rng.uniform(-10, 20))
    scene.tissue[gap & (scene.tissue == Tissue.LIVER)] = Tissue.FAT


def keep_largest_liver_part(scene: Scene) -> None:
    """Turn parts of the liver into fat if the organs that were painted later have cut them off."""
    parts, count = ndi.label(scene.tissue == Tissue.LIVER)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        scene.tissue[(parts > 0) & (parts != sizes.argmax())] = Tissue.FAT


def draw_bowel(scene: Scene) -> None:
    """Fill the lower cavity with bowel loops (level sets of smooth fields), contents, gas and mesentery."""
    rng, grid = scene.rng, scene.grid
    loops, filling, fine = scene.field(32, 1.0), scene.field(20, 1.0), scene.field(14, 1.0)
    below = grid.z < scene.habitus.right_dome - rng.uniform(50, 95)
    before = scene.bent[0] < scene.spine_y - scene.vertebra_radius * 0.6
    room = scene.cavity & ~scene.chest
    bowel = room & below & before & (np.abs(loops) < rng.uniform(0.5, 1.1))
    scene.tissue[bowel] = Tissue.BOWEL_WALL
    scene.tissue[bowel & (np.abs(filling) > rng.uniform(0.5, 1.0))] = Tissue.BOWEL_CONTENT
    scene.tissue[bowel & (filling > 1.2) & (fine > 0.2)] = Tissue.GAS
    scene.tissue[bowel & (filling < -1.2)] = Tissue.COLON_CONTENT
    strands = room & (np.abs(fine) < 0.12) & (filling > 0.3)
    scene.tissue[strands & (scene.tissue == Tissue.FAT)] = Tissue.SOFT_TISSUE


def draw_stomach(scene: Scene) -> None:
    """Paint the stomach: wall, contents and a gas bubble on top (the patient lies on the back)."""
    body, rng = scene.habitus, scene.rng
    center = (
        body.left_dome - rng.uniform(35, 80),
        -body.inner_depth * rng.uniform(0.05, 0.40),
        rng.uniform(30, 75),
    )
    radii = (rng.uniform(32, 60), rng.uniform(25, 48), rng.uniform(28, 55))
    thickness = rng.uniform(3, 7)
    turn = rng.uniform(-0.5, 0.5)
    window, outer = scene.organ(center, radii, turn=turn)
    shrunk = (radii[0] - thickness, radii[1] - thickness, radii[2] - thickness)
    inner = solid(*scene.coordinates(window), center, shrunk, turn)
    whole = (outer < 1) & scene.abdomen(window)
    lumen = whole & (inner + scene.bump[window] * np.float32(0.02) < 1)
    level = center[1] - radii[1] * rng.uniform(-0.6, 1.0)
    scene.paint(window, whole, Tissue.STOMACH_WALL)
    scene.paint(window, lumen, Tissue.STOMACH_CONTENT)
    scene.paint(window, lumen & (scene.bent[0][window] < level), Tissue.GAS)


def draw_pancreas(scene: Scene) -> None:
    """Paint the pancreas in front of the spine."""
    body, rng = scene.habitus, scene.rng
    center = (
        body.right_dome - rng.uniform(95, 135),
        body.inner_depth * rng.uniform(-0.05, 0.2),
        rng.uniform(5, 35),
    )
    radii = (rng.uniform(10, 18), rng.uniform(9, 15), rng.uniform(40, 60))
    window, norm = scene.organ(center, radii, turn=rng.uniform(-0.5, 0.2), roughness=0.1)
    scene.paint(window, (norm < 1) & scene.abdomen(window), Tissue.PANCREAS)


def draw_spleen(scene: Scene) -> None:
    """Paint the spleen under the left dome."""
    body, rng = scene.habitus, scene.rng
    center = (
        body.left_dome - rng.uniform(50, 85),
        body.inner_depth * rng.uniform(0.15, 0.45),
        body.inner_width * rng.uniform(0.62, 0.78),
    )
    radii = (rng.uniform(32, 60), rng.uniform(32, 52), rng.uniform(20, 36))
    window, norm = scene.organ(center, radii, turn=rng.uniform(-0.7, 0.5), roughness=0.04)
    scene.paint(window, (norm < 1) & scene.abdomen(window), Tissue.SPLEEN)


def draw_kidneys(scene: Scene) -> tuple[Window, Mask] | None:
    """Paint the kidneys (sometimes one is missing). Return the place of the right kidney."""
    body, rng = scene.habitus, scene.rng
    right: tuple[Window, Mask] | None = None
    for side, dome in ((-1, body.right_dome), (1, body.left_dome)):
        if rng.random() < 0.06:
            continue
        center = (
            dome - rng.uniform(110, 165),
            scene.spine_y - rng.uniform(2, 20),
            side * rng.uniform(48, 66),
        )
        radii = (rng.uniform(42, 60), rng.uniform(24, 33), rng.uniform(22, 31))
        window, norm = scene.organ(center, radii, turn=side * rng.uniform(-0.6, 0.6))
        whole = (norm < 1) & scene.abdomen(window)
        scene.paint(window, whole, Tissue.KIDNEY_CORTEX)
        core = rng.uniform(0.58, 0.75)
        scene.paint(window, whole & (_inner(scene, window, center, radii, core) < 1), Tissue.KIDNEY_MEDULLA)
        if rng.random() < 0.6:
            medial = (center[0], center[1], center[2] - side * 10)
            scene.paint(window, whole & (_inner(scene, window, medial, radii, 0.4) < 1), Tissue.FAT)
        if side < 0:
            right = window, whole
    return right


def _inner(scene: Scene, window: Window, center: Triple, radii: Triple, scale: float) -> Floats:
    shrunk = (radii[0] * scale, radii[1] * scale, radii[2] * scale)
    norm = solid(*scene.coordinates(window), center, shrunk)
    return norm + scene.bump[window] * np.float32(0.08)


def press_kidney_into_liver(scene: Scene, kidney: tuple[Window, Mask] | None) -> None:
    """Replace liver by the right kidney and its fat capsule. No liver remains behind the kidney."""
    if kidney is None:
        return
    (z, y, x), whole = kidney
    scene.paint((z, y, x), whole & (scene.tissue[z, y, x] == Tissue.LIVER), Tissue.KIDNEY_CORTEX)
    back = slice(y.start, scene.grid.shape[1])
    behind = np.pad(ndi.binary_dilation(whole), ((0, 0), (0, back.stop - y.stop), (0, 0)))
    behind = np.maximum.accumulate(behind, axis=1)
    scene.paint((z, back, x), behind & (scene.tissue[z, back, x] == Tissue.LIVER), Tissue.FAT)


def draw_gallbladder(scene: Scene, plan: LiverPlan) -> None:
    """Paint the gallbladder at the lower surface of the liver."""
    body, rng = scene.habitus, scene.rng
    center = (
        plan.right[0] - plan.right_radii[0] * rng.uniform(0.25, 0.75),
        -body.inner_depth * rng.uniform(0.05, 0.5),
        plan.right[2] + plan.right_beside * rng.uniform(0.25, 0.7),
    )
    radii = (rng.uniform(14, 32), rng.uniform(11, 22), rng.uniform(9, 19))
    window, norm = scene.organ(center, radii, turn=rng.uniform(-0.6, 0.6))
    scene.paint(window, (norm < 1) & scene.abdomen(window), Tissue.GALLBLADDER)
