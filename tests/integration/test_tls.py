"""TLS in both directions against DCMTK and OpenSSL: who gets in, with which certificate, and what is said."""

from __future__ import annotations

import logging
import re
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import AllowRule, Destination, NodeSection, Settings, Verb
from dicom_config.tls import TLS_1_2_SUITES, TlsClientSection, TlsServerSection
from tests.support.certificates import Authority, Certificate
from tests.support.peers import Dcmtk
from tests.support.ports import answers, free_port, wait_until
from tests.support.series import good_series
from tests.support.server import need
from uair_node.network.outgoing import OutgoingInstance
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.network.scu import echo, send
from uair_node.network.statuses import DeliveryVerdict
from uair_node.network.tls import client_context, server_context
from uair_node.operations.checks import run_checks

pytestmark = pytest.mark.integration

CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class Site:
    """What a hospital's administrator has, and what a stranger has."""

    authority: Authority
    foreign: Authority
    node: Certificate
    router: Certificate
    viewer: Certificate
    expired: Certificate
    stranger: Certificate

    def server(self, **changes: object) -> TlsServerSection:
        values = {"certificate": self.node.certificate, "key": self.node.key, "ca": self.authority.ca}
        return TlsServerSection(**(values | changes))

    def client(self, **changes: object) -> TlsClientSection:
        values = {
            "ca": self.authority.ca,
            "certificate": self.router.certificate,
            "key": self.router.key,
        }
        return TlsClientSection(**(values | changes))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("certificates")
    authority, foreign = Authority(folder / "own", "hospital-ca"), Authority(folder / "other", "other-ca")
    return Site(
        authority,
        foreign,
        node=authority.issue("node", host="127.0.0.1"),
        router=authority.issue("router"),
        viewer=authority.issue("viewer"),
        expired=authority.issue("expired", days=-1),
        stranger=foreign.issue("router", host="127.0.0.1"),
    )


@contextmanager
def listening(
    site: Site,
    *rules: AllowRule,
    received: list[ReceivedInstance] | None = None,
    idle_timeout_s: float = 2,
    **tls: object,
) -> Iterator[DicomListener]:
    settings = NodeSection(
        port=0, allow=rules or (AllowRule(),), tls=site.server(**tls), idle_timeout_s=idle_timeout_s, wait_s=0
    )
    listener = DicomListener(settings, (received if received is not None else []).append)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def options(certificate: Certificate | None, ca: Path) -> list[str]:
    """DCMTK's options; ``+tla`` shows no certificate."""
    if certificate is None:
        return ["+tla", "--ignore-peer-cert"]
    return ["+tls", str(certificate.key), str(certificate.certificate), "+cf", str(ca)]


def call(
    dcmtk: Dcmtk, listener: DicomListener, extra: list[str], calling: str = "ROUTER", called: str = "UAIR"
) -> subprocess.CompletedProcess[str]:
    command = [str(dcmtk.echoscu_path), "--aetitle", calling, "--call", called, "-ta", "5", "-td", "5"]
    command += [*extra, "127.0.0.1", str(listener.port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_series_arrives_over_tls(dcmtk: Dcmtk, site: Site, tmp_path: Path) -> None:
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
        (None, "it shows no certificate (node.tls wants one)"),
        ("stranger", "its certificate is not valid here (unable to get local issuer certificate)"),
        ("expired", "its certificate is not valid here (certificate has expired)"),
    ],
)
def test_without_a_trusted_certificate_there_is_no_association(
    dcmtk: Dcmtk, site: Site, caplog: pytest.LogCaptureFixture, shown: str | None, reason: str
) -> None:
    certificate = getattr(site, shown) if shown else None
    with caplog.at_level(logging.INFO), listening(site) as listener:
        result = call(dcmtk, listener, options(certificate, site.authority.ca))
        assert result.returncode != 0
        wait_until(lambda: "tls_failed" in caplog.text, "the refusal in the log")
    assert f"connection from 127.0.0.1 closed: tls_failed, {reason}" in caplog.text
    assert "association" not in caplog.text


