"""Register a scan with an earlier scan of the same patient, with SimpleITK.

There are three steps. Each step starts from the result of the step before. First, the livers' signed
distances are aligned rigidly. This works for any contrast phase and from a bad start. Then the distances are
deformed until the surfaces meet. Last, the densities inside are aligned, with matched histograms (demons with
symmetric forces: Thirion, Medical Image Analysis 2, 1998; Vercauteren et al., NeuroImage 45, 2009). Two
methods failed on some pairs of `workers.phantoms.pairs` and were left out. An affine step collapsed to zero.
B-splines with mutual information distorted homogeneous liver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

_initializer = SimpleITK.CenteredTransformInitializerFilter
Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]
Slices = tuple[slice, slice, slice]

_STEP_MM = 4.0
_AROUND_MM = 30.0
_FAR_MM = 25.0
_WINDOW_HU = (-120.0, 240.0)
_BINS, _MATCH_POINTS = 256, 10
_SURFACE_STEPS, _DENSITY_STEPS = 60, 40
_SMOOTH = 1.75
"""Standard deviation of the smoothing of the displacement field, in voxels of 4 mm."""
_SHARE, _SEED = 0.15, 1


@dataclass(frozen=True, eq=False)
class Scan:
    """A segmented scan on the canonical grid (superior, posterior, left).

    Parameters
    ----------
    hu
        ``(Z, Y, X)`` on the networks' scale; None if only the segmentation exists.
    labels
        ``(Z, Y, X)``: 0 background, 1 liver, 1 + n lesion n.
    spacing_mm
        (z, y, x).
    """

    hu: NDArray[Any] | None
    labels: Labels
    spacing_mm: Spacing


class Alignment:
    """Maps points of the present scan to points of the earlier scan.

    Parameters
    ----------
    transform
        From (x, y, z) mm of the present scan to mm of the earlier scan, each from the first voxel's centre.
    """

    def __init__(self, transform: SimpleITK.Transform) -> None:
        self._transform = transform

    def brought(self, array: NDArray[Any], spacing_mm: Spacing, now: Scan, box: Slices) -> NDArray[Any]:
        """Resample an array of the earlier scan to a box of the present scan's grid.

        Labels (uint8) get the nearest neighbour, densities are interpolated. Outside of the earlier scan,
        labels are 0 and densities are -1024.
        """
        labels = array.dtype == np.uint8
        reference = _image(np.zeros([s.stop - s.start for s in box], np.uint8), now.spacing_mm, box)
        moving = _image(array if labels else array.astype(np.float32), spacing_mm)
        how = SimpleITK.sitkNearestNeighbor if labels else SimpleITK.sitkLinear
        outside = 0.0 if labels else -1024.0
        return SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(moving, reference, self._transform, how, outside)
        )

    def moved(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points ``(n, 3)`` (z, y, x) of the present scan to points of the earlier scan, in mm."""
        return np.array([self._transform.TransformPoint(point[::-1].tolist())[::-1] for point in points_mm])


def align(now: Scan, before: Scan) -> Alignment:
    """Register an earlier scan to the present scan.

    If a scan has no densities, then only the livers' surfaces are used.

    Raises
    ------
    ValueError
        One scan has no liver.
    """
    if not now.labels.any() or not before.labels.any():
        raise ValueError("scans without a liver cannot be aligned")
    fixed, moving = _distance(now), _distance(before)
    start = SimpleITK.CenteredTransformInitializer(
        _mask(now), _mask(before), SimpleITK.Euler3DTransform(), _initializer.MOMENTS
    )
    transform: SimpleITK.Transform = _rigid(fixed, moving, SimpleITK.Euler3DTransform(start))
    transform = _deformed(fixed, moving, transform, _SURFACE_STEPS, _FAR_MM)
    if now.hu is not None and before.hu is not None:
        fixed, moving = _densities(now), _densities(before)
        alike = SimpleITK.HistogramMatching(moving, fixed, _BINS, _MATCH_POINTS, True)
        transform = _deformed(fixed, alike, transform, _DENSITY_STEPS, _WINDOW_HU[0])
    return Alignment(transform)


def _rigid(fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: Any) -> Any:
    """Improve a rigid transform by the mean squared difference of signed distances."""
    method = SimpleITK.ImageRegistrationMethod()
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetNumberOfThreads(1)  # the same sums in the same order: a second run gives the same transform
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, _SEED)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.02, 60, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return transform


def _deformed(
    fixed: SimpleITK.Image,
    moving: SimpleITK.Image,
    transform: SimpleITK.Transform,
    steps: int,
    outside: float,
) -> SimpleITK.Transform:
    """Add a smooth displacement field to a transform, so that `moving` becomes more similar to `fixed`.

    Outside of its grid, `moving` has the value `outside`.
    """
    near = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkLinear, outside)
    demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfThreads(1)
    demons.SetNumberOfIterations(steps)
    demons.SetStandardDeviations(_SMOOTH)
    field = SimpleITK.Cast(demons.Execute(fixed, near), SimpleITK.sitkVectorFloat64)
    together = SimpleITK.CompositeTransform([transform])
    together.AddTransform(SimpleITK.DisplacementFieldTransform(field))
    return together


def _image(array: NDArray[Any], spacing_mm: Spacing, box: Slices | None = None) -> SimpleITK.Image:
    """Return an image of an array. `box` is the region of the grid that the array fills."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(s) for s in spacing_mm[::-1]])
    if box is not None:
        image.SetOrigin([part.start * s for part, s in zip(box[::-1], spacing_mm[::-1], strict=True)])
    return image


def _box(scan: Scan) -> Slices:
    """Return the liver's box with a margin."""
    (box,) = ndimage.find_objects((scan.labels > 0).astype(np.uint8))
    z, y, x = (
        slice(max(0, part.start - round(_AROUND_MM / s)), min(n, part.stop + round(_AROUND_MM / s)))
        for part, s, n in zip(box, scan.spacing_mm, scan.labels.shape, strict=True)
    )
    return z, y, x


def _coarse(array: NDArray[Any], scan: Scan) -> SimpleITK.Image:
    """Return the liver's surroundings at about 4 mm, smoothed for this resolution."""
    box = _box(scan)
    sigma = [max(0.0, 0.5 * (_STEP_MM / s - 1.0)) for s in scan.spacing_mm]
    smooth = ndimage.gaussian_filter(array[box].astype(np.float32), sigma)
    steps = [max(1, round(_STEP_MM / s)) for s in scan.spacing_mm]
    image = _image(smooth[:: steps[0], :: steps[1], :: steps[2]], scan.spacing_mm, box)
    image.SetSpacing([float(s * n) for s, n in zip(scan.spacing_mm[::-1], steps[::-1], strict=True)])
    return image


def _mask(scan: Scan) -> SimpleITK.Image:
    return _coarse((scan.labels > 0).astype(np.float32), scan)


def _distance(scan: Scan) -> SimpleITK.Image:
    """Return the signed distance to the liver's surface, limited to a useful range."""
    inside = SimpleITK.Cast(_mask(scan) > 0.5, SimpleITK.sitkUInt8)
    distance = SimpleITK.SignedMaurerDistanceMap(inside, squaredDistance=False, useImageSpacing=True)
    return SimpleITK.Clamp(distance, SimpleITK.sitkFloat32, -_FAR_MM, _FAR_MM)


def _densities(scan: Scan) -> SimpleITK.Image:
    assert scan.hu is not None
    return _coarse(np.clip(scan.hu, *_WINDOW_HU), scan)
