"""An association's threads wait for each other: nothing is late when they wait long, and idle ones rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from dicom_config.model import NodeSection
from tests.support.peers import Dcmtk
from tests.support.series import good_series
from uair_node.network import wakeups
from uair_node.network.responses import KEEP_RESPONSES
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.network.transport import GuardedSocket

pytestmark = pytest.mark.integration

_LONG_S = 3600.0
"""Longer than a peer of these tests waits for an answer."""


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
    """Were any of them only seen when a wait is over, the peer would give up before."""
    monkeypatch.setattr(wakeups, "_MOMENT_S", _LONG_S)
    paths = good_series(tmp_path)
    assert dcmtk.echoscu("127.0.0.1", listener.port, "UAIR", "ROUTER").returncode == 0
    assert dcmtk.storescu("127.0.0.1", listener.port, "UAIR", "ROUTER", paths).returncode == 0
    assert len(received) == len(paths)


def test_an_idle_association_rests_while_another_works(
    monkeypatch: pytest.MonkeyPatch, listener: DicomListener
) -> None:
    looks: Counter[GuardedSocket] = Counter()
    look = GuardedSocket.ready.fget
    assert look is not None
    monkeypatch.setattr(
        GuardedSocket, "ready", property(lambda socket: (looks.update([socket]), look(socket))[1])
    )
    monkeypatch.setattr(wakeups, "_MOMENT_S", _LONG_S)
    idle, working = _association(listener), _association(listener)
    assert idle.send_c_echo().Status == 0x0000
    (of_idle, before), *_ = looks.items()
    for _ in range(20):
        assert working.send_c_echo().Status == 0x0000
    assert looks[of_idle] - before <= 5, "bells that rang for its own answer"
    assert looks.total() > 40, "the other one reads and answers twenty times"
    for association in (idle, working):
        association.release()


def _association(listener: DicomListener) -> Association:
    entity = AE("ROUTER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 300
    entity.add_requested_context(Verification)
    made = entity.associate("127.0.0.1", listener.port, ae_title="UAIR", evt_handlers=[KEEP_RESPONSES])
    assert made.is_established
    return made
