"""`uair check` is no stranger: the node answers it, and neither logs nor counts it as refused."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from dicom_config.model import AllowRule, Destination, NodeSection, Settings
from tests.support.certificates import Authority
from tests.support.ports import free_port, wait_until
from uair_node.commands.start import _warn_of_certificates
from uair_node.network.listener_metrics import ListenerMetrics
from uair_node.network.scp import DicomListener
from uair_node.network.scu import echo
from uair_node.operations.checks.connections import check_listener
from uair_node.operations.checks.finding import fault


def test_the_check_is_neither_logged_nor_counted(caplog: pytest.LogCaptureFixture) -> None:
    node = NodeSection(port=free_port(), allow=(AllowRule(calling_ae=("ROUTER",)),))
    metrics = ListenerMetrics()
    listener = DicomListener(node, lambda _: None, metrics=metrics)
    listener.start()
    try:
        (found,) = check_listener(Settings(node=node))
        assert (found.ok, found.code) == (True, "")
        assert [record for record in caplog.records if "rejected" in record.getMessage()] == []
        assert metrics.take_refusals() == {}
        stranger = Destination(
            name="ours",
            ae_title="UAIR",
            host="127.0.0.1",
            port=node.port,
            calling_ae="STRANGER",
            timeout_s=20,
        )
        with pytest.raises(Exception, match="rejects"):
            echo(stranger)
        assert [(refusal.calling_ae, refusal.reason) for refusal in metrics.take_refusals()] == [
            ("STRANGER", "calling_ae_not_recognised")
        ]
    finally:
        listener.stop()


def _serving() -> list[str]:
    """Return the threads in which the listener serves a connection."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if "process_request_thread" in name or name.startswith("AcceptorThread")]


@pytest.mark.parametrize("tls", [False, True])
def test_nor_where_only_other_machines_or_certificates_are_admitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    authority = Authority(tmp_path, "ca", days=9000)
    issued = authority.issue("node", days=400)
    section = {"certificate": issued.certificate, "key": issued.key, "ca": authority.ca}
    node = NodeSection(
        port=free_port(), allow=(AllowRule(networks=("192.0.2.0/24",)),), tls=section if tls else None
    )
    metrics = ListenerMetrics()
    listener = DicomListener(node, lambda _: None, metrics=metrics)
    listener.start()
    try:
        (found,) = check_listener(Settings(node=node))
        wait_until(lambda: not _serving(), "the end of its connections", 60.0)  # ten seconds, if idle
    finally:
        listener.stop()
    assert (found.ok, found.code) == (True, "")
    assert metrics.take_refusals() == {}
    ours = [record for record in caplog.records if record.name.startswith("uair_node")]
    assert [record.getMessage() for record in ours if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("days", "code"), [(-1, "certificate-expired"), (7, "certificate-expires"), (400, "")]
)
def test_a_node_warns_of_its_certificate_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: int, code: str
) -> None:
    authority = Authority(tmp_path, "ca", days=9000)
    issued = authority.issue("node", days=days)
    tls = {"certificate": issued.certificate, "key": issued.key, "ca": authority.ca}
    with caplog.at_level(logging.WARNING):
        _warn_of_certificates(Settings(node={"tls": tls}))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[:2] for line in lines] == ([[code, "tls of the node"]] if code else [])
    assert not lines or "the node's certificate expire" in lines[0], "whose it is"
    assert not any(".." in line for line in lines)


def test_a_log_line_ends_each_sentence_once() -> None:
    with_period, without = (
        fault("tls", "tls-files", f"it is damaged{end}", "Renew it.") for end in (".", "")
    )
    assert with_period.log_line == without.log_line == "tls-files: tls: it is damaged. Renew it."
