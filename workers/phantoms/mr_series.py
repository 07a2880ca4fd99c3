"""Write an array of MR signals as a DICOM MR series.

This module writes the MR Image IOD (PS3.3 A.4): a spoiled gradient echo with suppressed fat, after contrast
medium. To read such a series, use `uair_node.dicom.volume`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from workers.phantoms.image_series import SeriesText, describe_pixels, write_series


def write_mr_series(
    folder: Path, signal: npt.NDArray[Any], affine: npt.NDArray[np.float64], **text: Unpack[SeriesText]
) -> list[Path]:
    """Write one file for each slice of `signal`. Other parameters and errors are those of `write_series`.

    Parameters
    ----------
    signal
        Array `(Z, Y, X)` of values from 0 to 65535, in any unit. The values are stored unchanged, without a
        rescale. Bits Stored of a slice is 12, or 16 if a value exceeds 4095.
    """
    stored = np.clip(np.rint(signal), 0, 65535).astype(np.int32)
    bits_stored = 12 if stored.max(initial=0) < 1 << 12 else 16
    text = {"study_description": "MR liver", "series_description": "T1 fs portal venous", **text}
    described = partial(_describe, bits_stored=bits_stored)
    return write_series(folder, stored, affine, described, **text)


def _describe(header: Dataset, bits_stored: int) -> None:
    """Set the attributes of the MR Image and Contrast/Bolus modules (PS3.3 C.8.3.1, C.7.6.4)."""
    header.SOPClassUID = MRImageStorage
    header.Modality = "MR"
    header.ManufacturerModelName = "Procedural MR"
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "WATER"]
    header.ScanningSequence = "GR"
    header.SequenceVariant = ["SP", "OSP"]
    header.ScanOptions = "FS"
    header.MRAcquisitionType = "3D"
    header.RepetitionTime = 4
    header.EchoTime = 2
    header.EchoTrainLength = 1
    header.FlipAngle = 12
    header.MagneticFieldStrength = 3
    header.ContrastBolusAgent = "Gadolinium"
    describe_pixels(header, bits_stored)
