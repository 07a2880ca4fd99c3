"""TLS of the listener, against DCMTK and OpenSSL: who gets in, with which certificate, and what is said."""

from __future__ import annotations

import logging
import re
import select
import socket
import subprocess
from pathlib import Path

import pytest

from dicom_config.model import AllowRule, Verb
from dicom_config.tls import TLS_1_2_SUITES
from tests.support.peers import Dcmtk
from tests.support.ports import wait_until
from tests.support.series import good_series
from tests.support.server import need
from tests.support.tls_site import TlsSite, call, listening, make_site, options
from uair_node.network.scp import ReceivedInstance

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> TlsSite:
    return make_site(tmp_path_factory.mktemp("certificates"))


def test_series_arrives_over_tls(dcmtk: Dcmtk, site: TlsSite, tmp_path: Path) -> None:
    received: list[ReceivedInstance] = []
    paths = good_series(tmp_path)
    with listening(site, received=received) as listener:
        done = dcmtk.storescu(
            "127.0.0.1", listener.port, "UAIR", "ROUTER", paths, options(site.router, site.authority.ca)
        )
    assert done.returncode == 0, done.stderr
    assert len(received) == len(paths)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (None, "it sends no certificate (node.tls requires one)"),
        ("stranger", "its certificate is not valid here (unable to get local issuer certificate)"),
        ("expired", "its certificate is not valid here (certificate has expired)"),
    ],
)
def test_without_a_trusted_certificate_there_is_no_association(
    dcmtk: Dcmtk, site: TlsSite, caplog: pytest.LogCaptureFixture, shown: str | None, reason: str
) -> None:
    certificate = getattr(site, shown) if shown else None
    with caplog.at_level(logging.INFO), listening(site) as listener:
        result = call(dcmtk, listener, options(certificate, site.authority.ca))
        assert result.returncode != 0
        wait_until(lambda: "tls_failed" in caplog.text, "the refusal in the log")
    assert f"connection from 127.0.0.1 closed: tls_failed, {reason}" in caplog.text
    assert "association" not in caplog.text


