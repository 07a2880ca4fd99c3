"""MR of the abdomen, T1-weighted after contrast medium: bright liver, brighter vessels, mostly dark lesions.

No weights were trained on MR. The scaling makes MR values similar to the CT values that the networks know.
The results were measured on phantoms only (docs/modalities.md).
"""

from __future__ import annotations

from pydicom.uid import MRImageStorage

from dicom_config import codes
from dicom_config.modalities.profile import Acquisition, BodyScaling, BodyWindow, ModalityProfile, Unit

PROFILE = ModalityProfile(
    name="mr-t1",
    title="MR, T1-weighted after contrast medium",
    modality="MR",
    sop_classes=frozenset({MRImageStorage}),
    # The node wants the water image of a Dixon acquisition, so `WATER` is missing here. The other values mark
    # computed images.
    not_anatomy=frozenset(
        {"SCREEN SAVE", "FAT", "PHASE MAP", "ADC", "SUBTRACTION", "PROJECTION IMAGE", "VELOCITY MAP"}
    ),
    # Echo planar (EP) images are diffusion images. T2 weighting has echo times of 60 ms and more. T1-weighted
    # spin echo has echo times of at most 20 ms.
    acquisition=Acquisition(frozenset({"EP"}), max_echo_ms=30.0, max_repetition_ms=1000.0),
    expects_contrast=True,
    hounsfield=False,
    outside=0,
    unit=Unit("a.u.", "signal", "signal", codes.ARBITRARY_UNIT, codes.MR_SIGNAL_INTENSITY),
    window=BodyWindow(1.0, 99.0),
    scaling=BodyScaling(((10.0, -300.0), (35.0, -90.0), (65.0, 50.0), (90.0, 115.0), (99.0, 190.0))),
    procedure=codes.MR_PROCEDURE,
)
