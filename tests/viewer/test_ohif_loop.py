"""The whole loop in OHIF: a reader edits a candidate and stores it, the archive forwards it by its recipe.

The archive is Orthanc with dicom_config/orthanc.lua; it sends the series, gets the candidates, and hands on
what OHIF stores by STOW-RS. Nobody else speaks to the node.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from tests.support.running_node import HOST, Deployment, embedded, quick
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.source import CANDIDATES_FILE
from uair_node.results.uids import lesion_uid
from uair_node.storage.artifacts import load_candidates
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

pytestmark = [pytest.mark.viewer, pytest.mark.integration, pytest.mark.timeout(1200)]

_STORE_TRIES = 4
_PATIENCE_S = 300.0  # two rounds are computed while a browser and an archive share the processors


@pytest.fixture
def deployment(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """The product in one process tree, with the archive as its only peer."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    # A browser beside it may keep a worker from its processor for longer than a short lease.
    made = embedded(tmp_path, quick([pacs], work={"lease_s": 60}))
    for title in ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT"):
        orthanc.add_modality(title, title, HOST, made.port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def volume(tmp_path: Path, orthanc: Orthanc, deployment: Deployment) -> Volume:
    """A phantom's series, in the archive, which sends it to the node."""
    phantom = make_phantom(3, size="small")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * phantom.spacing_mm
    affine[:3, 3] = (-190.0, -185.0, 40.0)
    paths = write_ct_series(tmp_path / "ct", phantom.hu, affine)
    orthanc.store([orthanc.upload(path.read_bytes()) for path in paths], "UAIR")
    return read_series(paths)


def _paint_and_store(page: OhifPage, orthanc: Orthanc, study_uid: str, name: str, labels: np.ndarray) -> str:
    """Load a candidate, paint, store; return the new instance."""

    def paint_and_store() -> None:
        page.open_study(study_uid, "segmentation")
        page.load(name)
        _paint(page, labels)
        page.store_segmentation()

    return _stored(orthanc, paint_and_store)


def _paint(page: OhifPage, labels: np.ndarray) -> None:
    """Paint over the organ's edge where it is largest."""
    k = int((labels > 0).sum(axis=(1, 2)).argmax())
    page.scroll_to(len(labels) - k)  # OHIF shows the top first
    row = int(np.flatnonzero((labels[k] > 0).any(axis=1)).max()) + 2
    columns = np.quantile(np.flatnonzero((labels[k, row - 4 : row - 2] > 0).any(axis=0)), (0.0, 0.5, 1.0))
    left, top, width, height = page.canvas()
    pixel = min(width, height) / labels.shape[1]  # the whole of the square image is shown, in the middle
    middle = (labels.shape[1] - 1) / 2
    page.paint(
        [
            (left + width / 2 + (c - middle) * pixel, top + height / 2 + (row - middle) * pixel)
            for c in columns
        ]
    )


def _stored(orthanc: Orthanc, store: Callable[[], None]) -> str:
    """Store from the viewer and return the new instance.

    A starved browser loses clicks. A reader who sees that nothing was stored opens the study again.
    """
    before = set(_viewer_s(orthanc))
    for _ in range(_STORE_TRIES):
        with suppress(TimeoutError):
            store()
            wait_until(lambda: set(_viewer_s(orthanc)) > before, "the segmentation to be stored", 90.0)
            break
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
    return [str(series.tags["SeriesDescription"]) for series in await_round(orthanc, number, _PATIENCE_S)]


def test_an_edit_stored_by_the_viewer_starts_the_next_round(
    orthanc: Orthanc, deployment: Deployment, volume: Volume, page: OhifPage
) -> None:
    study_uid = str(pydicom.dcmread(volume.slices[0].path, stop_before_pixels=True).StudyInstanceUID)
    names = _names(orthanc, 1)
    deployment.await_state("AWAITING_SELECTION")
    before = load_candidates(_round_folder(deployment, 1) / "candidates.npz")[0].labels
    instance = _paint_and_store(page, orthanc, study_uid, names[0], before)
    wait_until(lambda: deployment.case()["selections"], "the archive to forward it", _PATIENCE_S)
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
    wait_until(lambda: _notice_texts(orthanc), "the notice in the study", _PATIENCE_S)
    assert f"your edit of candidate {said['picked']} received" in _notice_texts(orthanc)[0]

    # Candidates stored as they are, under a name with one of the words.
    _store_as(page, orthanc, study_uid, second[2], "PICK")
    third = _names(orthanc, 3)
    deployment.await_state("AWAITING_SELECTION")
    received = f"{MATRIX['OHIF 3 (label map, RLE)']['pick']} received"
    wait_until(lambda: any(received in text for text in _notice_texts(orthanc)), "the notice", _PATIENCE_S)
    _store_as(page, orthanc, study_uid, third[2], "ACCEPT this one")
    case = deployment.await_state("ACCEPTED")
    assert [
        (selection["verb"], selection["round"], f"candidate {selection['picked']}")
        for selection in case["selections"][1:]
    ] == [
        ("pick", 2, MATRIX["OHIF 3 (label map, RLE)"]["pick"]),
        ("accept", 3, MATRIX["OHIF 3 (label map, RLE)"]["accept"]),
    ]
    assert sum("your edit" in text for text in _notice_texts(orthanc)) == 1


def _store_as(page: OhifPage, orthanc: Orthanc, study_uid: str, candidate: str, name: str) -> None:
    """Store a candidate as it is, under another name."""

    def store() -> None:
        page.open_study(study_uid, "segmentation")
        page.load(candidate)
        page.store_segmentation(name)

    _stored(orthanc, store)


def _round_folder(deployment: Deployment, number: int) -> Path:
    data = Path(deployment.environment["UAIR_DATA_DIR"])
    (found,) = (data / "artifacts" / "case-000001").glob(f"round-{number:02d}.*/{CANDIDATES_FILE}")
    return found.parent


def _derived_from(orthanc: Orthanc, name: str) -> str:
    (series,) = seg_series(orthanc, name)
    seg = pydicom.dcmread(io.BytesIO(orthanc.dicom(series.instances[0])))
    text = str(seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    return text.split("derived from=")[1].split(",")[0].strip("' {}\"")


def _notice_texts(orthanc: Orthanc) -> list[str]:
    series = [
        found_series
        for found_series in orthanc.series()
        if found_series.tags.get("SeriesDescription", "").startswith("UAIR NOTICES")
    ]
    instances = [orthanc.tags(instance) for found_series in series for instance in found_series.instances]
    return [
        instance["ImageComments"]
        for instance in sorted(instances, key=lambda instance: int(instance["InstanceNumber"]))
    ]
