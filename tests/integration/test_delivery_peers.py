"""Results on their way to a real PACS: STOW-RS and storage commitment against Orthanc."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dicom_config.errors import TransientError
from dicom_config.model import Destination, NodeSection, StowDestination
from dicom_config.tls import TlsClientSection
from tests.support.certificates import Authority
from tests.support.https import https_front
from tests.support.outbox import (
    outbox_in,
    reasons,
    run_commitment,
    run_delivery,
    states,
    with_destinations,
    work_item,
)
from tests.support.peers import Orthanc
from tests.support.ports import free_port, wait_until
from uair_node.cases.tables import Delivery, DeliveryState, Result
from uair_node.context import Context
from uair_node.delivery.commitment import take_report
from uair_node.network.scp import DicomListener
from uair_node.network.stow import probe_stow

pytestmark = pytest.mark.integration


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Context]:
    with outbox_in(tmp_path) as context:
        yield context


@pytest.fixture
def archive(orthanc: Orthanc) -> Orthanc:
    orthanc.delete_all()
    return orthanc


def _uids(context: Context) -> set[str]:
    with context.database.transaction() as session:
        return {row.result.sop_instance_uid for row in session.query(Delivery)}


def _kept(archive: Orthanc) -> set[str]:
    return {str(archive.tags(instance)["SOPInstanceUID"]) for instance in archive.instances()}


def _stow(url: str, **more: object) -> StowDestination:
    return StowDestination(name="pacs", url=url, timeout_s=5, **more)


def test_results_reach_orthanc_by_stow(outbox: Context, archive: Orthanc) -> None:
    assert archive.dicomweb_url is not None
    destination = _stow(archive.dicomweb_url)
    probe_stow(destination)
    run_delivery(outbox, destination)
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert _kept(archive) == _uids(outbox)
    assert not work_item(outbox).open


def test_a_result_without_a_file_does_not_keep_the_rest_from_stow(outbox: Context, archive: Orthanc) -> None:
    assert archive.dicomweb_url is not None
    with outbox.database.transaction() as session:
        first, second = session.query(Result).order_by(Result.id).limit(2)
        outbox.store.absolute(first.path).unlink()
        outbox.store.absolute(second.path).write_bytes(b"no DICOM")
    run_delivery(outbox, _stow(archive.dicomweb_url))
    assert " ".join(states(outbox)) == "parked parked confirmed confirmed"
    assert len(_kept(archive)) == 2


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    """The hospital's certification authority, and another one."""
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder / "own", "hospital-ca"), Authority(folder / "other", "other-ca")


@pytest.fixture
def https_url(archive: Orthanc, authorities: tuple[Authority, Authority]) -> Iterator[str]:
    """Orthanc's DICOMweb root behind a certificate of the hospital."""
    assert archive.dicomweb_url is not None
    with https_front(archive.http_port, authorities[0].issue("pacs", host="127.0.0.1")) as port:
        yield archive.dicomweb_url.replace(archive.url, f"https://127.0.0.1:{port}")


def test_results_reach_orthanc_by_stow_over_tls(
    outbox: Context, archive: Orthanc, https_url: str, authorities: tuple[Authority, Authority]
) -> None:
    destination = _stow(https_url, tls=TlsClientSection(ca=authorities[0].ca))
    probe_stow(destination)
    run_delivery(outbox, destination)
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert _kept(archive) == _uids(outbox)


@pytest.mark.parametrize("wrong", ["authority", "name", "system"])
def test_a_web_server_that_is_not_trusted_gets_nothing(
    outbox: Context, archive: Orthanc, https_url: str, authorities: tuple[Authority, Authority], wrong: str
) -> None:
    own, other = authorities
    tls = {
        "authority": TlsClientSection(ca=other.ca),
        "name": TlsClientSection(ca=own.ca, server_name="another.hospital.example"),
        "system": None,  # the system's authorities did not sign it
    }
    destination = _stow(https_url, tls=tls[wrong])
    with pytest.raises(TransientError) as caught:
        probe_stow(destination)
    assert caught.value.code == "peer-tls"
    run_delivery(outbox, destination)
    assert states(outbox) == [DeliveryState.PENDING] * 4
    assert "TLS with pacs fails" in reasons(outbox)
    assert _kept(archive) == set()


