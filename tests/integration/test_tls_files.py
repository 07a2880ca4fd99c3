"""Lists of revoked certificates, and files that TLS cannot use."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import NodeSection, Settings
from tests.support.peers import Dcmtk
from tests.support.ports import wait_until
from tests.support.tls_site import TlsSite, call, destination, listening, make_site, options, storescp
from uair_node.network.scu import echo
from uair_node.network.tls import client_context, server_context
from uair_node.operations.checks import run_checks

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> TlsSite:
    return make_site(tmp_path_factory.mktemp("certificates"))


def test_a_revoked_certificate_stays_out_and_a_new_list_counts_without_a_restart(
    dcmtk: Dcmtk, site: TlsSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
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
    dcmtk: Dcmtk, site: TlsSite, tmp_path: Path
) -> None:
    crl = site.authority.revoke(tmp_path / "crl.pem", site.router)
    with storescp(dcmtk, site.node, site.authority.ca) as (port, _):
        echo(destination(port, site.client(crl=crl)))
        site.authority.revoke(crl, site.node)
        with pytest.raises(TransientError, match="certificate revoked") as caught:
            echo(destination(port, site.client(crl=crl)))
    assert caught.value.code == "peer-tls"


def test_a_list_of_another_authority_lets_nobody_in(
    dcmtk: Dcmtk, site: TlsSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crl = site.foreign.revoke(tmp_path / "crl.pem")
    with caplog.at_level(logging.INFO), listening(site, crl=crl) as listener:
        assert call(dcmtk, listener, options(site.router, site.authority.ca)).returncode != 0
        wait_until(lambda: "unable to get certificate CRL" in caplog.text, "the refusal in the log")


def test_an_old_or_unreadable_list_of_revoked_certificates_is_an_error(site: TlsSite, tmp_path: Path) -> None:
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


def test_unusable_files_are_a_configuration_error(site: TlsSite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        server_context(site.server(ca=tmp_path / "absent.pem"))
    assert caught.value.code == "tls-files"
    with pytest.raises(ConfigError, match="key values mismatch"):
        server_context(site.server(key=site.viewer.key))
    for key, ok in ((site.node.key, True), (site.viewer.key, False)):
        settings = Settings(data_dir=tmp_path, node=NodeSection(tls=site.server(key=key)))
        (finding,) = (finding for finding in run_checks(settings) if finding.what == "tls of the node")
        assert finding.ok == ok
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        client_context(site.client(ca=site.node.key))
