"""Write an array of Hounsfield units as a DICOM CT series.

This module writes the CT Image IOD (PS3.3 A.3) for demonstrations, phantoms and tests. To read such a series,
use `uair_node.dicom.volume`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from workers.phantoms.image_series import SeriesText, describe_pixels, write_series

RESCALE_INTERCEPT = -1024
"""Stored value 0 is -1024 HU, as most scanners write it (PS3.3 C.8.2.1, Rescale Intercept)."""


def write_ct_series(
    folder: Path, hu: npt.NDArray[Any], affine: npt.NDArray[np.float64], **text: Unpack[SeriesText]
) -> list[Path]:
    """Write one file for each slice of `hu`. Other parameters and errors are those of `write_series`.

    Parameters
    ----------
    hu
        Array `(Z, Y, X)` in HU. Values below -1024 HU are stored as -1024 HU. Bits Stored of a slice is 12,
        or 16 if a value exceeds 3071 HU.
    """
    stored = np.maximum(np.rint(hu).astype(np.int32) - RESCALE_INTERCEPT, 0)
    bits_stored = 12 if stored.max(initial=0) < 1 << 12 else 16
    text = {"study_description": "CT abdomen", "series_description": "Portal venous phase", **text}
    described = partial(_describe, bits_stored=bits_stored)
    return write_series(folder, stored, affine, described, **text)


def _describe(header: Dataset, bits_stored: int) -> None:
    """Set the attributes of the CT Image and VOI LUT modules (PS3.3 C.8.2.1, C.11.2)."""
    header.SOPClassUID = CTImageStorage
    header.Modality = "CT"
    header.ManufacturerModelName = "Procedural CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.KVP = 120
    header.ConvolutionKernel = "SOFT"
    describe_pixels(header, bits_stored)
    header.RescaleIntercept = RESCALE_INTERCEPT
    header.RescaleSlope = 1
    header.RescaleType = "HU"
    header.WindowCenter = 60
    header.WindowWidth = 400
