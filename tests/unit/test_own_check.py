"""`uair check` is no stranger: the node answers it, and neither logs nor counts it as refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dicom_config.model import AllowRule, Destination, NodeSection, Settings
from tests.support.certificates import Authority
from tests.support.ports import free_port
from uair_node.commands.start import _warn_of_certificates
from uair_node.network.scp import DicomListener
from uair_node.network.scu import echo
from uair_node.network.tally import Tally
from uair_node.operations.checks.connections import check_listener


def test_the_check_is_neither_logged_nor_counted(caplog: pytest.LogCaptureFixture) -> None:
    node = NodeSection(port=free_port(), allow=(AllowRule(calling_ae=("ROUTER",)),))
    tally = Tally()
    listener = DicomListener(node, lambda _: None, tally=tally)
    listener.start()
    try:
        (found,) = check_listener(Settings(node=node))
        assert (found.ok, found.code) == (True, "")
        assert [record for record in caplog.records if "rejected" in record.getMessage()] == []
        assert tally.take_refusals() == {}
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
        assert tally.take_refusals() == {"calling_ae_not_recognised": 1}
    finally:
        listener.stop()


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
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ([code] if code else [])
