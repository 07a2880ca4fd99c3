"""SIGKILL in the middle of work: after a restart the case completes, with four objects a round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.pacs import await_round, seg_series
from tests.support.peers import Dcmtk, Orthanc, RabbitMQ
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


def _candidates(round_: Mapping[str, Any]) -> int:
    """Count the candidates among a round's results; acknowledgements are results too."""
    return sum(result["kind"] == "candidate" for result in round_["results"])


def _kill_while(deployment: Deployment, state: str) -> None:
    """Kill what computes as soon as it holds the case, then start it again."""
    name = "gpu" if "gpu" in deployment.processes else "up"

    def computing() -> bool:
        cases = deployment.cases()
        return (
            bool(cases) and cases[0]["state"] == state and any(item["held_until"] for item in cases[0]["due"])
        )

    wait_until(computing, f"a worker that holds the case in {state}", 60.0)
    deployment.kill(name)
    assert deployment.case()["state"] == state, "killed in the middle"
    deployment.start(name)


def test_a_killed_worker_costs_nothing_but_time(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path]
) -> None:
    sent = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", phantom_series)
    assert sent.returncode == 0, sent.stderr
    _kill_while(deployment, "SEGMENTING")
    first = await_round(orthanc, 1)
    deployment.await_state("AWAITING_SELECTION")

    orthanc.store(first[1].instances[0], "UAIR_PICK")
    _kill_while(deployment, "REFINING")
    await_round(orthanc, 2)
    case = deployment.await_state("AWAITING_SELECTION")

    assert [_candidates(round_) for round_ in case["rounds"]] == [4, 4]
    assert len(seg_series(orthanc)) == 8
    assert all(len(seg.instances) == 1 for seg in seg_series(orthanc))


@pytest.mark.parametrize("deployment", ["hospital"], indirect=True)
def test_losing_the_whole_broker_loses_nothing(
    deployment: Deployment, rabbitmq: RabbitMQ, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path]
) -> None:
    """The message of due work is destroyed: the next start finds in the database what is due."""
    deployment.kill("gpu", "io")
    sent = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", phantom_series)
    assert sent.returncode == 0, sent.stderr
    deployment.await_state("READY")
    wait_until(lambda: rabbitmq.queue_depths().get("uair.gpu", 0) > 0, "a message in the queue", 30.0)
    deployment.kill("node")
    rabbitmq.ctl("purge_queue", "uair.gpu")
    deployment.start()
    await_round(orthanc, 1)
    assert _candidates(deployment.await_state("AWAITING_SELECTION")["rounds"][0]) == 4


@pytest.mark.parametrize("deployment", ["hospital"], indirect=True)
def test_a_dead_broker_stops_nothing_that_is_received(
    deployment: Deployment, rabbitmq: RabbitMQ, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path]
) -> None:
    with rabbitmq.stopped():
        sent = dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", phantom_series)
        assert sent.returncode == 0, sent.stderr
        deployment.await_state("READY")
    await_round(orthanc, 1)
