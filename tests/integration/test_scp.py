"""The listener against DCMTK's clients: who gets in, what is kept, what is answered when keeping fails."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Never

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLosslessSV1, MRImageStorage, RLELossless
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dicom_config.errors import ConfigError, InputError, ResourceError, TransientError, UairError
from dicom_config.model import AllowRule, NodeSection, Verb
from tests.support.peers import Dcmtk
from tests.support.selections import instance_header
from tests.support.series import affine_of, compress, edit_all, good_series, noise_hu
from tests.support.server import need
from uair_node.dicom.volume import read_series
from uair_node.network.listener_metrics import ListenerMetrics
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.network.store_status import StoreStatus, store_status
from uair_node.storage.spool import Spool
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.integration

CALLED_AE = {
    Verb.STORE: "UAIR",
    Verb.PICK: "UAIR_PICK",
    Verb.ACCEPT: "UAIR_ACCEPT",
    Verb.REJECT: "UAIR_REJECT",
}


@contextmanager
def listening(handler: Callable[..., Any], **settings: Any) -> Iterator[DicomListener]:
    listener = DicomListener(NodeSection(port=0, **settings), handler)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def nothing(received: ReceivedInstance) -> None:
    return None


def store(
    dcmtk: Dcmtk,
    listener: DicomListener,
    paths: Sequence[Path],
    called: str = "UAIR",
    calling: str = "MODALITY",
    extra: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    return dcmtk.storescu("127.0.0.1", listener.port, called, calling, paths, ("--verbose", *extra))


def echo(
    dcmtk: Dcmtk, listener: DicomListener, called: str = "UAIR", calling: str = "MODALITY"
) -> subprocess.CompletedProcess[str]:
    return dcmtk.echoscu("127.0.0.1", listener.port, called, calling)


def statuses(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the C-STORE statuses that storescu saw, as it names them."""
    return re.findall(r"Received Store Response \((.*)\)", result.stdout + result.stderr)


def said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


@pytest.mark.parametrize("called", CALLED_AE.values())
def test_echo_is_answered_under_every_ae_title(dcmtk: Dcmtk, called: str) -> None:
    with listening(nothing) as listener:
        assert echo(dcmtk, listener, called).returncode == 0


def test_unknown_called_ae_title_is_rejected_for_that_reason(dcmtk: Dcmtk) -> None:
    with listening(nothing) as listener:
        result = echo(dcmtk, listener, "NOBODY")
    assert result.returncode != 0
    assert "Rejected Permanent, Source: Service User" in said(result)
    assert "Called AE Title Not Recognized" in said(result)


def test_calling_ae_is_admitted_verb_by_verb(dcmtk: Dcmtk) -> None:
    rules = (
        AllowRule(verbs={Verb.STORE}, calling_ae=("ROUTER",)),
        AllowRule(verbs={Verb.PICK, Verb.ACCEPT}, calling_ae=("VIEWER",)),
    )
    with listening(nothing, allow=rules) as listener:
        admitted = {
            (calling, verb)
            for calling in ("ROUTER", "VIEWER", "STRANGER")
            for verb, called in CALLED_AE.items()
            if echo(dcmtk, listener, called, calling).returncode == 0
        }
        refused = echo(dcmtk, listener, "UAIR", "STRANGER")
    assert admitted == {("ROUTER", Verb.STORE), ("VIEWER", Verb.PICK), ("VIEWER", Verb.ACCEPT)}
    assert "Calling AE Title Not Recognized" in said(refused)


@pytest.mark.parametrize(("extra", "aborted"), [((), False), (("--abort",), True)])
def test_the_end_of_an_association_is_told_with_how_it_ended(
    dcmtk: Dcmtk, tmp_path: Path, extra: Sequence[str], aborted: bool
) -> None:
    received, ended, told = [], [], threading.Event()

    def note(association: object, was_aborted: bool) -> None:
        ended.append((association, was_aborted))
        told.set()

    listener = DicomListener(NodeSection(port=0), received.append, end_handler=note)
    listener.start()
    store(dcmtk, listener, good_series(tmp_path)[:2], extra=extra)
    assert told.wait(30)
    listener.stop()
    assert len(received) == 2
    assert ended == [(received[0].association, aborted)]


@contextmanager
def counting(**settings: Any) -> Iterator[tuple[DicomListener, Callable[[str], float | None]]]:
    metrics = ListenerMetrics()
    listener = DicomListener(NodeSection(port=0, **settings), nothing, metrics=metrics)
    listener.start()
    try:
        yield (
            listener,
            lambda why: metrics.registry.get_sample_value("uair_associations_total", {"outcome": why}),
        )
    finally:
        listener.stop()


