"""A site on which `uair check` finds no fault, and whose parts a test can break."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pynetdicom import AE

from tests.support.certificates import Authority
from tests.support.peers import RabbitMQ, need
from tests.support.ports import answers, free_port, wait_until
from uair_node.cases.database import Database
from uair_node.operations.checks import Finding, Level, checked, servers

# Each call of rabbitmqctl takes seconds: only the test of the broker's limits reads them.
BROKER_LIMITS = (servers, "_read_consumer_timeout_ms")
read_broker_limits = servers._read_consumer_timeout_ms


class CheckedSite:
    """A configuration on which the check finds no fault, and whose parts a test can break."""

    def __init__(self, folder: Path, url: str, rabbitmq: RabbitMQ, pacs: int, stack: ExitStack) -> None:
        self.folder, self.stack, self.rabbitmq = folder, stack, rabbitmq
        self.config = folder / "site.yaml"
        self.patch = stack.enter_context(pytest.MonkeyPatch.context())
        self.patch.setattr(*BROKER_LIMITS, lambda: None)
        self.values: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "node": {"port": free_port()},
            "intake": {"min_free_bytes": 1 << 20},
            "database": {"url": url},
            "broker": {"url": rabbitmq.url},
            "destinations": [
                {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs, "timeout_s": 20}
            ],
        }

    def peer(self, **changes: Any) -> None:
        self.values["destinations"][0].update(changes)

    def own_database(self) -> Database:
        """A database that only this test uses: a fresh one, in a file."""
        url = self.values["database"]["url"] = f"sqlite:///{self.folder / 'own.sqlite'}"
        database = Database(url)
        self.stack.callback(database.close)
        database.migrate()
        return database

    def tls(self, days: int = 25 * 365) -> dict[str, str]:
        """TLS files of the node. Its certificate is valid for `days` more days."""
        authority = Authority(self.folder / "tls", "ca", days=25 * 365)
        node, other = authority.issue("node", days=days), authority.issue("other")
        files = {"certificate": node.certificate, "key": node.key, "ca": authority.ca}
        self.values["node"]["tls"] = {key: str(path) for key, path in files.items()}
        return {**self.values["node"]["tls"], "other_key": str(other.key)}

    def revoke(self, days: int = 1) -> Path:
        """A list of revoked certificates, whose next update is due in `days` days."""
        self.tls()
        crl = Authority(self.folder / "tls", "ca").revoke(self.folder / "tls" / "crl.pem", days=days)
        self.values["node"]["tls"]["crl"] = str(crl)
        return crl

    def write(self) -> Path:
        self.config.write_text(yaml.safe_dump(self.values), "utf-8")
        return self.config

    def check(self) -> tuple[int, dict[str, Finding]]:
        """Run the check; return its exit status, and its faults and warnings by code."""
        findings, status = checked(self.write())
        return status, {finding.code: finding for finding in findings if finding.level != Level.OK}


@contextmanager
def pacs_for(*sop_classes: str) -> Iterator[int]:
    """DCMTK's archive, which knows our AE title and its own; or a listener for `sop_classes` only."""
    if sop_classes:
        entity = AE("PACS")
        for sop_class in sop_classes:
            entity.add_supported_context(sop_class)
        server = entity.start_server(("127.0.0.1", 0), block=False)
        yield server.server_address[1]
        server.shutdown()
        return
    (program,) = need("dcmqrscp")
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uair-check-")))
        config = folder / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nPACS {folder} RW (9, 1024mb) ANY\nAETable END\n"
        )
        process = subprocess.Popen(
            [str(program), "--allow-shutdown", "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_until(lambda: answers(port), "dcmqrscp")
        yield port
