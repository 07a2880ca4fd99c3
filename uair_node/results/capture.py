"""Write pictures as Secondary Capture images, which every viewer shows (PS3.3 A.8.1).

Pages and notices are sent to the archive in this form. This module does not depend on the content of the
pictures.

Choices:

- Single-frame Secondary Capture, with an instance for each page. Every viewer shows it, and each page has its
  own thumbnail. A Key Object Selection that names a page names a single candidate. Some viewers play the
  frames of a multi-frame capture as a film, and few viewers can refer to one frame.
- RGB, 8 bits, uncompressed. No viewer needs a decoder for it. A page has about 3 MB, the overview 5 MB.
- Modality OT. So routing rules do not treat a page as a CT slice.
- No patient data is burned in (Burned In Annotation NO). An archive can correct headers, but not pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_config import codes
from uair_node.results.provenance import Provenance, make_reproducible, shared_arguments
from uair_node.results.zone import in_zone

_LONG_TEXT = 1024  # ST, PS3.5 table 6.2-1
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class CaptureSeries:
    """Attributes that the pictures of a series share."""

    uid: str
    number: int
    description: str
    provenance: Provenance


@dataclass(frozen=True)
class CapturedPage:
    """Attributes of one picture of a series.

    Attributes
    ----------
    uid, number
        SOP Instance UID and Instance Number.
    words
        A short description of the picture.
    segmentation_uids
        SOP Instance UIDs of the segmentations that the picture shows.
    """

    uid: str
    number: int
    words: str
    segmentation_uids: Sequence[str]


def write_capture(
    picture: Picture, page: CapturedPage, headers: Sequence[Dataset], series: CaptureSeries
) -> Dataset:
    """Return the Secondary Capture object of a picture.

    Parameters
    ----------
    picture
        ``(rows, columns, 3)`` uint8, sRGB.
    headers
        Headers of the source slices. Patient and study are copied from the first header.
    """
    source, provenance = headers[0], series.provenance
    image = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=series.uid,
        series_number=series.number,
        series_description=series.description,
        sop_instance_uid=page.uid,
        instance_number=page.number,
        **shared_arguments(provenance, source),
    )
    # Copied unchanged, because the library refuses some names of real patients.
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        image[keyword] = source[keyword]
    image.copy_patient_and_study_information(source)
    _describe(image, page, headers, provenance)
    return make_reproducible(image, provenance, source)


def _describe(image: Dataset, page: CapturedPage, headers: Sequence[Dataset], provenance: Provenance) -> None:
    """Set the attributes that describe the picture and its origin (PS3.3 C.7.6.1, C.8.6, C.12.4)."""
    image.ConversionType = "WSD"  # workstation
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BodyPartExamined = "LIVER"
    image.PatientOrientation = None  # the picture has several views, each with labels of its sides
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO"
    captured = in_zone(provenance.content_datetime, headers[0])
    image.DateOfSecondaryCapture = captured.strftime("%Y%m%d")
    image.TimeOfSecondaryCapture = captured.strftime("%H%M%S")
    image.ImageComments = codes.long_string(page.words)
    image.DerivationDescription = (
        f"UAIR round {provenance.round}, {page.words}; model {provenance.model_name} "
        f"{provenance.model_digest}; software {provenance.software_version}; case {provenance.case_digest}. "
        f"{codes.DISCLAIMER}."
    )[:_LONG_TEXT]
    sources = dict.fromkeys((header.SOPClassUID, header.SOPInstanceUID) for header in headers)  # not frames
    image.SourceImageSequence = [_reference(*source, purpose=True) for source in sources]
    if page.segmentation_uids:
        image.ReferencedImageSequence = [
            _reference(UID(codes.SelectionClass.SEGMENTATION), uid) for uid in page.segmentation_uids
        ]


def _reference(sop_class_uid: str, sop_instance_uid: str, *, purpose: bool = False) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if purpose:
        code = Dataset()
        code.CodeValue = codes.SOURCE_IMAGE.value
        code.CodingSchemeDesignator = codes.SOURCE_IMAGE.scheme_designator
        code.CodeMeaning = codes.SOURCE_IMAGE.meaning
        item.PurposeOfReferenceCodeSequence = [code]
    return item