def test_an_address_that_no_rule_admits_costs_no_thread_and_is_counted(
    dcmtk: Dcmtk, caplog: pytest.LogCaptureFixture
) -> None:
    with counting(allow=(AllowRule(networks=("192.0.2.0/24",)),)) as (listener, closed):
        before = threading.active_count()
        for _ in range(30):
            stranger = ("127.0.0.2", 0)  # to the listener at 127.0.0.1 another machine
            with socket.create_connection(("127.0.0.1", listener.port), 10, stranger) as idle:
                assert idle.recv(1) == b""
        assert threading.active_count() <= before
        assert closed("address_not_admitted") == 30
        assert echo(dcmtk, listener).returncode != 0
        assert closed("calling_ae_not_recognised") == 1, "this machine is heard, and refused"
    lines = [record.getMessage() for record in caplog.records if "closed" in record.getMessage()]
    assert lines[:1] == ["connection from 127.0.0.2 closed: address_not_admitted"]
    assert len(lines) <= 3, "one a minute, not one a connection"


def test_one_address_cannot_hold_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uair_node.network.transport._MOST_OF_AN_ADDRESS", 3)
    with counting() as (listener, closed), ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=10))
            for _ in range(4)
        ]
        assert idle[3].recv(1) == b""
        assert closed("too_many_of_an_address") == 1


@pytest.mark.parametrize("sent", [b"", bytes.fromhex("010000000100")], ids=["silent", "within-a-pdu"])
def test_a_peer_that_asks_for_nothing_loses_its_connection_long_before_the_idle_time(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("uair_node.network.transport._REQUEST_S", 0.5)
    with (
        listening(nothing, idle_timeout_s=600) as listener,
        socket.create_connection(("127.0.0.1", listener.port), timeout=30) as peer,
    ):
        peer.sendall(sent)
        while peer.recv(64):  # an A-ABORT may come first
            pass


def test_no_rule_means_no_entry(dcmtk: Dcmtk) -> None:
    with listening(nothing, allow=()) as listener:
        assert echo(dcmtk, listener).returncode != 0


def test_ipv4_peer_of_a_dual_stack_socket_is_known_by_its_ipv4_address(dcmtk: Dcmtk) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no dual-stack sockets on this machine")
    with listening(nothing, host="::", allow=(AllowRule(networks=("127.0.0.0/8",)),)) as listener:
        assert echo(dcmtk, listener).returncode == 0


def test_series_arrives_byte_by_byte(dcmtk: Dcmtk, tmp_path: Path) -> None:
    paths, received = good_series(tmp_path), []
    with listening(received.append) as listener:
        result = store(dcmtk, listener, paths)
    assert result.returncode == 0, said(result)
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in map(pydicom.dcmread, paths)}
    assert len(received) == len(sent)
    for instance in received:
        source = sent[instance.sop_instance_uid]
        dataset = pydicom.dcmread(BytesIO(instance.data))
        assert dataset == source
        assert dataset.PixelData == source.PixelData
        assert dataset.file_meta.TransferSyntaxUID == instance.transfer_syntax_uid
        assert dataset.file_meta.MediaStorageSOPInstanceUID == source.SOPInstanceUID
        assert instance.sop_class_uid == source.SOPClassUID
        assert (instance.verb, instance.calling_ae, instance.address) == (Verb.STORE, "MODALITY", "127.0.0.1")


@pytest.mark.parametrize("verb", [Verb.PICK, Verb.ACCEPT, Verb.REJECT])
def test_selection_arrives_with_its_verb(dcmtk: Dcmtk, tmp_path: Path, verb: Verb) -> None:
    path, received = a_segmentation(tmp_path), []
    with listening(received.append) as listener:
        result = store(dcmtk, listener, [path], CALLED_AE[verb], "VIEWER")
    assert result.returncode == 0, said(result)
    assert [(arrival.verb, arrival.calling_ae) for arrival in received] == [(verb, "VIEWER")]


def test_selection_titles_take_slices_too_so_that_they_are_refused_with_a_reason(
    dcmtk: Dcmtk, tmp_path: Path
) -> None:
    received = []
    with listening(received.append) as listener:
        result = store(dcmtk, listener, good_series(tmp_path)[:1], "UAIR_PICK")
    assert result.returncode == 0, said(result)
    assert [arrival.verb for arrival in received] == [Verb.PICK]


