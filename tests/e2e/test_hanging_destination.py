"""Two destinations, one of which hangs in mid-association: the other one has everything meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pacs import await_pages, await_round
from tests.support.peers import Dcmtk, Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from tests.support.scripted import HANG, scripted_peer

pytestmark = pytest.mark.integration

_PATIENCE_S = 600.0


def test_a_destination_that_hangs_delays_only_itself(
    dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    orthanc.delete_all()
    with scripted_peer([HANG]) as hanging:
        peers = [
            {"name": "hanging", "ae_title": "PACS", "host": HOST, "port": hanging.port},
            {"name": "good", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port},
        ]
        settings = quick([peer | {"timeout_s": _PATIENCE_S} for peer in peers])
        made = embedded(tmp_path, {**settings, "engine": {"members": 8, "max_lesions": 0}})
        made.start()
        try:
            assert dcmtk.storescu(HOST, made.port, "UAIR", "ROUTER", phantom_series).returncode == 0
            await_round(orthanc, 1)
            await_pages(orthanc, 1)
            made.await_state("AWAITING_SELECTION")
            wait_until(lambda: _states(made, "good") == {"confirmed"}, "all to be with the good one")
            assert _states(made, "hanging") == {"pending"}
            # All of this while the first instance for the other one waits for its answer.
            assert (hanging.associations, len(hanging.received)) == (1, 1)
        finally:
            hanging.over.set()
            made.stop()


def _states(made: Deployment, destination: str) -> set[str]:
    """Return the states of the first round's deliveries to a destination."""
    results = made.case()["rounds"][0]["results"]
    return {
        delivery["state"]
        for result in results
        for delivery in result["deliveries"]
        if delivery["destination"] == destination
    }