def test_a_peer_does_not_trust_a_node_of_another_authority(
    dcmtk: Dcmtk, site: TlsSite, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.stranger
    with (
        caplog.at_level(logging.INFO),
        listening(site, certificate=node.certificate, key=node.key) as listener,
    ):
        result = call(dcmtk, listener, options(site.router, site.authority.ca))
        wait_until(lambda: "tls_failed" in caplog.text, "the refusal in the log")
    assert result.returncode != 0
    assert "certificate verify failed" in result.stderr
    assert "closed: tls_failed, it does not accept the node's certificate (" in caplog.text


def test_a_peer_without_tls_gets_nothing(
    dcmtk: Dcmtk, site: TlsSite, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), listening(site) as listener:
        assert call(dcmtk, listener, []).returncode != 0
        wait_until(lambda: "tls_failed" in caplog.text, "the refusal in the log")
    assert "connection from 127.0.0.1 closed: tls_failed, a plain sender" in caplog.text
    assert "association accepted" not in caplog.text


@pytest.mark.parametrize("kind", ["name", "fingerprint"])
def test_a_certificate_is_bound_to_its_ae_title(
    dcmtk: Dcmtk, site: TlsSite, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    named = {
        name: name if kind == "name" else getattr(site, name).fingerprint for name in ("router", "viewer")
    }
    rules = (
        AllowRule(verbs={Verb.STORE}, calling_ae=("ROUTER",), certificates=(named["router"],)),
        AllowRule(verbs={Verb.PICK}, calling_ae=("VIEWER",), certificates=(named["viewer"],)),
    )
    with caplog.at_level(logging.INFO), listening(site, *rules) as listener:
        admitted = {
            (shown, calling, called)
            for shown in ("router", "viewer")
            for calling in ("ROUTER", "VIEWER")
            for called in ("UAIR", "UAIR_PICK")
            if call(
                dcmtk, listener, options(getattr(site, shown), site.authority.ca), calling, called
            ).returncode
            == 0
        }
        wrong = call(dcmtk, listener, options(site.viewer, site.authority.ca), "ROUTER", "UAIR")
    assert admitted == {("router", "ROUTER", "UAIR"), ("viewer", "VIEWER", "UAIR_PICK")}
    assert "Rejected Permanent, Source: Service User" in wrong.stderr
    assert "Calling AE Title Not Recognized" in wrong.stderr
    assert "calling_ae_not_recognised, no allow rule for its certificate" in caplog.text


def test_a_certificate_that_names_another_fingerprint_as_its_uri_stays_out(
    dcmtk: Dcmtk, site: TlsSite
) -> None:
    digits = site.router.fingerprint.removeprefix("sha256:").replace(":", "").lower()
    impostor = site.authority.issue("impostor", uri=f"sha256:{digits}")
    rule = AllowRule(calling_ae=("ROUTER",), certificates=(site.router.fingerprint,))
    with listening(site, rule) as listener:
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode == 0
        assert call(dcmtk, listener, options(impostor, site.authority.ca)).returncode != 0


def test_the_same_text_as_cn_dns_name_and_uri_is_three_names(dcmtk: Dcmtk, site: TlsSite) -> None:
    text = "router.example"
    certificates = {
        "CN": site.authority.issue(text, file="as-cn"),
        "DNS": site.authority.issue("as-dns", dns=text),
        "URI": site.authority.issue("as-uri", uri=text),
        "forged": site.authority.issue(f"URI:{text}", dns=f"CN:{text}", file="forged"),
    }
    by_verb = {
        Verb.STORE: text,
        Verb.PICK: f"cn:{text}",
        Verb.ACCEPT: f"DNS:{text}",
        Verb.REJECT: f"URI:{text}",
    }
    rules = [AllowRule(verbs={verb}, certificates=(name,)) for verb, name in by_verb.items()]
    titles = {"UAIR": "text", "UAIR_PICK": "CN", "UAIR_ACCEPT": "DNS", "UAIR_REJECT": "URI"}
    with listening(site, *rules) as listener:
        admitted = {
            (kind, title)
            for kind, certificate in certificates.items()
            for title in titles
            if call(dcmtk, listener, options(certificate, site.authority.ca), called=title).returncode == 0
        }
    own = {(kind, title) for title, kind in titles.items() if kind != "text"}
    assert admitted == own | {("CN", "UAIR"), ("DNS", "UAIR")}


def test_an_address_in_the_certificate_is_named_as_such(dcmtk: Dcmtk, site: TlsSite) -> None:
    with listening(site, AllowRule(certificates=("IP:127.0.0.1",))) as listener:
        assert call(dcmtk, listener, options(site.node, site.authority.ca)).returncode == 0
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode != 0


def test_a_certificate_may_be_asked_of_some_only(dcmtk: Dcmtk, site: TlsSite) -> None:
    rules = (
        AllowRule(verbs={Verb.STORE}),
        AllowRule(verbs={Verb.ACCEPT}, certificates=("viewer",)),
    )
    with listening(site, *rules, require_client_certificate=False) as listener:
        nobody, viewer = options(None, site.authority.ca), options(site.viewer, site.authority.ca)
        stranger = options(site.stranger, site.authority.ca)
        assert call(dcmtk, listener, nobody, called="UAIR").returncode == 0
        assert call(dcmtk, listener, nobody, called="UAIR_ACCEPT").returncode != 0
        assert call(dcmtk, listener, viewer, called="UAIR_ACCEPT").returncode == 0
        assert call(dcmtk, listener, stranger, called="UAIR").returncode != 0


@pytest.mark.parametrize(
    ("profile", "enters"),
    [("--profile-bcp195-nd", True), ("--profile-bcp195", True), ("--profile-aes", False)],
)
def test_only_suites_of_the_profile_are_negotiated(
    dcmtk: Dcmtk, site: TlsSite, profile: str, enters: bool
) -> None:
    with listening(site) as listener:
        result = call(dcmtk, listener, [*options(site.router, site.authority.ca), profile])
    assert (result.returncode == 0) == enters, result.stderr


@pytest.mark.parametrize(
    ("version", "enters"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
def test_versions_of_tls_in(site: TlsSite, version: str, enters: bool) -> None:
    with listening(site) as listener:
        done = _s_client(site, listener.port, version)
    agreed = re.search(r"Cipher is (\S+)", done.stdout)
    assert agreed is not None, done.stdout + done.stderr
    assert (agreed[1] != "(NONE)") == enters
    if version == "-tls1_2":
        assert agreed[1] in TLS_1_2_SUITES.values()


def test_tls_1_3_is_preferred(site: TlsSite) -> None:
    with listening(site) as listener:
        assert "New, TLSv1.3" in _s_client(site, listener.port).stdout


def _s_client(site: TlsSite, port: int, *extra: str) -> subprocess.CompletedProcess[str]:
    (openssl,) = need("openssl")
    command = [str(openssl), "s_client", "-connect", f"127.0.0.1:{port}", *extra]
    # OpenSSL itself refuses the old versions unless told otherwise: it must be ours that does.
    command += ["-cipher", "ALL:@SECLEVEL=0", "-CAfile", str(site.authority.ca)]
    command += ["-cert", str(site.router.certificate), "-key", str(site.router.key)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_silent_or_slow_handshake_does_not_keep_others_out(dcmtk: Dcmtk, site: TlsSite) -> None:
    with listening(site, idle_timeout_s=10) as listener:
        silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(8)]
        silent[0].sendall(b"\x16\x03\x01")
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode == 0
        closed, _, _ = select.select(silent, [], [], 0)
        assert closed == [], "served before the silent ones timed out"
        for connection in silent:
            connection.settimeout(60)
            assert connection.recv(1) == b""
            connection.close()