def test_what_is_no_ct_is_taken_so_that_it_can_be_explained(dcmtk: Dcmtk, tmp_path: Path) -> None:
    received = []
    paths = edit_all(good_series(tmp_path)[:2], SOPClassUID=MRImageStorage, Modality="MR")
    with listening(received.append) as listener:
        assert store(dcmtk, listener, [*paths, a_segmentation(tmp_path)]).returncode == 0
    assert len(received) == 3


def test_rle_is_kept_as_sent(dcmtk: Dcmtk, tmp_path: Path) -> None:
    (path, *_), received = good_series(tmp_path), []
    compress(path, RLELossless)
    with listening(received.append) as listener:
        result = store(dcmtk, listener, [path], extra=("--propose-rle",))
    assert result.returncode == 0, said(result)
    assert received[0].transfer_syntax_uid == RLELossless
    assert pydicom.dcmread(BytesIO(received[0].data)).PixelData == pydicom.dcmread(path).PixelData


def test_jpeg_lossless_of_dcmtk_is_kept_and_decoded_exactly(dcmtk: Dcmtk, tmp_path: Path) -> None:
    (dcmcjpeg,) = need("dcmcjpeg")
    paths, received = good_series(tmp_path / "plain"), []
    hu = read_series(paths).array
    for path in paths:
        subprocess.run([dcmcjpeg, "+e1", path, path], check=True, timeout=60)
    spool = Spool(tmp_path / "spool", 0)
    with listening(received.append) as listener:
        result = store(dcmtk, listener, paths, extra=("--propose-lossless",))
    assert result.returncode == 0, said(result)
    assert {arrival.transfer_syntax_uid for arrival in received} == {JPEGLosslessSV1}
    kept = [spool.write("2.25.1", arrival.sop_instance_uid, arrival.data).path for arrival in received]
    np.testing.assert_array_equal(read_series(kept).array, hu)


def test_low_disk_is_answered_out_of_resources(dcmtk: Dcmtk, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 62)

    def keep(received: ReceivedInstance) -> None:
        spool.write("2.25.1", received.sop_instance_uid, received.data)

    with listening(keep) as listener:
        result = store(dcmtk, listener, good_series(tmp_path / "ct")[:1], extra=("--debug",))
    assert "A700" in said(result).upper()
    assert "disk-low" in said(result)
    assert "Success" not in statuses(result)
    assert not list((tmp_path / "spool").rglob("*.dcm"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("unreadable-instance", "x"), 0xC000),
        (InputError("sop-class-mismatch", "x"), 0xA900),
        (ResourceError("disk-full", "x"), 0xA700),
        (TransientError("database-unavailable", "x"), 0x0110),
        (MemoryError(), 0xA700),
        (KeyError("Doe^Jane"), 0xC001),
        (SystemError(), 0xC001),
    ],
)
def test_no_failing_handler_is_answered_with_success(
    dcmtk: Dcmtk, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, status: int
) -> None:
    def failing(received: ReceivedInstance) -> Never:
        raise error

    with listening(failing) as listener, caplog.at_level(logging.INFO):
        result = store(dcmtk, listener, good_series(tmp_path)[:1], extra=("--debug",))
    assert store_status(error) == status
    assert f"0x{status:04x}" in said(result).lower()
    code = error.code if isinstance(error, UairError) else "internal-error"
    assert f"answered {status:04X}: {code}: " in caplog.text
    assert "Doe" not in caplog.text
    assert "Doe" not in said(result)


def test_failing_instance_does_not_end_the_association(dcmtk: Dcmtk, tmp_path: Path) -> None:
    received = []

    def second_fails(instance: ReceivedInstance) -> None:
        received.append(instance)
        if len(received) == 2:
            raise RuntimeError("once")

    with listening(second_fails) as listener:
        store(dcmtk, listener, good_series(tmp_path)[:4], extra=("--no-halt",))
    assert len(received) == 4


