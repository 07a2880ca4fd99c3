"""Draw a view of the organ as a solid body, with its lesions visible through the surface.

The view is an orthographic projection of the front surface, shaded by its slope. This view needs no mesh and
no 3-D library, and takes only a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LightSource
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config import codes

_VOXEL_MM = 1.5
_SMOOTHING_MM = 2.0
_MARGIN_MM = 8.0
_LIVER_OPACITY = 0.45
_LIGHT = LightSource(azdeg=315, altdeg=50)

Image = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solid:
    """A view of the organ.

    Parameters
    ----------
    picture
        ``(rows, columns, 3)`` in 0..1, sRGB. A pixel is 1.5 mm. The background is black.
    lesions
        Number of each visible lesion, and its place ``(row, column)`` in the picture.
    """

    picture: Image
    lesions: tuple[tuple[int, tuple[float, float]], ...]


def solid_view(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float], azimuth_deg: float = 0.0
) -> Solid:
    """Return a view of a segmentation from the front or from a side.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8 on the canonical grid (superior, posterior, left): 0 background, 1 liver, 1 + n
        lesion n.
    spacing_mm
        ``(z, y, x)`` in mm.
    azimuth_deg
        0 is the view from anterior, 90 from the patient's right. Superior is up.
    """
    turned = _turned(labels, spacing_mm, azimuth_deg)
    picture = _shaded(turned > 0, codes.LIVER_COLOUR)
    lesions = []
    # The farthest lesion is drawn first, so that nearer lesions cover it.
    values = sorted(np.unique(turned[turned > 1]).tolist(), key=lambda value: -_depth(turned == value).min())
    for value in values:
        lesion = _shaded(turned == value, codes.lesion_colour(value - 1))
        hit = (turned == value).any(axis=1)
        picture[hit] = _LIVER_OPACITY * picture[hit] + (1 - _LIVER_OPACITY) * lesion[hit]
        row, column = (float(at.mean()) for at in np.nonzero(hit))
        lesions.append((value - 1, (len(picture) - 1 - row, column)))
    # Axis 0 grows upwards, but the rows of a picture grow downwards.
    return Solid(picture[::-1], tuple(sorted(lesions)))


def _turned(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float], azimuth_deg: float
) -> NDArray[np.uint8]:
    """Resample labels to cubic voxels, rotated about the patient's long axis.

    Axis 1 of the result points away from the viewer.
    """
    boxes = ndimage.find_objects((labels > 0).astype(np.uint8))
    if not boxes:
        return np.zeros((1, 1, 1), np.uint8)
    # The padding is needed because values beyond the outermost voxel centres are not sampled.
    part = np.pad(labels[boxes[0]], 1)
    extent = np.array(part.shape) * spacing_mm
    reach = float(np.hypot(extent[1], extent[2])) if azimuth_deg % 90 else float(max(extent[1:]))
    size = np.ceil((np.array([extent[0], reach, reach]) + 2 * _MARGIN_MM) / _VOXEL_MM).astype(int)
    c, s = np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg))
    # The columns are the viewer's directions up, away and right, in canonical millimetres.
    directions = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    matrix = directions * _VOXEL_MM / np.array(spacing_mm)[:, None]
    offset = (np.array(part.shape) - 1) / 2 - matrix @ ((size - 1) / 2)
    turned = ndimage.affine_transform(part, matrix, offset, tuple(size.tolist()), order=0)
    return np.asarray(turned, np.uint8)


def _depth(mask: NDArray[np.bool_]) -> Image:
    """Return the distance in voxels at which the mask begins, for each line of sight.

    If the mask is empty in a line of sight, then the distance is the array's size along axis 1.
    """
    return np.where(mask.any(axis=1), mask.argmax(axis=1), mask.shape[1]).astype(float)


def _shaded(mask: NDArray[np.bool_], colour: codes.Colour) -> Image:
    hit = mask.any(axis=1)
    if not hit.any():
        return np.zeros((*hit.shape, 3))
    depth = _depth(mask)
    # The depth is smoothed only within the outline, because there is no surface beside the outline.
    sigma = _SMOOTHING_MM / _VOXEL_MM
    weight = ndimage.gaussian_filter(hit.astype(float), sigma)
    smooth = ndimage.gaussian_filter(np.where(hit, depth, 0.0), sigma) / np.maximum(weight, 1e-6)
    smooth[~hit] = smooth[hit].max()
    light = 0.25 + 0.75 * _LIGHT.hillshade(-smooth)
    return np.where(hit, light, 0.0)[..., None] * (np.array(colour.rgb) / 255.0)
