"""The whole loop with real peers: DCMTK sends, Orthanc stores and sends back, the case ends accepted."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread

from tests.support.iods import iod_errors
from tests.support.modes import open_to_others
from tests.support.pacs import await_round, instance_ids, seg_series
from tests.support.peers import Dcmtk, Orthanc, OrthancSeries
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment
from uair_node.dicom.readers import read_selection

pytestmark = pytest.mark.integration


def _push(dcmtk: Dcmtk, deployment: Deployment, called: str, paths: list[Path]) -> None:
    sent = dcmtk.storescu(HOST, deployment.port, called, "ROUTER", paths)
    assert sent.returncode == 0, sent.stderr


def test_three_rounds_from_router_to_accepted(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    _push(dcmtk, deployment, "UAIR", phantom_series)
    first = await_round(orthanc, 1)
    assert [str(series.tags["SeriesDescription"])[:9] for series in first] == [
        f"UAIR R1C{k}" for k in (1, 2, 3, 4)
    ]
    _check_objects(orthanc, first, tmp_path)

    # A PACS that forwards everything sends our own objects back to us: that starts nothing.
    deployment.await_state("AWAITING_SELECTION")
    orthanc.store(instance_ids(first), "UAIR")
    assert deployment.case()["state"] == "AWAITING_SELECTION"
    assert deployment.case()["selections"] == []

    orthanc.store(first[2].instances[0], "UAIR_PICK")
    second = await_round(orthanc, 2)
    assert deployment.await_state("AWAITING_SELECTION")["round"] == 2
    orthanc.store(second[0].instances[0], "UAIR_ACCEPT")
    case = deployment.await_state("ACCEPTED")
    wait_until(lambda: len(seg_series(orthanc, "UAIR FINAL")) == 1, "the final segmentation in the PACS")
    assert len(seg_series(orthanc)) == 9
    _check_report(orthanc, tmp_path)
    _check_withdrawal(orthanc, tmp_path)

    assert [
        (selection["verb"], selection["picked"], selection["outcome"]) for selection in case["selections"]
    ] == [
        ("pick", 3, "effective"),
        ("accept", 1, "effective"),
    ]
    assert [step["to"] for step in case["history"]] == [
        "RECEIVING",
        "READY",
        "SEGMENTING",
        "AWAITING_SELECTION",
        "REFINING",
        "AWAITING_SELECTION",
        "ACCEPTED",
    ]
    _check_no_patient_data(deployment)
    _check_export(deployment, tmp_path)
    assert open_to_others(tmp_path / "data") == []


def _check_export(deployment: Deployment, tmp_path: Path) -> None:
    """Check that a support export holds the whole case, and in no byte a name, number, date or UID of it."""
    target = tmp_path / "case.zip"
    done = deployment.command_line("export", "case", "1", "--output", str(target))
    assert done.returncode == 0, done.stderr
    case = deployment.case()
    of_results = [result["sop_instance_uid"] for round_ in case["rounds"] for result in round_["results"]]
    uids = [case["series_instance_uid"], case["study_instance_uid"], *of_results]
    secrets = [b"PHANTOM", b"LIVER^", b"20260105", b"093000", *(uid.encode() for uid in uids)]
    with ZipFile(target) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    arrays = [ZipFile(BytesIO(content)) for name, content in contents.items() if name.endswith(".npz")]
    inside = [file.read(name) for file in arrays for name in file.namelist()]
    assert len(arrays) == 6
    found = {name for name, content in contents.items() if any(secret in content for secret in secrets)}
    assert not found
    assert not any(secret in text for text in inside for secret in secrets)
    segs = [name for name in contents if "candidate-" in name or "final-" in name]
    assert len(segs) == 9
    (series,) = dcmread(BytesIO(contents[segs[0]])).ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    slices = {
        dcmread(BytesIO(content)).SOPInstanceUID for name, content in contents.items() if "series/" in name
    }
    assert named == slices, "segmentations still name the slices that are beside them"
    assert json.loads(contents["case.json"])["state"] == "ACCEPTED"


def _check_objects(orthanc: Orthanc, series: list[OrthancSeries], tmp_path: Path) -> None:
    masks = []
    for found_series in series:
        (instance,) = found_series.instances
        path = tmp_path / f"{found_series.id}.dcm"
        path.write_bytes(orthanc.dicom(instance))
        assert iod_errors(path, "Segmentation") == []
        seg = segread(path)
        masks.append((seg.NumberOfFrames, seg.PixelData))
        assert np.frombuffer(seg.PixelData, np.uint8).any(), "no candidate is empty"
    assert len(set(masks)) == 4, "four candidates are four different segmentations"


def _check_withdrawal(orthanc: Orthanc, tmp_path: Path) -> None:
    """The archive gets a rejection note that names all eight candidates, and not the final object."""

    def notes() -> list[OrthancSeries]:
        return [found_series for found_series in orthanc.series() if found_series.modality == "KO"]

    wait_until(lambda: len(notes()) == 1, "the rejection note in the PACS")
    path = tmp_path / "note.dcm"
    path.write_bytes(orthanc.dicom(notes()[0].instances[0]))
    candidates = [seg for n in (1, 2) for seg in seg_series(orthanc, f"UAIR R{n}C")]
    uids = {orthanc.tags(candidate.instances[0])["SOPInstanceUID"] for candidate in candidates}
    named = set(read_selection(dcmread(path)).references)
    assert len(uids) == 8
    assert uids <= named
    final = {orthanc.tags(seg.instances[0])["SOPInstanceUID"] for seg in seg_series(orthanc, "UAIR FINAL")}
    assert not final & named


def _check_report(orthanc: Orthanc, tmp_path: Path) -> None:
    """The report of the accepted case arrives, is valid, and names the final segmentation."""

    def reports() -> list[OrthancSeries]:
        return [found_series for found_series in orthanc.series() if found_series.modality == "SR"]

    wait_until(lambda: len(reports()) == 1, "the report in the PACS")
    path = tmp_path / "report.dcm"
    path.write_bytes(orthanc.dicom(reports()[0].instances[0]))
    assert iod_errors(path, "Comprehensive3DSR") == []
    (final,) = seg_series(orthanc, "UAIR FINAL")
    assert orthanc.tags(final.instances[0])["SOPInstanceUID"] in read_selection(dcmread(path)).references


def _check_no_patient_data(deployment: Deployment) -> None:
    text = deployment.log.read_text("utf-8", "replace")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    bound = {(line.get("case"), line.get("round"), line.get("work")) for line in lines}
    assert {(1, 1, "compute"), (1, 2, "publish"), (1, 2, "finish")} <= bound
    waiting = {f"the worker waits for tasks from {queue}" for queue in ("uair.gpu", "uair.io")}
    assert waiting <= {line["message"] for line in lines}
    ports = [deployment.monitoring_port + offset for offset in (0, 1, 2)]
    metrics = [urlopen(f"http://{HOST}:{port}/metrics", timeout=20).read().decode() for port in ports]
    assert 'uair_cases{code="",state="ACCEPTED"} 1.0' in metrics[0]
    assert all("uair_worker_process" in metric for metric in metrics[1:])
    uid = deployment.case()["series_instance_uid"]
    for secret in ("PHANTOM", "LIVER^", "PHANTOM-1", uid):
        assert not any(secret in entry for entry in (text, *metrics))


def test_none_fits_brings_four_others(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path]
) -> None:
    _push(dcmtk, deployment, "UAIR", phantom_series)
    first = await_round(orthanc, 1)
    deployment.await_state("AWAITING_SELECTION")
    orthanc.store(first[0].instances[0], "UAIR_REJECT")
    second = await_round(orthanc, 2)
    assert not {_pixels(orthanc, series) for series in first} & {
        _pixels(orthanc, series) for series in second
    }


def _pixels(orthanc: Orthanc, series: OrthancSeries) -> bytes:
    return bytes(dcmread(BytesIO(orthanc.dicom(series.instances[0]))).PixelData)