def test_too_large_instance_is_refused(dcmtk: Dcmtk, tmp_path: Path) -> None:
    received = []
    paths = good_series(tmp_path)
    with listening(received.append, max_instance_bytes=paths[0].stat().st_size // 2) as listener:
        result = store(dcmtk, listener, paths[:1], extra=("--debug",))
    assert "0xc000" in said(result).lower()
    assert received == []


def test_four_senders_at_once_lose_nothing(dcmtk: Dcmtk, tmp_path: Path) -> None:
    series = [write_ct_series(tmp_path / f"{n}", noise_hu((12, 64, 64), n), affine_of()) for n in range(4)]
    spool = Spool(tmp_path / "spool", 0)
    threads = set()
    together = threading.Barrier(4, timeout=60)
    first = threading.local()

    def keep(received: ReceivedInstance) -> None:
        if not hasattr(first, "seen"):
            first.seen = True
            threads.add(threading.get_ident())
            together.wait()  # all four associations are being served at this moment
        spool.write(received.calling_ae, received.sop_instance_uid, received.data)

    with listening(keep) as listener, ThreadPoolExecutor(4) as pool:
        sending = [pool.submit(store, dcmtk, listener, s, "UAIR", f"S{n}") for n, s in enumerate(series)]
        assert [sender.result().returncode for sender in sending] == [0] * 4
    assert len(threads) == 4
    kept = [pydicom.dcmread(path) for path in (tmp_path / "spool").rglob("*.dcm")]
    sent = [pydicom.dcmread(path) for paths in series for path in paths]
    assert {d.SOPInstanceUID: d.PixelData for d in kept} == {d.SOPInstanceUID: d.PixelData for d in sent}


def test_associations_beyond_the_limit_are_rejected_for_now(dcmtk: Dcmtk, tmp_path: Path) -> None:
    serving, release = threading.Event(), threading.Event()

    def wait(received: ReceivedInstance) -> None:
        serving.set()
        release.wait(60)

    with listening(wait, max_associations=1, wait_s=0.2) as listener, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(store, dcmtk, listener, good_series(tmp_path)[:1])
        assert serving.wait(60)
        refused = echo(dcmtk, listener)
        release.set()
        assert busy.result().returncode == 0
    assert "Rejected Transient" in said(refused)
    assert "Local Limit Exceeded" in said(refused)


def test_silent_peer_is_let_go(dcmtk: Dcmtk) -> None:
    with listening(nothing, idle_timeout_s=0.2, max_associations=1) as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as silent:
            silent.settimeout(60)
            assert silent.recv(1) == b""  # closed by the listener
        assert echo(dcmtk, listener).returncode == 0


def test_log_names_peers_but_no_patient_and_no_whole_uid(
    dcmtk: Dcmtk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = good_series(
        tmp_path, patient_name="SECRET^NAME", patient_id="SECRET-ID", series_instance_uid="2.25.1"
    )

    def failing(received: ReceivedInstance) -> Never:
        raise InputError("unreadable-instance", "It cannot be filed.")

    with caplog.at_level(logging.DEBUG), listening(failing) as listener:
        echo(dcmtk, listener, "NOBODY", "STRANGER")
        store(dcmtk, listener, paths[:1])
    assert "'STRANGER' at 127.0.0.1 to 'NOBODY', called_ae_not_recognised" in caplog.text
    assert "association accepted: 'MODALITY' at 127.0.0.1 to 'UAIR'" in caplog.text
    assert "SECRET" not in caplog.text
    uid = str(pydicom.dcmread(paths[0]).SOPInstanceUID)
    assert uid not in caplog.text
    assert uid[-8:] in caplog.text


def test_port_in_use_is_a_configuration_error() -> None:
    with listening(nothing) as listener:
        second = DicomListener(NodeSection(port=listener.port), nothing)
        with pytest.raises(ConfigError) as caught:
            second.start()
    assert caught.value.code == "port-unavailable"


def test_stopped_listener_answers_no_more_and_can_be_started_again(dcmtk: Dcmtk) -> None:
    listener = DicomListener(NodeSection(port=0), nothing)
    listener.start()
    port = listener.port
    listener.stop()
    listener.stop()
    assert dcmtk.echoscu("127.0.0.1", port, "UAIR", "X").returncode != 0
    listener.start()
    try:
        assert echo(dcmtk, listener).returncode == 0
    finally:
        listener.stop()


def test_stop_lets_a_running_store_finish(dcmtk: Dcmtk, tmp_path: Path) -> None:
    serving = threading.Event()

    def slow(received: ReceivedInstance) -> None:
        serving.set()
        time.sleep(0.5)

    listener = DicomListener(NodeSection(port=0), slow)
    listener.start()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(store, dcmtk, listener, good_series(tmp_path)[:1])
        assert serving.wait(60)
        listener.stop()
        assert sending.result().returncode == 0


def test_every_status_is_one_that_the_standard_gives_storage() -> None:
    for status in StoreStatus:
        category, _ = STORAGE_SERVICE_CLASS_STATUS[status]
        assert (category == "Success") == (status == StoreStatus.SUCCESS)


def a_segmentation(folder: Path) -> Path:
    dataset = instance_header()
    dataset.Modality = "SEG"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    path = folder / "seg.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