def test_orthanc_commits_to_what_it_stored(outbox: Context, archive: Orthanc) -> None:
    destination = Destination(
        name="pacs",
        ae_title=archive.aet,
        host="127.0.0.1",
        port=archive.dicom_port,
        commitment_timeout_s=60,
    )
    known = with_destinations(outbox, destination)
    listener = DicomListener(NodeSection(port=0), lambda _: None, partial(take_report, known))
    listener.start()
    try:
        archive.add_modality("uair", "UAIR", "127.0.0.1", listener.port)
        run_delivery(outbox, destination)
        assert states(outbox) == [DeliveryState.STORED] * 4
        run_commitment(outbox, destination)
        wait_until(lambda: states(outbox) == [DeliveryState.CONFIRMED] * 4, "Orthanc's report", 30.0)
        assert "stored and committed" in reasons(outbox)
    finally:
        listener.stop()


def test_what_orthanc_lost_is_sent_again(outbox: Context, archive: Orthanc) -> None:
    destination = Destination(
        name="pacs",
        ae_title=archive.aet,
        host="127.0.0.1",
        port=archive.dicom_port,
        commitment_timeout_s=60,
    )
    known = with_destinations(outbox, destination)
    listener = DicomListener(NodeSection(port=0), lambda _: None, partial(take_report, known))
    listener.start()
    try:
        archive.add_modality("uair", "UAIR", "127.0.0.1", listener.port)
        run_delivery(outbox, destination)
        archive.delete_all()
        run_commitment(outbox, destination)
        wait_until(lambda: states(outbox) == [DeliveryState.PENDING] * 4, "Orthanc's report", 30.0)
        run_delivery(outbox, destination)
        assert _kept(archive) == _uids(outbox)
        run_commitment(outbox, destination)
        wait_until(lambda: states(outbox) == [DeliveryState.CONFIRMED] * 4, "Orthanc's report", 30.0)
    finally:
        listener.stop()


@contextmanager
def _web_server(status: int, body: dict[str, object] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A DICOMweb server that gives every request the same answer."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web", asked
    finally:
        server.shutdown()
        server.server_close()


def _failed(reason: int) -> dict[str, object]:
    return {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (409, _failed(0xA900), DeliveryState.PARKED, "does not match its SOP class"),
        (409, _failed(0xA700), DeliveryState.PENDING, "out of resources"),
        (202, _failed(0x0122), DeliveryState.PARKED, "does not support this SOP class"),
        (409, None, DeliveryState.PARKED, "HTTP 409"),
        (415, None, DeliveryState.PARKED, "HTTP 415"),
        (401, None, DeliveryState.PENDING, "HTTP 401"),
        (503, None, DeliveryState.PENDING, "HTTP 503"),
        (200, {}, DeliveryState.PENDING, "does not name the instance"),
    ],
)
def test_what_a_web_server_says_decides(
    outbox: Context, status: int, body: dict[str, object] | None, state: DeliveryState, words: str
) -> None:
    with _web_server(status, body) as (url, _):
        run_delivery(outbox, _stow(url))
    assert states(outbox) == [state] * 4
    assert words in reasons(outbox)
    assert work_item(outbox).open == (state == DeliveryState.PENDING)


def test_user_and_password_are_sent(outbox: Context, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n", "utf-8")
    with _web_server(503) as (url, asked):
        run_delivery(outbox, _stow(url, user="uair", password_file=secret))
        assert asked[0].startswith("Basic ")
        run_delivery(outbox, _stow(url, user="uair", password_file=tmp_path / "absent"))
    assert "password file of pacs cannot be read" in reasons(outbox)


def test_an_absent_web_server_is_tried_again(outbox: Context) -> None:
    destination = _stow(f"http://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(TransientError) as caught:
        probe_stow(destination)
    assert caught.value.code == "peer-unreachable"
    run_delivery(outbox, destination)
    assert states(outbox) == [DeliveryState.PENDING] * 4