def test_a_peer_does_not_trust_a_node_of_another_authority(
    dcmtk: Dcmtk, site: Site, caplog: pytest.LogCaptureFixture
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


def test_a_peer_without_tls_gets_nothing(dcmtk: Dcmtk, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), listening(site) as listener:
        assert call(dcmtk, listener, []).returncode != 0
        wait_until(lambda: "tls_failed" in caplog.text, "the refusal in the log")
    assert "connection from 127.0.0.1 closed: tls_failed, a plain sender" in caplog.text
    assert "association accepted" not in caplog.text


@pytest.mark.parametrize("kind", ["name", "fingerprint"])
def test_a_certificate_is_bound_to_its_ae_title(
    dcmtk: Dcmtk, site: Site, caplog: pytest.LogCaptureFixture, kind: str
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


def test_a_certificate_that_names_another_fingerprint_as_its_uri_stays_out(dcmtk: Dcmtk, site: Site) -> None:
    digits = site.router.fingerprint.removeprefix("sha256:").replace(":", "").lower()
    impostor = site.authority.issue("impostor", uri=f"sha256:{digits}")
    rule = AllowRule(calling_ae=("ROUTER",), certificates=(site.router.fingerprint,))
    with listening(site, rule) as listener:
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode == 0
        assert call(dcmtk, listener, options(impostor, site.authority.ca)).returncode != 0


def test_the_same_text_as_cn_dns_name_and_uri_is_three_names(dcmtk: Dcmtk, site: Site) -> None:
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


def test_an_address_in_the_certificate_is_named_as_such(dcmtk: Dcmtk, site: Site) -> None:
    with listening(site, AllowRule(certificates=("IP:127.0.0.1",))) as listener:
        assert call(dcmtk, listener, options(site.node, site.authority.ca)).returncode == 0
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode != 0


def test_a_revoked_certificate_stays_out_and_a_new_list_counts_without_a_restart(
    dcmtk: Dcmtk, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crl = site.authority.revoke(tmp_path / "crl.pem", site.viewer)
    router, viewer = options(site.router, site.authority.ca), options(site.viewer, site.authority.ca)
    with caplog.at_level(logging.INFO), listening(site, crl=crl) as listener:
        assert call(dcmtk, listener, router).returncode == 0
        assert call(dcmtk, listener, viewer).returncode != 0
        wait_until(
            lambda: (
                "closed: tls_failed, its certificate is not valid here (certificate revoked)" in caplog.text
            ),
            "the refusal",
        )

        site.authority.revoke(crl, site.viewer, site.router)
        assert call(dcmtk, listener, router).returncode != 0
        assert "read the list of revoked certificates again" in caplog.text

        crl.write_text("half of a list")
        assert call(dcmtk, listener, router).returncode != 0, "the list before counts"
        assert "crl-unreadable" in caplog.text

        site.authority.revoke(crl)
        assert call(dcmtk, listener, viewer).returncode == 0


def test_a_destination_whose_certificate_is_revoked_gets_nothing(
    dcmtk: Dcmtk, site: Site, tmp_path: Path
) -> None:
    crl = site.authority.revoke(tmp_path / "crl.pem", site.router)
    with storescp(dcmtk, site.node, site.authority.ca) as (port, _):
        echo(_destination(port, site.client(crl=crl)))
        site.authority.revoke(crl, site.node)
        with pytest.raises(TransientError, match="certificate revoked") as caught:
            echo(_destination(port, site.client(crl=crl)))
    assert caught.value.code == "peer-tls"


def test_a_list_of_another_authority_lets_nobody_in(
    dcmtk: Dcmtk, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crl = site.foreign.revoke(tmp_path / "crl.pem")
    with caplog.at_level(logging.INFO), listening(site, crl=crl) as listener:
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode != 0
        wait_until(lambda: "unable to get certificate CRL" in caplog.text, "the refusal in the log")


def test_an_old_or_unreadable_list_of_revoked_certificates_is_an_error(site: Site, tmp_path: Path) -> None:
    old = site.authority.revoke(tmp_path / "old.pem", days=-1)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(old.read_text().replace("\nMI", "\nNI", 1))
    files = {"crl-expired": [old], "crl-unreadable": [tmp_path / "absent.pem", site.authority.ca, damaged]}
    for code, found in files.items():
        for crl in found:
            for section, make in (
                (site.server(crl=crl), server_context),
                (site.client(crl=crl), client_context),
            ):
                with pytest.raises(ConfigError) as caught:
                    make(section)
                assert caught.value.code == code
                assert str(crl) in caught.value.sentence


def test_a_certificate_may_be_asked_of_some_only(dcmtk: Dcmtk, site: Site) -> None:
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
    dcmtk: Dcmtk, site: Site, profile: str, enters: bool
) -> None:
    with listening(site) as listener:
        result = call(dcmtk, listener, [*options(site.router, site.authority.ca), profile])
    assert (result.returncode == 0) == enters, result.stderr


@pytest.mark.parametrize(
    ("version", "enters"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
def test_versions_of_tls_in(site: Site, version: str, enters: bool) -> None:
    with listening(site) as listener:
        done = _s_client(site, listener.port, version)
    agreed = re.search(r"Cipher is (\S+)", done.stdout)
    assert agreed is not None, done.stdout + done.stderr
    assert (agreed[1] != "(NONE)") == enters
    if version == "-tls1_2":
        assert agreed[1] in TLS_1_2_SUITES.values()


def test_tls_1_3_is_preferred(site: Site) -> None:
    with listening(site) as listener:
        assert "New, TLSv1.3" in _s_client(site, listener.port).stdout


def _s_client(site: Site, port: int, *extra: str) -> subprocess.CompletedProcess[str]:
    (openssl,) = need("openssl")
    command = [str(openssl), "s_client", "-connect", f"127.0.0.1:{port}", *extra]
    # OpenSSL itself refuses the old versions unless told otherwise: it must be ours that does.
    command += ["-cipher", "ALL:@SECLEVEL=0", "-CAfile", str(site.authority.ca)]
    command += ["-cert", str(site.router.certificate), "-key", str(site.router.key)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_silent_or_slow_handshake_does_not_keep_others_out(dcmtk: Dcmtk, site: Site) -> None:
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


@contextmanager
def storescp(dcmtk: Dcmtk, shown: Certificate, ca: Path, *extra: str) -> Iterator[tuple[int, Path]]:
    with dcmtk.storescp("PACS", [*options(shown, ca), *extra]) as server:
        yield server.port, server.received


def _destination(port: int, tls: TlsClientSection | None) -> Destination:
    return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5, tls=tls)


def test_results_go_out_over_tls(dcmtk: Dcmtk, site: Site, tmp_path: Path) -> None:
    path = good_series(tmp_path)[0]
    with storescp(dcmtk, site.node, site.authority.ca) as (port, received):
        (answer,) = send(_destination(port, site.client()), [OutgoingInstance(1, CT, path)])
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
        ("node", "authority", None, "", "it wants a certificate of ours, and gets none"),
    ],
    ids=["foreign-ca", "expired", "no-address", "other-name", "we-are-not-trusted", "we-show-none"],
)
def test_what_a_destination_fails_at_is_said(
    dcmtk: Dcmtk,
    site: Site,
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
        echo(_destination(port, tls))
    assert caught.value.code == "peer-tls"
    assert reason in caught.value.sentence


def test_a_server_name_stands_for_the_host(dcmtk: Dcmtk, site: Site) -> None:
    with storescp(dcmtk, site.viewer, site.authority.ca) as (port, _):
        echo(_destination(port, site.client(server_name="viewer")))


@pytest.mark.parametrize(("version", "works"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_versions_of_tls_out(site: Site, version: str, works: bool) -> None:
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


def test_unusable_files_are_a_configuration_error(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        server_context(site.server(ca=tmp_path / "absent.pem"))
    assert caught.value.code == "tls-files"
    with pytest.raises(ConfigError, match="key values mismatch"):
        server_context(site.server(key=site.viewer.key))
    for key, ok in ((site.node.key, True), (site.viewer.key, False)):
        settings = Settings(data_dir=tmp_path, node=NodeSection(tls=site.server(key=key)))
        (finding,) = (finding for finding in run_checks(settings) if finding.what == "tls")
        assert finding.ok == ok
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        client_context(site.client(ca=site.node.key))
