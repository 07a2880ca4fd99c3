"""Write the page set of a round as Secondary Capture images, for viewers that cannot draw segmentations.

`page_images` draws the pictures. This module does not use the objects' destinations or the case's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_config import codes
from uair_node.dicom.intensity import display_window
from uair_node.dicom.volume import Volume
from uair_node.findings.record import Findings
from uair_node.rendering.change_images import ChangeScene, draw_change
from uair_node.rendering.finding_images import draw_finding
from uair_node.rendering.page_images import Scene, cropped, draw_candidate, draw_overview
from uair_node.rendering.plane_names import plane_names
from uair_node.rendering.result_images import draw_result
from uair_node.rendering.sheet import SheetCandidate
from uair_node.results.capture import CapturedPage, CaptureSeries, write_capture
from uair_node.results.provenance import Provenance
from uair_node.results.source_headers import source_headers

_NUMBERS_PER_ROUND = 1000  # Instance Numbers for each round if a series contains the pages of all rounds
_FIRST_FINDING = 5  # the last Instance Number before the lesion pages: overview, four candidates


@dataclass(frozen=True, eq=False)
class PageCandidate:
    """A candidate that gets a page.

    Parameters
    ----------
    k
        Number of the candidate, 1..4.
    character
        Character of the candidate in a few words.
    labels
        ``(Z, Y, X)`` uint8 on the source grid: 0 background, 1 liver, 1 + n lesion n.
    segmentation_uid
        SOP Instance UID of the candidate's SEG, to which the page refers.
    """

    k: int
    character: str
    labels: NDArray[np.uint8]
    segmentation_uid: str


@dataclass(frozen=True)
class PagesRequest:
    """The content of a page set beyond its pictures and its source.

    Parameters
    ----------
    series_instance_uid
        Series Instance UID. All UIDs are deterministic (`uids.result_uid`).
    overview_uid
        SOP Instance UID of the overview.
    page_uids
        SOP Instance UID of each candidate's page, by k.
    provenance
        The origin of the pages.
    warnings
        Sentences about possible faults of the series.
    how_to_answer
        A sentence for the overview that explains how to answer.
    finding_uids
        Lesion number -> SOP Instance UID of the lesion's page, for each lesion with a page.
    how_to_drop
        Lesion number -> sentence for the lesion's page that explains how to drop the lesion.
    in_series_of_case
        Whether the series contains the pages of all rounds.
    """

    series_instance_uid: str
    overview_uid: str
    page_uids: Mapping[int, str]
    provenance: Provenance
    warnings: tuple[str, ...] = ()
    how_to_answer: str = ""
    finding_uids: Mapping[int, str] = field(default_factory=dict)
    how_to_drop: Mapping[int, str] = field(default_factory=dict)
    in_series_of_case: bool = False


@dataclass(frozen=True)
class ResultPageRequest:
    """The content of an accepted candidate's page beyond its picture and its source.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic UIDs (`uids.result_uid`).
    provenance
        The origin of the page.
    warnings
        Sentences about possible faults of the series.
    """

    sop_instance_uid: str
    series_instance_uid: str
    provenance: Provenance
    warnings: tuple[str, ...] = ()


def write_pages(
    volume: Volume,
    candidates: Sequence[PageCandidate],
    request: PagesRequest,
    *,
    reference: NDArray[np.uint8] | None = None,
    uncertain: NDArray[np.bool_] | None = None,
) -> list[Dataset]:
    """Make the page set of a round: the overview, a page for each candidate, and the lesion pages.

    Parameters
    ----------
    volume
        The source series with its pixels (`read_series`).
    candidates
        The candidates, at least one. The overview shows them in this order.
    reference
        The reference from which the round started: ``(Z, Y, X)`` uint8 labels on the source grid; None in
        round 1. The pages show the reference as a dotted line.
    uncertain
        The uncertain region, which the pages show tinted: ``(Z, Y, X)`` bool on the source grid; None if it
        is unknown.

    Returns
    -------
    list of Dataset
        Instance Number 1 is the overview, 1 + k the page of candidate k, 5 + n the page of lesion n. In a
        series of all rounds, the round's number times 1000 is added.

    Raises
    ------
    ValueError
        An array is not on the source grid.
    """
    scene = _scene(volume, candidates, request, reference, uncertain)
    headers = source_headers(volume)
    series, first = _page_series(request)
    every = [candidate.segmentation_uid for candidate in candidates]
    overview = CapturedPage(request.overview_uid, first + 1, "overview", every)
    shown = replace(scene, how_to_answer=request.how_to_answer)
    made = [write_capture(draw_overview(shown), overview, headers, series)]
    for candidate in candidates:
        words = f"candidate {candidate.k}: {candidate.character}"
        uid = request.page_uids[candidate.k]
        page = CapturedPage(uid, first + 1 + candidate.k, words, [candidate.segmentation_uid])
        made.append(write_capture(draw_candidate(scene, candidate.k), page, headers, series))
    for number, uid in request.finding_uids.items():
        holders = [shown.segmentation_uid for shown in candidates if (shown.labels == number + 1).any()]
        page = CapturedPage(uid, first + _FIRST_FINDING + number, finding_words(number), holders)
        picture = draw_finding(scene, number, request.how_to_drop[number])
        made.append(write_capture(picture, page, headers, series))
    return made


def _page_series(request: PagesRequest) -> tuple[CaptureSeries, int]:
    """Return the series of a round's pages, and the number that is added to each Instance Number."""
    uid, provenance, words = request.series_instance_uid, request.provenance, "overview and candidates"
    if not request.in_series_of_case:
        return _series(uid, codes.Companion.PAGES, words, provenance), 0
    number = codes.case_companion_number(codes.Companion.PAGES)
    description = codes.case_companion_description(codes.Companion.PAGES, "of all rounds")
    return CaptureSeries(uid, number, description, provenance), _NUMBERS_PER_ROUND * provenance.round


