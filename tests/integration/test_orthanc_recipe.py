"""dicom_config/orthanc.lua in a real Orthanc: what a reader stores goes to the right AE, all else stays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from dicom_config.model import NodeSection
from tests.support.edited import LIVER, returned
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.orthanc import Orthanc
from tests.support.peers import Dcmtk
from tests.support.ports import free_port, wait_until
from tests.support.running_node import HOST
from tests.support.selections import instance_header, key_object, measurement_report, new_uid
from tests.support.series import good_series
from uair_node.cases.tables import ResultKind, WorkKind
from uair_node.network.scp import DicomListener, ReceivedInstance

pytestmark = pytest.mark.integration


class Node:
    """The node's listener, keeping what it gets: AE title called and SOP Instance UID."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.listener = DicomListener(NodeSection(host=HOST, port=free_port()), self._keep)
        self.listener.start()

    def _keep(self, received: ReceivedInstance) -> None:
        self.got.append((received.verb.value, received.sop_instance_uid))


@pytest.fixture
def node(orthanc: Orthanc) -> Iterator[Node]:
    made = Node()
    orthanc.delete_all()
    for title in ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT"):
        orthanc.add_modality(title, title, HOST, made.listener.port)
    yield made
    made.listener.stop()


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        made.work(WorkKind.PAGES)
        yield made


def _put(orthanc: Orthanc, document: Dataset) -> str:
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    orthanc.upload(buffer.getvalue())
    return str(document.SOPInstanceUID)


def _edited(paths: list[Path], **attributes: str) -> Dataset:
    seg = returned([dcmread(path) for path in paths], (candidate_labels(2) > 0).astype("u1"), [LIVER])
    for keyword, value in attributes.items():
        setattr(seg, keyword, value)
    return seg


def test_what_readers_store_is_forwarded_by_its_verb_and_nothing_else(
    orthanc: Orthanc, dcmtk: Dcmtk, node: Node, offered: OfferedCase, tmp_path: Path
) -> None:
    for path in offered.paths:
        orthanc.upload(path.read_bytes())
    too_early = _edited(offered.paths)
    _put(orthanc, too_early)
    own = [*offered.results(ResultKind.CANDIDATE), *offered.results(ResultKind.PAGE)]
    sent = dcmtk.storescu(
        HOST, orthanc.dicom_port, orthanc.aet, "UAIR", [offered.path(entry) for entry in own]
    )
    assert sent.returncode == 0, sent.stderr
    candidate, page = offered.candidate(3), dcmread(offered.path(own[-1]))

    # None of these is a selection.
    slice_ = dcmread(offered.paths[0])
    _put(orthanc, key_object([slice_]))
    _put(orthanc, key_object([candidate], codes.DCM.RejectedForQualityReasons))
    _put(orthanc, measurement_report(candidate, slice_))
    elsewhere = good_series(tmp_path / "elsewhere", study_instance_uid=new_uid())
    _put(orthanc, _edited(elsewhere))
    _put(orthanc, key_object([instance_header(patient_id="PHANTOM-1")]))
    tagged_elsewhere = key_object([instance_header()])
    tagged_elsewhere.SeriesDescription = "PICK"
    _put(orthanc, tagged_elsewhere)

    # Each of these is.
    expected = {
        ("pick", _put(orthanc, _edited(offered.paths))),
        ("accept", _put(orthanc, _edited(offered.paths, SeriesDescription="done: accept"))),
        ("reject", _put(orthanc, _edited(offered.paths, ContentLabel="REJECT"))),
        ("pick", _put(orthanc, key_object([candidate]))),
        ("pick", _put(orthanc, key_object([page]))),
    }
    report = measurement_report(candidate, slice_)
    report.SeriesDescription = "Pick"
    expected.add(("pick", _put(orthanc, report)))
    renamed = offered.candidate(2)
    renamed.SOPInstanceUID = renamed.file_meta.MediaStorageSOPInstanceUID = new_uid()
    renamed.SeriesDescription = "UAIR R1C2 ACCEPT"
    expected.add(("accept", _put(orthanc, renamed)))
    wait_until(lambda: len(node.got) >= len(expected), "what was forwarded", 60.0)
    assert set(node.got) == expected
    assert len(node.got) == len(expected)
