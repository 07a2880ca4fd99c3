"""CT of the abdomen, in any contrast phase. The networks were trained on such images."""

from __future__ import annotations

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from dicom_config import codes
from dicom_config.modalities.profile import FixedWindow, ModalityProfile, Unit

WINDOW = FixedWindow(-110.0, 190.0)
"""A narrow window, so that a lesion is visible in a portal-venous liver."""

PROFILE = ModalityProfile(
    name="ct",
    title="CT",
    modality="CT",
    sop_classes=frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}),
    not_anatomy=frozenset({"SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "DOSE INFO"}),
    acquisition=None,
    expects_contrast=False,
    hounsfield=True,
    outside=-1024,
    unit=Unit("HU", "density", "hu", codes.HOUNSFIELD_UNIT, codes.ATTENUATION),
    window=WINDOW,
    scaling=None,
    procedure=codes.CT_PROCEDURE,
)