def finding_words(number: int) -> str:
    """Return the name of a lesion's page."""
    return f"lesion {number}: drop"


def write_result_page(
    volume: Volume, accepted: PageCandidate, findings: Findings, request: ResultPageRequest
) -> Dataset:
    """Make the page of an accepted candidate, with its measurements and 3D views.

    Parameters
    ----------
    volume
        The source series with its pixels (`read_series`).
    accepted
        The accepted candidate. Its `segmentation_uid` is that of the final SEG.
    findings
        The measurements of the report.

    Raises
    ------
    ValueError
        The labels are not on the source grid.
    """
    provenance = request.provenance
    scene = _scene(volume, [accepted], request, None, None)
    words = f"candidate {accepted.k} accepted"
    series = _series(request.series_instance_uid, codes.Companion.RESULT, words, provenance)
    page = CapturedPage(request.sop_instance_uid, 1, words, [accepted.segmentation_uid])
    return write_capture(draw_result(scene, accepted.k, findings), page, source_headers(volume), series)


def write_change_page(
    volume: Volume, scene: ChangeScene, segmentation_uid: str, k: int, request: ResultPageRequest
) -> Dataset:
    """Make the page of the changes since an earlier study. It joins the series of `write_result_page`."""
    provenance = request.provenance
    words = f"candidate {k} accepted"
    series = _series(request.series_instance_uid, codes.Companion.RESULT, words, provenance)
    page = CapturedPage(request.sop_instance_uid, 2, "change since the prior study", [segmentation_uid])
    return write_capture(draw_change(scene), page, source_headers(volume), series)


def _series(uid: str, kind: codes.Companion, words: str, provenance: Provenance) -> CaptureSeries:
    number = codes.companion_number(kind, provenance.round)
    description = codes.companion_description(kind, provenance.round, words)
    return CaptureSeries(uid, number, description, provenance)


def _scene(
    volume: Volume,
    candidates: Sequence[PageCandidate],
    request: PagesRequest | ResultPageRequest,
    reference: NDArray[np.uint8] | None,
    uncertain: NDArray[np.bool_] | None,
) -> Scene:
    canonical = volume.canonical()

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        if array.shape != volume.shape:
            raise ValueError(f"an array of shape {array.shape} is not on the source grid {volume.shape}")
        return canonical.from_source(array)

    scene = Scene(
        values=canonical.array,
        spacing_mm=canonical.spacing_mm,
        planes=plane_names(volume),
        round=request.provenance.round,
        candidates=tuple(
            SheetCandidate(candidate.k, candidate.character, turned(candidate.labels))
            for candidate in candidates
        ),
        reference=None if reference is None else turned(reference),
        uncertain=None if uncertain is None else turned(uncertain),
        window=display_window(canonical.array, canonical.profile),
        unit=canonical.profile.unit,
        organ=canonical.profile.organ.name,
        warnings=request.warnings,
    )
    return cropped(scene)
