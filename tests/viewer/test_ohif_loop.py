"""The whole loop in OHIF: a reader edits a candidate and stores it, the archive forwards it by its recipe.

The archive is Orthanc with dicom_config/orthanc.lua; it sends the series, gets the candidates, and hands on
what OHIF stores by STOW-RS. No other program speaks to the node.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_config.codes import SelectionClass
from tests.support.matrix import MATRIX
from tests.support.ohif import OhifPage
from tests.support.orthanc import Orthanc
from tests.support.pacs import await_round, seg_series
from tests.support.ports import wait_until
from tests.support.running_node import Deployment
from tests.viewer.loop import (
    PATIENCE_S,
    looping,
    notice_texts,
    on_screen,
    store_until,
    study_of,
)
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.results.uids import lesion_uid
from uair_node.storage.artifacts import load_candidates

pytestmark = [pytest.mark.viewer, pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture
def deployment(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    yield from looping(tmp_path, orthanc)


def _paint_and_store(page: OhifPage, orthanc: Orthanc, study_uid: str, name: str, labels: np.ndarray) -> str:
    """Load a candidate, paint, store; return the new instance."""

    def paint_and_store() -> None:
        page.open_study(study_uid, "segmentation")
        page.load(name)
        _paint(page, labels)
        page.store_segmentation()

    return _stored(page, orthanc, paint_and_store)


def _paint(page: OhifPage, labels: np.ndarray) -> None:
    """Paint over the organ's edge where it is largest."""
    k = int((labels > 0).sum(axis=(1, 2)).argmax())
    page.scroll_to(len(labels) - k)  # OHIF shows the top first
    row = int(np.flatnonzero((labels[k] > 0).any(axis=1)).max()) + 2
    columns = np.quantile(np.flatnonzero((labels[k, row - 4 : row - 2] > 0).any(axis=0)), (0.0, 0.5, 1.0))
    page.paint([on_screen(page, row, column, labels.shape[1]) for column in columns])


def _stored(page: OhifPage, orthanc: Orthanc, store: Callable[[], None]) -> str:
    """Store from the viewer, leave the study, and return the new instance."""
    before = set(_viewer_s(orthanc))
    store_until(lambda: set(_viewer_s(orthanc)) > before, store)
    page.leave()
    (new,) = set(_viewer_s(orthanc)) - before
    return new


def _viewer_s(orthanc: Orthanc) -> list[str]:
    ours = {seg.id for seg in seg_series(orthanc)}
    segs = [
        found_series
        for found_series in orthanc.series()
        if found_series.modality == "SEG" and found_series.id not in ours
    ]
    return [instance for seg in segs for instance in seg.instances]


def _names(orthanc: Orthanc, number: int) -> list[str]:
    return [str(series.tags["SeriesDescription"]) for series in await_round(orthanc, number, PATIENCE_S)]


def test_an_edit_stored_by_the_viewer_starts_the_next_round(
    orthanc: Orthanc, deployment: Deployment, volume: Volume, page: OhifPage
) -> None:
    study_uid = study_of(volume)
    names = _names(orthanc, 1)
    deployment.await_state("AWAITING_SELECTION")
    before = load_candidates(_round_folder(deployment, 1) / "candidates.npz")[0].labels
    instance = _paint_and_store(page, orthanc, study_uid, names[0], before)
    wait_until(lambda: deployment.case()["selections"], "the archive to forward it", PATIENCE_S)
    (said,) = deployment.case()["selections"]
    assert (said["outcome"], said["mechanism"], said["calling_ae"]) == (
        "effective",
        "edited-seg",
        orthanc.aet,
    )

    seg = pydicom.dcmread(io.BytesIO(orthanc.dicom(instance)))
    assert seg.SOPClassUID == SelectionClass.LABEL_MAP_SEGMENTATION
    digest = deployment.case()["digest"]
    tracking = {lesion_uid(digest, n): n for n in range(1, 255)}
    drawn = read_edited(seg, volume, KnownTargets(tracking, [before])).labels
    assert (drawn != before).sum() > 20

    second = _names(orthanc, 2)
    deployment.await_state("AWAITING_SELECTION")
    offered = load_candidates(_round_folder(deployment, 2) / "candidates.npz")
    assert ((offered[0].labels > 0) == (drawn > 0)).all(), "the first of the next four is what was drawn"
    assert MATRIX["OHIF 3 (label map, RLE)"]["edit"] == "edit"
    assert _derived_from(orthanc, second[0]) == seg.SOPInstanceUID
    wait_until(lambda: notice_texts(orthanc), "the notice in the study", PATIENCE_S)
    assert f"your edit of candidate {said['picked']} received" in notice_texts(orthanc)[0]

    # Candidates stored as they are, under a name with one of the words.
    _store_as(page, orthanc, study_uid, second[2], "PICK")
    third = _names(orthanc, 3)
    deployment.await_state("AWAITING_SELECTION")
    received = f"{MATRIX['OHIF 3 (label map, RLE)']['pick']} received"
    wait_until(lambda: any(received in text for text in notice_texts(orthanc)), "the notice", PATIENCE_S)
    _store_as(page, orthanc, study_uid, third[2], "ACCEPT this one")
    case = deployment.await_state("ACCEPTED")
    assert [
        (selection["verb"], selection["round"], f"candidate {selection['picked']}")
        for selection in case["selections"][1:]
    ] == [
        ("pick", 2, MATRIX["OHIF 3 (label map, RLE)"]["pick"]),
        ("accept", 3, MATRIX["OHIF 3 (label map, RLE)"]["accept"]),
    ]
    assert sum("your edit" in text for text in notice_texts(orthanc)) == 1


def _store_as(page: OhifPage, orthanc: Orthanc, study_uid: str, candidate: str, name: str) -> None:
    """Store a candidate as it is, under another name."""

    def store() -> None:
        page.open_study(study_uid, "segmentation")
        page.load(candidate)
        page.store_segmentation(name)

    _stored(page, orthanc, store)


def _round_folder(deployment: Deployment, number: int) -> Path:
    data = Path(deployment.environment["UAIR_DATA_DIR"])
    (found,) = (data / "artifacts" / "case-000001").glob(f"round-{number:02d}.*/{CANDIDATES_FILE}")
    return found.parent


def _derived_from(orthanc: Orthanc, name: str) -> str:
    (series,) = seg_series(orthanc, name)
    seg = pydicom.dcmread(io.BytesIO(orthanc.dicom(series.instances[0])))
    text = str(seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    return text.split("derived from=")[1].split(",")[0].strip("' {}\"")
