"""TLS of a site: its certificates, a listener, and DCMTK's programs with the options that TLS needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_config.model import AllowRule, Destination, NodeSection
from dicom_config.tls import TlsClientSection, TlsServerSection
from tests.support.certificates import Authority, Certificate
from tests.support.peers import Dcmtk
from uair_node.network.scp import DicomListener, ReceivedInstance


@dataclass(frozen=True)
class TlsSite:
    """The certificates of a hospital's administrator, and the certificates of a stranger."""

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


def make_site(folder: Path) -> TlsSite:
    """Make the certificates of a hospital, and the certificates of a stranger."""
    authority, foreign = Authority(folder / "own", "hospital-ca"), Authority(folder / "other", "other-ca")
    return TlsSite(
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
    site: TlsSite,
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
    """DCMTK's options for TLS; with ``+tla``, the client shows no certificate."""
    if certificate is None:
        return ["+tla", "--ignore-peer-cert"]
    return ["+tls", str(certificate.key), str(certificate.certificate), "+cf", str(ca)]


def call(
    dcmtk: Dcmtk, listener: DicomListener, extra: list[str], calling: str = "ROUTER", called: str = "UAIR"
) -> subprocess.CompletedProcess[str]:
    command = [str(dcmtk.echoscu_path), "--aetitle", calling, "--call", called, "-ta", "5", "-td", "5"]
    command += [*extra, "127.0.0.1", str(listener.port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def storescp(dcmtk: Dcmtk, shown: Certificate, ca: Path, *extra: str) -> Iterator[tuple[int, Path]]:
    with dcmtk.storescp("PACS", [*options(shown, ca), *extra]) as server:
        yield server.port, server.received


def destination(port: int, tls: TlsClientSection | None) -> Destination:
    return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5, tls=tls)
