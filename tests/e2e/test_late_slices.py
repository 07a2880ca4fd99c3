"""Slices that arrive after the candidates did: a new case, and a note that withdraws what the archive got."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_config import codes
from tests.support.pacs import await_pages, await_round, seg_series
from tests.support.peers import Dcmtk, Orthanc, OrthancSeries
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment
from uair_node.dicom.readers import read_selection

pytestmark = pytest.mark.integration


def _push(dcmtk: Dcmtk, deployment: Deployment, paths: list[Path]) -> None:
    sent = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", paths)
    assert sent.returncode == 0, sent.stderr


def _notes(orthanc: Orthanc) -> list[OrthancSeries]:
    return [found_series for found_series in orthanc.series() if found_series.modality == "KO"]


def _uids(orthanc: Orthanc, instances: list[str]) -> set[str]:
    return {str(orthanc.tags(instance)["SOPInstanceUID"]) for instance in instances}


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_late_slices_withdraw_what_was_sent_and_run_a_new_case(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path]
) -> None:
    _push(dcmtk, deployment, phantom_series[:-2])
    first = await_round(orthanc, 1, 300.0)
    pages = await_pages(orthanc, 1, 120.0)
    sent = _uids(orthanc, [*pages, *(series.instances[0] for series in first)])

    _push(dcmtk, deployment, phantom_series[-2:])
    wait_until(lambda: len(_notes(orthanc)) == 1, "the rejection note in the PACS", 120.0)
    (note,) = _notes(orthanc)
    document = dcmread(BytesIO(orthanc.dicom(note.instances[0])))
    reading = read_selection(document)
    assert reading.title == codes.REJECTED_FOR_QUALITY
    assert sent <= set(reading.references) <= _uids(orthanc, orthanc.instances()), "findings' pages, too"
    older, newer = deployment.cases()
    assert (older["state"], older["code"]) == ("SUPERSEDED", "superseded")
    assert newer["slices"] == len(phantom_series)

    wait_until(lambda: len(seg_series(orthanc, "UAIR R1C")) == 8, "four other candidates", 300.0)
    # A pick of what was withdrawn is refused with its reason; one of the new case's counts.
    orthanc.store(first[0].instances[0], "UAIR_PICK")
    wait_until(lambda: len(deployment.cases()[0]["selections"]) == 1, "a selection", 60.0)
    assert deployment.cases()[0]["selections"][0]["code"] == "case-closed"
    assert deployment.cases()[1]["selections"] == []
