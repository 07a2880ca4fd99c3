"""TLS towards destinations, against DCMTK and OpenSSL: what is sent, and what a failure says."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from dicom_config.errors import TransientError
from tests.support.peers import Dcmtk
from tests.support.ports import answers, free_port, wait_until
from tests.support.series import good_series
from tests.support.server import need
from tests.support.tls_site import TlsSite, destination, make_site, storescp
from uair_node.network.outgoing import OutgoingInstance
from uair_node.network.scu import echo, send
from uair_node.network.statuses import DeliveryVerdict
from uair_node.network.tls import client_context

pytestmark = pytest.mark.integration

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> TlsSite:
    return make_site(tmp_path_factory.mktemp("certificates"))


def test_results_go_out_over_tls(dcmtk: Dcmtk, site: TlsSite, tmp_path: Path) -> None:
    path = good_series(tmp_path)[0]
    with storescp(dcmtk, site.node, site.authority.ca) as (port, received):
        (answer,) = send(destination(port, site.client()), [OutgoingInstance(1, CT, path)])
        assert answer.verdict == DeliveryVerdict.CONFIRMED
        assert len(list(received.iterdir())) == 1


@pytest.mark.parametrize(
    ("shown", "asks_for", "presents", "server_name", "reason"),
    [
        (
            "stranger",
            "authority",
            "router",
            "",
            "its certificate is not valid here (unable to get local issuer",
        ),
        (
            "expired",
            "authority",
            "router",
            "expired",
            "its certificate is not valid here (certificate has exp",
        ),
        ("viewer", "authority", "router", "", "IP address mismatch"),
        ("node", "authority", "router", "other.example", "Hostname mismatch"),
        ("node", "foreign", "router", "", "it does not accept our certificate (tlsv1 alert unknown ca)"),
        ("node", "authority", None, "", "it requests a certificate from us; none is configured"),
    ],
    ids=["foreign-ca", "expired", "no-address", "other-name", "we-are-not-trusted", "we-show-none"],
)
def test_what_a_destination_fails_at_is_said(
    dcmtk: Dcmtk,
    site: TlsSite,
    shown: str,
    asks_for: str,
    presents: str | None,
    server_name: str,
    reason: str,
) -> None:
    own = {} if presents else {"certificate": None, "key": None}
    tls = site.client(server_name=server_name, **own)
    authority = getattr(site, asks_for)
    with (
        storescp(dcmtk, getattr(site, shown), authority.ca) as (port, _),
        pytest.raises(TransientError) as caught,
    ):
        echo(destination(port, tls))
    assert caught.value.code == "peer-tls"
    assert reason in caught.value.sentence


def test_a_server_name_stands_for_the_host(dcmtk: Dcmtk, site: TlsSite) -> None:
    with storescp(dcmtk, site.viewer, site.authority.ca) as (port, _):
        echo(destination(port, site.client(server_name="viewer")))


@pytest.mark.parametrize(("version", "works"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_versions_of_tls_out(site: TlsSite, version: str, works: bool) -> None:
    """An OpenSSL server takes the handshake but answers no DICOM: only the handshake is looked at."""
    (openssl,) = need("openssl")
    port = free_port()
    command = [str(openssl), "s_server", "-accept", str(port), version, "-cipher", "ALL:@SECLEVEL=0"]
    command += ["-cert", str(site.node.certificate), "-key", str(site.node.key), "-quiet"]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(port), "s_server")
        context = client_context(site.client())
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            if works:
                context.wrap_socket(plain, server_hostname="127.0.0.1").close()
            else:
                with pytest.raises(OSError, match=r"(?i)version|alert|protocol"):
                    context.wrap_socket(plain, server_hostname="127.0.0.1")
    finally:
        server.kill()
        server.wait()
