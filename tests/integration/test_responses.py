"""A sender gets the response of its peer, however late pynetdicom's other thread runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pynetdicom.association import Association

from dicom_config.model import Destination, NodeSection
from uair_node.network.scp import DicomListener
from uair_node.network.scu import associate

pytestmark = pytest.mark.integration

_LATE_S = 0.2


class _LatePause(threading.Event):
    """The signal on which the other thread pauses. After it, this thread runs late."""

    def wait(self, timeout: float | None = None) -> bool:
        came = super().wait(timeout)
        time.sleep(_LATE_S)
        return came


def _read_later(association: Association) -> None:
    """Let the sender look for a response only when the other thread has looked."""
    send = association.dimse.send_msg

    def send_and_pause(*arguments: Any) -> None:
        send(*arguments)
        time.sleep(5 * _LATE_S)

    association.dimse.send_msg = send_and_pause


def test_a_thread_that_runs_late_takes_no_response() -> None:
    listener = DicomListener(NodeSection(port=0), lambda _received: None)
    listener.start()
    here = Destination(name="here", ae_title="UAIR", host="127.0.0.1", port=listener.port, timeout_s=10.0)
    association = associate(here, [])
    try:
        pause = _LatePause()
        pause.set()
        association._reactor_checkpoint = pause
        _read_later(association)
        answers = [association.send_c_echo() for _ in range(3)]
    finally:
        association.release()
        listener.stop()
    assert [answer.get("Status") for answer in answers] == [0x0000] * 3
