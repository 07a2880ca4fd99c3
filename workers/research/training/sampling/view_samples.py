"""The view of a slice in a sample: a square image section. Draw its place, resample it and add noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch.nn import functional

from workers.models.embedded import INPUT_SIZE
from workers.models.windows import AIR_HU
from workers.phantoms.appearance import Scan, correlated_noise, streaks
from workers.phantoms.fields import Floats, Mask, smooth_field
from workers.research.training.geometries import Subject
from workers.research.training.sampling.targets import Target, TargetKind

Matrix = NDArray[np.float64]

# Above this sigma (pixels), noise is drawn from splines. The splines' basis function has a sigma of 0.577
# times the distance of the knots. Filtered noise would take longer than all other steps of the sample.
_WIDE_NOISE = 3.0
_SPLINE_SIGMA = 0.577


@dataclass(frozen=True)
class View:
    """An affine map from view pixels to source pixels.

    Attributes
    ----------
    matrix
        ``(2, 3)``: maps (x, y, 1) of the view to (x, y) of the source, both in pixel edge coordinates.
    pixel_mm
        Side of a view pixel.
    """

    matrix: Matrix
    pixel_mm: float

    def to_view(self, corners: Matrix) -> Matrix:
        """Map source points ``(n, 2)`` (x, y) to the view."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        mapped: Matrix = (corners - self.matrix[:, 2]) @ inverse.T
        return mapped

    def resample(self, planes: Floats, outside: float, crisp: bool = True) -> Floats:
        """Resample planes ``(n, Y, X)`` to ``(n, 256, 256)``.

        If `crisp` is set, then the interpolation of magnified images is bicubic, otherwise bilinear. Pixels
        outside of the source get the value `outside`.
        """
        height, width = planes.shape[1:]
        # grid_sample (align_corners=False) counts edges from -1 to 1
        scale = np.array([[2.0 / width], [2.0 / height]])
        theta = self.matrix * scale
        half = INPUT_SIZE / 2.0
        theta[:, 2] += theta[:, 0] * half + theta[:, 1] * half - 1.0
        theta[:, :2] *= half
        grid = functional.affine_grid(
            torch.from_numpy(theta[None].astype(np.float32)),
            [1, 1, INPUT_SIZE, INPUT_SIZE],
            align_corners=False,
        )
        source = torch.from_numpy(np.ascontiguousarray(planes, np.float32) - np.float32(outside))[None]
        mode = "bicubic" if crisp and self.pixel_mm < 0.95 else "bilinear"
        warped: Floats = functional.grid_sample(source, grid, mode=mode, align_corners=False)[0].numpy()
        return warped + np.float32(outside)

    def masks(self, masks: list[Mask]) -> NDArray[np.bool_]:
        """Resample masks to ``(n, 256, 256)`` with smooth outlines."""
        planes = np.stack([ndi.gaussian_filter(mask.astype(np.float32), 0.6) for mask in masks])
        inside: NDArray[np.bool_] = self.resample(planes, 0.0, crisp=False) > 0.5
        return inside


def draw_view(subject: Subject, targets: list[Target], rng: np.random.Generator) -> View:
    """Draw a random view around a lesion, around any target, around the liver, or of the whole slice."""
    spacing = subject.geometry.spacing_mm[1:]
    lesions = [target for target in targets if target.kind is TargetKind.LESION]
    if lesions and rng.random() < 0.6:
        center, side = _around(lesions[rng.integers(len(lesions))].mask, spacing, rng)
    elif targets and rng.random() < 0.15:
        center, side = _around(targets[rng.integers(len(targets))].mask, spacing, rng)
    else:
        center, side = _overview(subject, rng)
    turn = rng.normal(0, np.deg2rad(7))
    mirror = -1.0 if rng.random() < 0.08 else 1.0
    stretch = np.exp(rng.normal(0, 0.06))
    cos, sin = np.cos(turn), np.sin(turn)
    pixel = side / INPUT_SIZE
    to_mm = pixel * np.array([[cos * mirror * stretch, -sin], [sin * mirror, cos / stretch]])
    to_source = to_mm / np.array([[spacing[1]], [spacing[0]]])
    middle = np.array([center[1] / spacing[1], center[0] / spacing[0]])
    shift = middle - to_source @ np.full(2, INPUT_SIZE / 2.0)
    return View(np.concatenate([to_source, shift[:, None]], axis=1), pixel)


