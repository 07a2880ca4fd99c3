"""Scale voxel values for a screen and for the networks, according to the volume's modality profile.

This module finds the body in a volume and the percentiles of its values. It uses arrays only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_config.modalities import ModalityProfile
from dicom_config.modalities.profile import FixedWindow

AIR_HU = -1000.0

_STEPS = 96
"""The body is searched on a grid of at most about this many voxels along each axis."""
_FOREGROUND = 0.15
"""The limit between air and body, as a fraction of the bright tissues' signal.

Suppressed fat has about 0.2 of that signal.
"""
_BRIGHT_PERCENT = 98.0


def display_window(values: npt.NDArray[Any], profile: ModalityProfile) -> FixedWindow:
    """Return the values that are drawn black and white in slices of a volume ``(Z, Y, X)``."""
    window = profile.window
    if isinstance(window, FixedWindow):
        return window
    low, high = np.percentile(_body_of(values), [window.low_percent, window.high_percent])
    return FixedWindow(float(low), float(max(high, low + 1.0)))


def on_training_scale(values: npt.NDArray[Any], profile: ModalityProfile) -> npt.NDArray[Any]:
    """Return a volume ``(Z, Y, X)`` on the networks' scale. A volume in HU is returned as the same array.

    Returns
    -------
    numpy.ndarray
        int16: HU, or for other modalities the scale of `BodyScaling`.
    """
    if profile.scaling is None:
        return values
    percents, hounsfield = zip(*profile.scaling.landmarks, strict=True)
    landmarks = np.percentile(_body_of(values), percents)
    # If several landmarks have the same value, as in a volume without contrast, then the last landmark
    # counts. A landmark at 0 does not count, since 0 is air.
    known = (np.diff(landmarks, append=np.inf) > 0) & (landmarks > 0)
    scaled = np.interp(values, [0.0, *landmarks[known]], [AIR_HU, *np.asarray(hounsfield)[known]])
    return np.rint(scaled).astype(np.int16)


def _body_of(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a sample of the values inside the body. If no body is found, then sample the whole volume.

    The body is the largest connected piece that is brighter than air, with the holes of its slices filled.
    """
    steps = tuple(slice(None, None, max(1, round(n / _STEPS))) for n in values.shape)
    coarse = np.asarray(values[steps], np.float32)
    smooth = ndimage.gaussian_filter(coarse, (0.0, 1.0, 1.0))
    stands_out = smooth > _FOREGROUND * np.percentile(smooth, _BRIGHT_PERCENT)
    pieces, count = ndimage.label(stands_out)
    if not count:
        return coarse.ravel()
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in largest])
    return np.asarray(coarse[filled])
