"""dcmjs-dimse sends a series and an answer to our listener, and receives what we deliver."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from dicom_config.model import Destination, NodeSection
from tests.support.dcmjs_dimse import dcmjs_receiver, echo_and_store
from tests.support.intake import context_in
from tests.support.offered import OfferedCase, offered_case
from tests.support.outbox import run_delivery, states
from tests.support.series import good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, SelectionOutcome, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import read_series
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.scp import DicomListener

pytestmark = pytest.mark.integration

PACS = {"name": "pacs", "ae_title": "DCMJS", "host": "127.0.0.1", "port": 1}


def _sent(context: Context, called: str, paths: list[Path], folder: Path) -> list[int]:
    listener = DicomListener(NodeSection(port=0), Inbox(context).receive)
    listener.start()
    try:
        return echo_and_store(listener.port, called, paths, folder)
    finally:
        listener.stop()


def test_a_series_that_it_sends_becomes_a_case(tmp_path: Path, database_url: str) -> None:
    paths = good_series(tmp_path / "ct")
    with context_in(tmp_path / "data", database_url) as context:
        assert _sent(context, "UAIR", paths, tmp_path) == [0] * (1 + len(paths))
        time.sleep(0.02)  # the quiet period of these tests
        assemble(context)
        with context.database.transaction() as session:
            case = session.query(Case).one()
            assert (case.state, case.instance_count) == (CaseState.READY, len(paths))
            kept = [context.store.absolute(instance.path) for instance in case.instances]
        np.testing.assert_array_equal(read_series(kept).array, read_series(paths).array)


def test_a_candidate_that_it_sends_is_a_pick(tmp_path: Path) -> None:
    """In implicit VR, to which it would otherwise convert; it cannot convert pixels of one bit."""
    with offered_case(tmp_path) as offered:
        path = tmp_path / "picked.dcm"
        candidate = offered.candidate(3)
        candidate.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        candidate.save_as(path, enforce_file_format=True)
        assert _sent(offered.context, "UAIR_PICK", [path], tmp_path) == [0, 0]
        (row,) = offered.selections()
    assert (row.outcome, row.answer.words) == (SelectionOutcome.EFFECTIVE, "candidate 3")


def test_it_receives_what_we_deliver(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[PACS]) as offered, dcmjs_receiver(tmp_path) as receiver:
        offered.work(WorkKind.PAGES)
        run_delivery(offered.context, Destination(**PACS | {"port": receiver.port}))
        assert set(states(offered.context)) <= {DeliveryState.STORED, DeliveryState.CONFIRMED}
        written = _delivered(offered)
        received = {path.stem: dcmread(path) for path in receiver.received.iterdir()}
    assert received.keys() == written.keys()
    for uid, path in written.items():
        ours = dcmread(path)
        assert received[uid].PixelData == ours.PixelData
        assert received[uid].SeriesDescription == ours.SeriesDescription
        assert [element.tag for element in received[uid]] == [element.tag for element in ours]


def _delivered(offered: OfferedCase) -> dict[str, Path]:
    with offered.context.database.transaction() as session:
        results = session.query(Result).join(Delivery).all()
        return {result.sop_instance_uid: offered.path(result) for result in results}
