"""Hard senders: bursts, huge and interleaved series, and peers that break off or are slow or endless."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicom_config.model import NodeSection
from tests.support.intake import context_in
from tests.support.peers import Dcmtk
from tests.support.ports import wait_until
from tests.support.series import affine_of, good_series, noise_hu
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.responses import KEEP_RESPONSES
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.network.store_status import StoreStatus
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.integration


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as made:
        yield made


@contextmanager
def receiving(context: Context, **limits: object) -> Iterator[DicomListener]:
    """The listener with the real inbox behind it."""
    inbox = Inbox(context)
    listener = DicomListener(NodeSection(port=0, **limits), inbox.receive)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def association(port: int) -> Association:
    entity = AE("ROUTER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 180
    entity.add_requested_context(CTImageStorage)
    made = entity.associate("127.0.0.1", port, ae_title="UAIR", evt_handlers=[KEEP_RESPONSES])
    assert made.is_established
    return made


def push(port: int, datasets: Sequence[Dataset]) -> list[int]:
    """Send data sets over one association; return their statuses."""
    sending = association(port)
    try:
        return [int(sending.send_c_store(dataset).Status) for dataset in datasets]
    finally:
        sending.release()


def drip_until_closed(connection: socket.socket) -> bool:
    """Send a byte now and then, as long as the other side lets us; return whether it closed."""
    with suppress(OSError):
        for _ in range(2000):
            connection.sendall(b"x")
            time.sleep(0.1)
        return False
    return True


def kept(context: Context) -> dict[str, str]:
    """UID and path of every stored instance; each is on disk as its row says."""
    with context.database.transaction() as session:
        rows = session.query(Instance).filter_by(status=InstanceStatus.STORED).all()
    found = {}
    for row in rows:
        content = context.store.absolute(row.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row.sha256
        found[row.sop_instance_uid] = row.path
    assert len(found) == len(rows)
    return found


def cases(context: Context) -> list[Case]:
    with context.database.transaction() as session:
        return list(session.query(Case).order_by(Case.id))


def assembled(context: Context) -> list[Case]:
    time.sleep(0.05)
    assemble(context)
    return cases(context)


def test_200_associations_of_one_instance_in_a_burst(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The senders share this process with the listener: each waits longer for its turn than a peer would.
    # 80 at a time: the listener closes what an address opens beyond 100.
    monkeypatch.setattr("uair_node.network.transport._REQUEST_S", 180.0)
    paths = write_ct_series(tmp_path / "ct", noise_hu((200, 16, 16)), affine_of(spacing_mm=(1.0, 0.8, 0.8)))
    datasets = [dcmread(path) for path in paths]
    random.Random(0).shuffle(datasets)
    with receiving(context, wait_s=180, idle_timeout_s=180) as listener, ThreadPoolExecutor(80) as pool:
        answered = list(pool.map(lambda dataset: push(listener.port, [dataset]), datasets))
    assert answered == [[0x0000]] * 200
    assert set(kept(context)) == {str(dataset.SOPInstanceUID) for dataset in datasets}
    (case,) = assembled(context)
    assert (case.state, case.instance_count) == (CaseState.READY, 200)


def test_a_series_of_600_slices(context: Context, dcmtk: Dcmtk, tmp_path: Path) -> None:
    hu = np.broadcast_to(noise_hu((1, 16, 16)), (600, 16, 16))
    paths = write_ct_series(tmp_path / "ct", hu, affine_of(spacing_mm=(1.0, 0.8, 0.8)))
    with receiving(context) as listener:
        done = dcmtk.storescu("127.0.0.1", listener.port, "UAIR", "ROUTER", [tmp_path / "ct"])
    assert done.returncode == 0, done.stderr
    assert len(kept(context)) == len(paths) == 600
    (case,) = assembled(context)
    assert (case.state, case.instance_count) == (CaseState.READY, 600)


def test_interleaved_series_and_studies_become_a_case_each(context: Context, tmp_path: Path) -> None:
    series = [
        write_ct_series(tmp_path / f"{n}", noise_hu((12, 16, 16), n), affine_of(), study_instance_uid=study)
        for n, study in enumerate(["2.25.1", "2.25.1", "2.25.2"])
    ]
    mixed = [dcmread(path) for together in zip(*series, strict=True) for path in together]
    with receiving(context) as listener, ThreadPoolExecutor(2) as pool:
        halves = [pool.submit(push, listener.port, half) for half in (mixed[::2], mixed[1::2])]
        assert {status for halve in halves for status in halve.result()} == {0x0000}
    found = assembled(context)
    assert [(case.state, case.instance_count) for case in found] == [(CaseState.READY, 12)] * 3
    assert len({case.series_instance_uid for case in found}) == 3
    assert {case.study_instance_uid for case in found} == {"2.25.1", "2.25.2"}


def test_a_sender_that_aborts_and_sends_everything_again(context: Context, tmp_path: Path) -> None:
    datasets = [dcmread(path) for path in good_series(tmp_path / "ct")]
    with receiving(context) as listener:
        first = association(listener.port)
        for dataset in datasets[:7]:
            assert first.send_c_store(dataset).Status == 0x0000
        first.abort()
        early = assembled(context)
        assert [case.state for case in early] == [CaseState.RECEIVING], "it may still be completed"
        assert set(push(listener.port, datasets)) == {0x0000}
    assert len(kept(context)) == len(datasets)
    (case,) = assembled(context)
    assert (case.state, case.instance_count) == (CaseState.READY, len(datasets))


def test_a_sender_that_dies_within_an_instance_leaves_nothing_half(context: Context, tmp_path: Path) -> None:
    datasets = [dcmread(path) for path in good_series(tmp_path / "ct")]
    with receiving(context) as listener:
        dying = association(listener.port)
        assert dying.send_c_store(datasets[0]).Status == 0x0000
        # A P-DATA-TF that announces 1000 bytes of a data set, of which 100 come.
        dying.dul.socket.socket.sendall(struct.pack(">BBLLBB", 4, 0, 1006, 1002, 1, 0) + bytes(100))
        dying.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        assert set(push(listener.port, datasets)) == {0x0000}
    assert len(kept(context)) == len(datasets)
    assert not list(context.store.spool.rglob("*.part"))


@pytest.mark.parametrize("slow", [False, True], ids=["silent", "drip"])
def test_a_peer_that_stops_within_a_pdu_is_let_go(context: Context, tmp_path: Path, slow: bool) -> None:
    dataset = dcmread(good_series(tmp_path / "ct")[0])
    limits = {"max_associations": 1, "wait_s": 60, "idle_timeout_s": 0.5, "association_timeout_s": 1.5}
    with receiving(context, **limits) as listener:
        held = association(listener.port)
        connection = held.dul.socket.socket
        connection.sendall(struct.pack(">BBL", 4, 0, 5000))
        if slow:
            assert drip_until_closed(connection)
        assert push(listener.port, [dataset]) == [0x0000], "it gets the one place while it waits"
        held.abort()


def test_many_silent_connections_keep_nobody_out(context: Context, tmp_path: Path) -> None:
    dataset = dcmread(good_series(tmp_path / "ct")[0])
    with receiving(context, max_associations=1, wait_s=0) as listener:
        silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(30)]
        silent[0].sendall(b"\x01\x00\x00")
        assert push(listener.port, [dataset]) == [0x0000]
        for peer in silent:
            peer.close()


def test_an_endless_pdu_is_not_read(context: Context) -> None:
    with receiving(context) as listener, socket.create_connection(("127.0.0.1", listener.port)) as endless:
        endless.settimeout(30)
        endless.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF))
        assert endless.recv(1) == b""


def test_an_endless_instance_is_not_collected(context: Context) -> None:
    limit = 1 << 20
    with receiving(context, max_instance_bytes=limit) as listener:
        sending = association(listener.port)
        connection = sending.dul.socket.socket
        fragment = struct.pack(">BBLLBB", 4, 0, 65542, 65538, 1, 0) + bytes(65536)
        sent = 0
        with suppress(OSError):
            while sent < 40 * limit:
                connection.sendall(fragment)
                sent += len(fragment)
        assert sent < 20 * limit, "what is beyond twice the limit was at most in the network's buffers"
        sending.abort()


def test_an_instance_beyond_the_bytes_in_flight_is_answered_a700_and_taken_when_it_comes_again(
    context: Context, tmp_path: Path
) -> None:
    first, second, third = (dcmread(path) for path in good_series(tmp_path)[:3])
    inbox, serving, go_on = Inbox(context), threading.Event(), threading.Event()

    def slow(received: ReceivedInstance) -> StoreStatus | None:
        serving.set()
        assert go_on.wait(60)
        return inbox.receive(received)

    listener = DicomListener(NodeSection(port=0, in_flight_bytes=len(first.PixelData)), slow)
    listener.start()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(push, listener.port, [first])
        assert serving.wait(60)
        go_on_later = association(listener.port)
        answer = go_on_later.send_c_store(second)
        assert (answer.Status, answer.ErrorComment) == (0xA700, "receive-budget")
        go_on.set()
        assert held.result() == [0x0000]
        assert go_on_later.send_c_store(second).Status == 0x0000
        assert go_on_later.send_c_store(third).Status == 0x0000  # what was served counts no more
        go_on_later.release()
    listener.stop()
    assert set(kept(context)) == {str(each.SOPInstanceUID) for each in (first, second, third)}


def test_routers_that_send_at_once_with_a_small_budget_deliver_all_after_retries(
    context: Context, tmp_path: Path
) -> None:
    series = [write_ct_series(tmp_path / f"{n}", noise_hu((12, 64, 64), n), affine_of()) for n in range(4)]

    def send(paths: Sequence[Path]) -> None:
        waiting = [dcmread(path) for path in paths]
        while waiting:
            statuses = push(listener.port, waiting)
            assert set(statuses) <= {0x0000, 0xA700}
            waiting = [each for each, status in zip(waiting, statuses, strict=True) if status]

    size = series[0][0].stat().st_size
    with receiving(context, in_flight_bytes=size + size // 2) as listener, ThreadPoolExecutor(4) as pool:
        list(pool.map(send, series))
    assert set(kept(context)) == {str(dcmread(path).SOPInstanceUID) for paths in series for path in paths}


def test_pdus_of_the_announced_size_are_sent(context: Context, tmp_path: Path) -> None:
    announced = []
    entity = AE("ROUTER")
    entity.add_requested_context(CTImageStorage)
    with receiving(context, max_pdu_bytes=32768) as listener:
        handlers = [(evt.EVT_ACCEPTED, lambda event: announced.append(event.assoc.acceptor.maximum_length))]
        made = entity.associate("127.0.0.1", listener.port, ae_title="UAIR", evt_handlers=handlers)
        made.release()
    assert announced == [32768]


def test_another_application_context_is_rejected_for_that_reason(context: Context) -> None:
    with receiving(context) as listener:
        made = association(listener.port)
        request = A_ASSOCIATE_RQ()
        request.from_primitive(made.requestor.primitive)
        made.release()
        with socket.create_connection(("127.0.0.1", listener.port)) as raw:
            raw.settimeout(30)
            raw.sendall(request.encode().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"))
            answer = raw.recv(10)
    assert answer[0] == 3, "A-ASSOCIATE-RJ"
    assert tuple(answer[7:10]) == (1, 1, 2)


def test_nothing_of_an_association_stays_behind(context: Context, tmp_path: Path) -> None:
    dataset = dcmread(good_series(tmp_path / "ct")[0])
    with receiving(context) as listener:
        for _ in range(5):
            push(listener.port, [dataset])
        server = listener._server
        assert server is not None
        wait_until(lambda: not server.active_associations, "the associations' threads to end")
