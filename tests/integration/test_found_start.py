"""Another system's segmentation in the archive: found by the rule `start`, it is the first round's start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.model import Destination, Settings
from tests.support.edited import returned, segment
from tests.support.intake import context_in, received
from tests.support.peers import Orthanc
from tests.support.ports import free_port
from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from uair_node.cases.tables import Case, Selection, SelectionOutcome, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import read_geometry
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.retrieve import segmentations
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.storage.artifacts import load_candidates
from uair_node.work.performer import perform
from workers.compute.computer import Computer
from workers.engine import Engine, EngineOptions
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.integration

NEOPLASM = Code("108369006", "SCT", "Neoplasm")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    z, y, x = SPACING
    affine = np.array([[0, 0, x, -150], [0, y, 0, -120], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    return list(write_ct_series(tmp_path / "ct", abdomen()[0], affine))


def _tumour(paths: list[Path], across: float) -> tuple[np.ndarray, np.ndarray]:
    """A liver and a tumour that the density alone would not give."""
    shape = read_geometry(paths).shape
    z, y, x = (index - size / 2 for index, size in zip(np.indices(shape), shape, strict=True))
    liver = (z / 6) ** 2 + (y / 20) ** 2 + (x / 22) ** 2 < 1
    return liver, liver & (y**2 + x**2 < across**2) & (abs(z) < 3)


def _segmentation(paths: list[Path], description: str, across: float, kind: str = "BINARY") -> Dataset:
    liver, tumour = _tumour(paths, across)
    images = [dcmread(source.path) for source in read_geometry(paths).slices]
    pixels = np.stack([liver, tumour], -1) if kind == "BINARY" else liver.astype(int) + tumour
    described = [segment(1, "Liver", codes.LIVER), segment(2, "Tumor", NEOPLASM)]
    made = returned(images, pixels.astype(np.uint8), described, kind=kind)
    made.SeriesDescription = description
    return made


def _archived(orthanc: Orthanc, document: Dataset, folder: Path) -> None:
    path = folder / "archived.dcm"
    document.save_as(path, enforce_file_format=True)
    orthanc.upload(path.read_bytes())


def _pacs(orthanc: Orthanc, protocol: str) -> dict[str, object]:
    if protocol == "dimse":
        orthanc.add_modality("uair", "UAIR", "127.0.0.1", 104)
        return {"name": "pacs", "ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    if orthanc.dicomweb_url is None:
        pytest.skip("Orthanc has no DICOMweb plugin here")
    return {"name": "pacs", "url": orthanc.dicomweb_url}


def _first_round(context: Context, paths: list[Path]) -> tuple[list[Selection], np.ndarray]:
    """Send the series, compute round 1; return what was said, and candidate 1."""
    for path in paths:
        Inbox(context).receive(received(path))
    time.sleep(0.02)
    assemble(context)
    computer = Computer(context)
    computer.__dict__["engine"] = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    assert perform(context, item_id, computer.compute)
    with context.database.transaction() as session:
        (round_,) = session.query(Case).one().rounds
        said = session.query(Selection).order_by(Selection.id).all()
        session.expunge_all()
        folder = context.store.absolute(round_.artifacts)
    return said, load_candidates(folder / CANDIDATES_FILE)[0].labels


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[Orthanc]:
    orthanc.delete_all()
    yield orthanc
    orthanc.delete_all()


@pytest.mark.parametrize(("protocol", "kind"), [("dimse", "BINARY"), ("web", "BINARY"), ("web", "LABELMAP")])
def test_round_1_starts_from_the_named_system_s_newest_segmentation(
    archive: Orthanc, paths: list[Path], tmp_path: Path, protocol: str, kind: str, database_url: str
) -> None:
    for description, across, time_ in (
        ("AI-Liver older", 3.0, "080000"),
        ("ai-liver v2", 5.0, "090000"),
        ("Another system", 7.0, "100000"),
    ):
        document = _segmentation(paths, description, across, kind)
        document.ContentDate, document.ContentTime = "20260105", time_
        _archived(archive, document, tmp_path)
    sections = {
        "destinations": [_pacs(archive, protocol)],
        "start": {"found_in": "pacs", "system": "AI-Liver"},
    }
    with context_in(tmp_path / "data", database_url, **sections) as context:
        said, first = _first_round(context, paths)
    (row,) = said
    assert (row.outcome, row.verb, row.round_number) == (SelectionOutcome.EFFECTIVE, "start", 0)
    assert row.calling_ae == (archive.aet if protocol == "dimse" else "pacs")
    liver, tumour = _tumour(paths, 5.0)
    assert ((first > 1) == tumour).all()
    assert ((first > 0) == liver).all()


def test_nothing_of_the_system_in_the_study_leaves_round_1_as_ours(
    archive: Orthanc, paths: list[Path], tmp_path: Path
) -> None:
    _archived(archive, _segmentation(paths, "Another system", 5.0), tmp_path)
    stranger = _segmentation(paths, "AI-Liver", 5.0)
    stranger.StudyInstanceUID = f"{stranger.StudyInstanceUID}.9"
    stranger.SOPInstanceUID = stranger.file_meta.MediaStorageSOPInstanceUID = "2.25.991"
    stranger.SeriesInstanceUID = "2.25.992"
    _archived(archive, stranger, tmp_path)
    sections = {
        "destinations": [_pacs(archive, "dimse")],
        "start": {"found_in": "pacs", "system": "AI-Liver"},
    }
    url = f"sqlite:///{tmp_path / 'uair.sqlite'}"
    with context_in(tmp_path / "data", url, **sections) as context:
        said, first = _first_round(context, paths)
    assert said == []
    assert (first > 0).any()


def test_another_patient_s_segmentation_is_left_out(
    archive: Orthanc, paths: list[Path], tmp_path: Path
) -> None:
    other = _segmentation(paths, "AI-Liver", 5.0)
    other.PatientID = "SOMEBODY-ELSE"
    _archived(archive, other, tmp_path)
    header = dcmread(paths[0], stop_before_pixels=True)
    pacs = Destination(**_pacs(archive, "dimse"))
    study, patient = str(header.StudyInstanceUID), str(header.PatientID)
    assert segmentations(pacs, study, patient, "AI-Liver") == []
    assert len(segmentations(pacs, study, "SOMEBODY-ELSE", "ai-liver")) == 1


def test_an_archive_that_is_away_holds_up_round_1_not_for_ever(paths: list[Path], tmp_path: Path) -> None:
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    sections = {
        "destinations": [pacs],
        "start": {"found_in": "pacs", "system": "AI-Liver"},
        "work": {"max_attempts": 1},
    }
    url = f"sqlite:///{tmp_path / 'uair.sqlite'}"
    with context_in(tmp_path / "data", url, **sections) as context:
        said, first = _first_round(context, paths)
    assert said == []
    assert (first > 0).any()


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"found_in": "pacs"}, "set both start.found_in and start.system"),
        ({"system": "AI"}, "set both start.found_in and start.system"),
        ({"found_in": "pacs", "system": "AI"}, "names no destination"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Settings(start=rule)
