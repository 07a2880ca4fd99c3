"""Put a real tumour into another patient's liver. The tumour is turned, scaled and blended at its edge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage as ndi

from workers.models.lesion_net import SPACING_MM
from workers.phantoms.fields import Floats, Mask, Window
from workers.research.training.real_cases import STEP_MM, RealCase

# Smallest and largest volume of a tumour, in voxels of the donor's CT. They are diameters of about 5 and 60
# mm.
_SIZES = (10, 15000)
_TRIALS = 8
_LEAST_INSIDE = 0.7
_LEAST_VOXELS = 2
# Width in voxels of the surroundings that are cut out with a tumour.
_REACH = 3
_SCALES = (0.6, 1.5)


def transplant(
    donor: RealCase, hu: Floats, liver_hu: float, liver: Mask, tumour: Mask, rng: np.random.Generator
) -> Iterator[tuple[Window, Mask]]:
    """Put one tumour of `donor` into `hu` in place. Yield its window and voxels, if a tumour fits.

    Parameters
    ----------
    donor
        The patient with the tumour. The tumour keeps its density relative to the donor's liver.
    hu, liver, tumour
        ``(Z, Y, X)`` at `SPACING_MM`: the HU of the receiving scan, the mask of its liver with tumours, and
        the mask of its tumours.
    liver_hu
        The density of the receiving liver in HU.
    """
    sizes = np.bincount(donor.tumours.ravel())[1:]
    fitting = np.flatnonzero((sizes >= _SIZES[0]) & (sizes <= _SIZES[1])) + 1
    places = np.argwhere(liver & ~tumour)
    if not len(fitting) or not len(places):
        return
    added, share = _turned(donor, int(rng.choice(fitting)), rng)
    half = np.asarray(share.shape) // 2
    for _ in range(_TRIALS):
        start = places[rng.integers(len(places))] - half
        if (start < 0).any() or (start + share.shape > hu.shape).any():
            continue
        z, y, x = (slice(int(a), int(a) + n) for a, n in zip(start, share.shape, strict=True))
        window: Window = (z, y, x)
        whole = share > 0.5
        inside = whole & liver[window]
        if inside.sum() < max(_LEAST_VOXELS, _LEAST_INSIDE * whole.sum()) or tumour[window][inside].any():
            continue
        part = np.clip(1.6 * ndi.gaussian_filter(share, 0.6), 0.0, 1.0) * liver[window]
        hu[window] += part * (np.float32(liver_hu) + added - hu[window])
        yield window, inside
        return


def _turned(donor: RealCase, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a tumour's density minus the donor's liver density, and the part of each voxel that is tumour.

    Both arrays have voxels of 3 mm. The tumour is turned and scaled.
    """
    window = ndi.find_objects(donor.tumours)[number - 1]
    wide = tuple(
        slice(max(0, part.start - _REACH), min(n, part.stop + _REACH))
        for part, n in zip(window, donor.hu.shape, strict=True)
    )
    excess = donor.hu[wide].astype(np.float32) - np.float32(donor.liver_hu)
    share = (donor.tumours[wide] == number).astype(np.float32)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    scale = rng.uniform(*_SCALES)
    matrix = turn * (SPACING_MM / STEP_MM / scale)
    side = int(np.ceil(np.linalg.norm(share.shape) * STEP_MM / SPACING_MM * scale)) + 2
    shape = (side, side, side)
    offset = (np.asarray(share.shape) - 1) / 2.0 - matrix @ np.full(3, (side - 1) / 2.0)
    seen, part = (
        ndi.affine_transform(
            values, matrix, offset, shape, order=1, mode="nearest" if values is excess else "constant"
        )
        for values in (excess, share)
    )
    held = (
        ndi.find_objects(ndi.binary_dilation(part > 0.1, iterations=2).astype(int))[0]
        if part.max() > 0.1
        else ...
    )
    return seen[held], part[held]