def _around(
    mask: Mask, spacing: tuple[float, float], rng: np.random.Generator
) -> tuple[tuple[float, float], float]:
    """Return centre (y, x) and side of a view, in mm. The side is 1.5 to 5 times the mask's extent."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = max((np.ptp(rows) + 1) * spacing[0], (np.ptp(columns) + 1) * spacing[1])
    side = float(np.clip(extent * np.exp(rng.uniform(np.log(1.5), np.log(5.0))), 40.0, 420.0))
    y = (rows[0] + rows[-1] + 1) / 2 * spacing[0] + rng.uniform(-0.2, 0.2) * side
    x = (columns[0] + columns[-1] + 1) / 2 * spacing[1] + rng.uniform(-0.2, 0.2) * side
    return (float(y), float(x)), side


def _overview(subject: Subject, rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """Return centre (y, x) and side, in mm, of a view of the liver's box or of the whole slice."""
    _, spacing_y, spacing_x = subject.geometry.spacing_mm
    _, height, width = subject.geometry.tissue.shape
    if rng.random() < 0.5:
        _, (y0, y1), (x0, x1) = subject.liver_span
        side = max((y1 - y0) * spacing_y, (x1 - x0) * spacing_x) * rng.uniform(1.05, 1.7)
        y = (y0 + y1) / 2 * spacing_y + rng.uniform(-20, 20)
        x = (x0 + x1) / 2 * spacing_x + rng.uniform(-20, 20)
        return (y, x), side
    y = height * spacing_y * rng.uniform(0.42, 0.56)
    x = width * spacing_x * rng.uniform(0.40, 0.56)
    return (y, x), rng.uniform(250, 460)


def show(view: View, middle: Floats, neighbours: Floats, scan: Scan, rng: np.random.Generator) -> Floats:
    """Return the HU ``(2, 256, 256)`` with noise inside a view: the slice, and the mean of its neighbours.

    `middle` is the slice and `neighbours` the mean, both ``(Y, X)`` without noise.
    """
    blurred = [ndi.gaussian_filter(plane, scan.blur) for plane in (middle, neighbours)]
    seen = view.resample(np.stack(blurred), AIR_HU)
    shape = seen.shape[1:]
    steps = (1.0, 1.0)
    sigma = scan.noise_length * 1.5 / view.pixel_mm
    level = scan.noise_hu * (1.0 + 0.5 * smooth_field(rng, shape, steps, 90.0, 1.0))
    seen[0] += level * _noise(rng, shape, sigma, scan.ramp)
    seen[1] += 0.75 * level * _noise(rng, shape, sigma, scan.ramp)
    if sigma < 1.0:  # detector noise that the reconstruction kernel has not smoothed
        white = rng.standard_normal(shape, dtype=np.float32)
        seen[0] += level * np.float32(rng.uniform(0, 0.5)) * white
    if scan.streaks_hu:
        seen[0] += streaks(rng, shape, scan.streaks_hu)
    if rng.random() < 0.3:  # cupping and other slow drifts
        seen += np.float32(rng.uniform(0, 12)) * smooth_field(rng, shape, steps, 100.0, 1.0)
    return seen


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float, ramp: float) -> Floats:
    if sigma > _WIDE_NOISE:
        return smooth_field(rng, shape, (1.0, 1.0), sigma / _SPLINE_SIGMA, 1.0)
    return correlated_noise(rng, shape, sigma, ramp)
