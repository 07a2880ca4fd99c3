"""The page set of a round: Secondary Capture images for viewers that cannot draw segmentations (PS3.3 A.8.1).

Owns the form in which pictures go to the archive; what they show is `page_images`'. It must not know where
the objects go, nor which state their case is in.

Choices:

- Single-frame Secondary Capture, one instance a page: there is no viewer that does not show it, thumbnails
  tell the pages apart, and a Key Object Selection that names a page names one candidate. Frames of a
  multi-frame capture some viewers play as a film, and few can name one of them.
- RGB, 8 bits, uncompressed: no decoder to fail. A page is about 3 MB, the overview 5 MB.
- Modality OT: nobody's rules take a page for a CT slice.
- No patient data is burned in (Burned In Annotation NO): an archive can correct headers, not pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_config import codes
from uair_node.results.page_images import Picture, Scene, cropped, draw_candidate, draw_overview, draw_result
from uair_node.results.provenance import Provenance, settle, shared_arguments
from uair_node.results.sheet import SheetCandidate
from uair_node.results.source_headers import source_headers
from uair_node.volume import Volume

_LONG_TEXT = 1024  # ST, PS3.5 table 6.2-1


@dataclass(frozen=True, eq=False)
class PageCandidate:
    """A candidate of which a page is made.

    Parameters
    ----------
    k
        Number of the candidate, 1..4.
    trait
        Its character in short words.
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n.
    segmentation_uid
        SOP Instance UID of its SEG, which the page refers to.
    """

    k: int
    trait: str
    labels: NDArray[np.uint8]
    segmentation_uid: str


@dataclass(frozen=True)
class PagesRequest:
    """Everything a page set says beyond its pictures and its source.

    Parameters
    ----------
    series_instance_uid
        Deterministic (`uids.result_uid`), as are all others.
    overview_uid
        SOP Instance UID of the overview.
    page_uids
        SOP Instance UID of each candidate's page, by k.
    provenance
        Where it comes from.
    """

    series_instance_uid: str
    overview_uid: str
    page_uids: Mapping[int, str]
    provenance: Provenance


@dataclass(frozen=True)
class ResultPageRequest:
    """What the page of an accepted candidate says beyond its picture and its source.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic ones (`uids.result_uid`).
    provenance
        Where it comes from.
    """

    sop_instance_uid: str
    series_instance_uid: str
    provenance: Provenance


def write_pages(
    volume: Volume,
    candidates: Sequence[PageCandidate],
    request: PagesRequest,
    *,
    reference: NDArray[np.uint8] | None = None,
    uncertain: NDArray[np.bool_] | None = None,
) -> list[Dataset]:
    """Make the page set of a round: the overview, then a page for each candidate.

    Parameters
    ----------
    volume
        The source series with its pixels (`read_series`).
    candidates
        At least one; the overview lists them in this order.
    reference
        ``(Z, Y, X)`` uint8 labels on the source grid of the selection that the round started from, drawn
        dotted; None in round 1.
    uncertain
        ``(Z, Y, X)`` bool on the source grid, tinted; None if the engine does not tell.

    Returns
    -------
    list of Dataset
        Instance Number 1 is the overview, 1 + k the page of candidate k.

    Raises
    ------
    ValueError
        When an array is not on the source grid.
    """
    scene = _scene(volume, candidates, request.provenance.round, reference, uncertain)
    headers = source_headers(volume)
    series = _Series(
        request.series_instance_uid, codes.Companion.PAGES, "overview and candidates", request.provenance
    )
    every = [candidate.segmentation_uid for candidate in candidates]
    overview = _Page(request.overview_uid, 1, "overview", every)
    made = [_capture(draw_overview(scene), overview, headers, series)]
    for one in candidates:
        words = f"candidate {one.k}: {one.trait}"
        page = _Page(request.page_uids[one.k], 1 + one.k, words, [one.segmentation_uid])
        made.append(_capture(draw_candidate(scene, one.k), page, headers, series))
    return made


def write_result_page(volume: Volume, accepted: PageCandidate, request: ResultPageRequest) -> Dataset:
    """Make the page of an accepted candidate, with its numbers and views of it as a solid.

    Parameters
    ----------
    volume
        The source series with its pixels (`read_series`).
    accepted
        Its `segmentation_uid` is that of the final SEG.

    Raises
    ------
    ValueError
        When its labels are not on the source grid.
    """
    provenance = request.provenance
    scene = _scene(volume, [accepted], provenance.round, None, None)
    words = f"candidate {accepted.k} accepted"
    series = _Series(request.series_instance_uid, codes.Companion.RESULT, words, provenance)
    page = _Page(request.sop_instance_uid, 1, words, [accepted.segmentation_uid])
    return _capture(draw_result(scene, accepted.k), page, source_headers(volume), series)


@dataclass(frozen=True)
class _Series:
    """What the pages of a series share."""

    uid: str
    kind: codes.Companion
    words: str
    provenance: Provenance


@dataclass(frozen=True)
class _Page:
    """What tells one page of a set from another."""

    uid: str
    number: int
    words: str
    segmentation_uids: list[str]


def _scene(
    volume: Volume,
    candidates: Sequence[PageCandidate],
    round_: int,
    reference: NDArray[np.uint8] | None,
    uncertain: NDArray[np.bool_] | None,
) -> Scene:
    canonical = volume.canonical()

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        if array.shape != volume.shape:
            raise ValueError(f"an array of shape {array.shape} is not on the source grid {volume.shape}")
        return canonical.from_source(array)

    scene = Scene(
        hu=canonical.array,
        spacing_mm=canonical.spacing_mm,
        round=round_,
        candidates=tuple(SheetCandidate(one.k, one.trait, turned(one.labels)) for one in candidates),
        reference=None if reference is None else turned(reference),
        uncertain=None if uncertain is None else turned(uncertain),
    )
    return cropped(scene)


def _capture(picture: Picture, page: _Page, headers: Sequence[Dataset], series: _Series) -> Dataset:
    source, provenance = headers[0], series.provenance
    image = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=series.uid,
        series_number=codes.companion_number(series.kind, provenance.round),
        series_description=codes.companion_description(series.kind, provenance.round, series.words),
        sop_instance_uid=page.uid,
        instance_number=page.number,
        **shared_arguments(provenance),
    )
    # As they are: the library refuses names that real patients have.
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        image[keyword] = source[keyword]
    image.copy_patient_and_study_information(source)
    _describe(image, page, headers, provenance)
    return settle(image, provenance, source)


def _describe(image: Dataset, page: _Page, headers: Sequence[Dataset], provenance: Provenance) -> None:
    """Say what the picture is and where it comes from (PS3.3 C.7.6.1, C.8.6, C.12.4)."""
    image.ConversionType = "WSD"  # workstation
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BodyPartExamined = "LIVER"
    image.PatientOrientation = None  # several views: each says its own sides
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO"
    image.DateOfSecondaryCapture = provenance.content_datetime.strftime("%Y%m%d")
    image.TimeOfSecondaryCapture = provenance.content_datetime.strftime("%H%M%S")
    image.ImageComments = codes.long_string(page.words)
    image.DerivationDescription = (
        f"UAIR round {provenance.round}, {page.words}; model {provenance.model_name} "
        f"{provenance.model_digest}; software {provenance.software_version}; case {provenance.case_digest}. "
        f"{codes.DISCLAIMER}."
    )[:_LONG_TEXT]
    image.SourceImageSequence = [
        _reference(header.SOPClassUID, header.SOPInstanceUID, purpose=True) for header in headers
    ]
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
