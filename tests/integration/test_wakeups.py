"""An association's threads wait for each other: nothing is late when they wait long, and idle ones rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_config.model import NodeSection
from tests.support.peers import Dcmtk
from tests.support.series import good_series
from uair_node.network import wakeups
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.network.transport import GuardedSocket

pytestmark = pytest.mark.integration

_LONG_S = 30.0


@pytest.fixture
def received() -> list[ReceivedInstance]:
    return []


@pytest.fixture
def listener(received: list[ReceivedInstance]) -> Iterator[DicomListener]:
    made = DicomListener(NodeSection(port=0), received.append)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_requests_answers_and_the_end_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    dcmtk: Dcmtk,
    listener: DicomListener,
    received: list[ReceivedInstance],
    tmp_path: Path,
) -> None:
    """Were any of them only seen when a wait is over, this would take half a minute for each."""
    monkeypatch.setattr(wakeups, "_MOMENT_S", _LONG_S)
    paths = good_series(tmp_path)
    started = time.monotonic()
    assert dcmtk.echoscu("127.0.0.1", listener.port, "UAIR", "ROUTER").returncode == 0
    assert dcmtk.storescu("127.0.0.1", listener.port, "UAIR", "ROUTER", paths).returncode == 0
    assert time.monotonic() - started < _LONG_S
    assert len(received) == len(paths)


def test_an_idle_association_rests(monkeypatch: pytest.MonkeyPatch, listener: DicomListener) -> None:
    looks: list[float] = []
    look = GuardedSocket.ready.fget
    assert look is not None
    monkeypatch.setattr(
        GuardedSocket, "ready", property(lambda socket: (looks.append(time.monotonic()), look(socket))[1])
    )
    entity = AE("ROUTER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", listener.port, ae_title="UAIR")
    assert association.is_established
    time.sleep(0.1)
    looks.clear()
    time.sleep(1.0)
    assert len(looks) <= 1.0 / wakeups._MOMENT_S + 5
    assert association.send_c_echo().Status == 0x0000
    association.release()
