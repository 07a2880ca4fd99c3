"""Every series that is not segmented says why, where an administrator looks: `uair cases`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support.peers import Dcmtk
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from tests.support.series import HEADER_FAULTS, PIXEL_FAULTS, good_series
from uair_node.dicom.gate_codes import GATE_CODES

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = embedded(tmp_path, quick([], intake={"profiles": ["ct", "mr-t1"]}))
    made.start()
    yield made
    made.stop()


def test_each_code_is_shown_with_its_mend(deployment: Deployment, dcmtk: Dcmtk, tmp_path: Path) -> None:
    expected: dict[str, str] = {}
    for fault in (*HEADER_FAULTS, *PIXEL_FAULTS):
        if fault.name in ("broken-stream", "report"):
            continue  # storescu refuses to send the first; a report that asks nothing is not kept
        paths = fault.make(tmp_path / fault.name)
        sent = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", paths)
        assert sent.returncode == 0, f"{fault.name}: {sent.stderr}"
        expected[str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)] = fault.code
    assert set(expected.values()) == set(GATE_CODES), "every code of the gate is triggered"

    wait_until(lambda: _states(deployment) == {"REJECTED"}, "all series decided", 120.0)
    shown = json.loads(deployment.command_line("cases", "--json").stdout)
    assert {entry["series_instance_uid"]: entry["code"] for entry in shown} == expected
    assert all(entry["sentence"] and entry["remedy"] for entry in shown)
    table = deployment.command_line("cases").stdout
    assert all(code in table for code in GATE_CODES)


def test_a_missing_slice_that_arrives_in_time_completes_the_series(
    deployment: Deployment, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    paths = good_series(tmp_path / "series")
    first = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", [*paths[:6], *paths[7:]])
    assert first.returncode == 0
    wait_until(lambda: deployment.case()["code"] == "missing-slice", "what is waited for", 30.0)
    assert deployment.case()["state"] == "RECEIVING"
    assert dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", [paths[6]]).returncode == 0
    wait_until(lambda: deployment.case()["digest"] != "", "the series complete", 30.0)
    assert [step["to"] for step in deployment.case()["history"]][:2] == ["RECEIVING", "READY"]


def _states(deployment: Deployment) -> set[str]:
    return {case["state"] for case in deployment.cases()}
