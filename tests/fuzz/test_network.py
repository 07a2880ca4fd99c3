"""Hostile bytes on the wire: after any of them the listener still serves honest peers, and holds nothing."""

from __future__ import annotations

import random
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_config.model import NodeSection
from tests.support.ports import wait_until
from tests.support.raw_store import store_bytes
from uair_node.network.responses import KEEP_RESPONSES
from uair_node.network.scp import DicomListener
from uair_node.network.store_status import StoreStatus

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def listener() -> Iterator[DicomListener]:
    made = DicomListener(NodeSection(port=0, idle_timeout_s=1.0, max_instance_bytes=1 << 20), lambda _: None)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def association_request() -> bytes:
    """A valid A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "ROUTER", "UAIR"
    longest = MaximumLengthNotification()
    longest.maximum_length_received = 16382
    request.user_information = [longest]
    context = build_context(CTImageStorage, [ExplicitVRLittleEndian])
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    encoded: bytes = pdu.encode()
    return encoded


def hostile(valid: bytes, chooser: random.Random) -> bytes:
    data = bytearray(valid)
    for _ in range(chooser.choice((1, 2, 8))):
        at = chooser.randrange(len(data))
        kind = chooser.randrange(4)
        if kind == 0:
            data[at] = chooser.randrange(256)
        elif kind == 1:
            data[2:6] = chooser.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)).to_bytes(4, "big")
        elif kind == 2:
            del data[max(1, at) :]
        else:
            data[at:at] = chooser.randbytes(chooser.randint(1, 40))
    return bytes(data)


def test_hostile_pdus_leave_the_listener_serving(
    listener: DicomListener, request: pytest.FixtureRequest
) -> None:
    count = max(40, request.config.getoption("--inputs", 1500) // 50)
    chooser = random.Random(request.config.getoption("--fuzz-seed", 1))
    valid = association_request()
    threads = threading.active_count()
    for _ in range(count):
        with suppress(OSError), socket.create_connection(("127.0.0.1", listener.port), 2.0) as peer:
            peer.sendall(hostile(valid, chooser))
            if chooser.random() < 0.3:
                peer.sendall(chooser.randbytes(chooser.randint(1, 400)))
    wait_until(lambda: threading.active_count() <= threads + 1, "the threads of hostile peers to end", 20.0)
    assert echoes(listener)


def test_a_silent_peer_does_not_hold_the_listener(listener: DicomListener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)) as silent:
        assert echoes(listener)
        silent.settimeout(15.0)
        with suppress(ConnectionResetError):
            while silent.recv(1024):
                pass


def test_a_decompression_bomb_is_refused_unpacked(listener: DicomListener) -> None:
    """Deflated transfer syntax (PS3.5 A.5): some kilobytes that would become 256 MiB."""
    answer = store_bytes(
        listener.port,
        deflated_zeros(1 << 28),
        sop_class=CTImageStorage,
        sop_instance="2.25.1",
        syntax=DeflatedExplicitVRLittleEndian,
    )
    assert answer == (StoreStatus.CANNOT_UNDERSTAND, "instance-too-large")
    assert echoes(listener)


def deflated_zeros(count: int) -> bytes:
    """A raw deflate stream of `count` zeros, about a thousandth as long."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = bytes(1 << 20)
    return b"".join([packer.compress(block) for _ in range(count >> 20)]) + packer.flush()


def echoes(listener: DicomListener) -> bool:
    entity = AE("ROUTER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", listener.port, ae_title="UAIR", evt_handlers=[KEEP_RESPONSES])
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return bool(answer.Status == 0x0000)
