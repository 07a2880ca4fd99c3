"""The auditor sees what it is there to see: a node that answers before the bytes are safe is found out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.chaos.auditor import audit
from tests.chaos.ledger import Ledger
from tests.chaos.site import open_site
from tests.chaos.traffic import Routers, make_series
from tests.support.peers import Orthanc, Postgres, RabbitMQ
from tests.support.ports import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

# Invariant 1 broken on purpose: 0000 is answered at once, file and row follow half a minute later.
_LIAR = """
import sys, threading
from uair_node import node
honest = node.Node._receive
node.Node._receive = lambda self, received: threading.Timer(30.0, honest, (self, received)).start()
from uair_node.cli import main
sys.argv = ["uair", *sys.argv[1:]]
main()
"""


def test_a_node_that_answers_before_the_bytes_are_safe_is_found_out(
    tmp_path: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    (series,) = make_series(tmp_path / "series", 1, seed=1)
    ledger = Ledger()
    with open_site(tmp_path, orthanc, rabbitmq, postgres) as site:
        site.deployment.kill()
        site.deployment.replace("node", [sys.executable, "-c", _LIAR])
        site.deployment.start("node")
        routers = Routers(site, [series], ledger, pause_s=0.0)
        routers.start()
        routers.wait(60.0)
        site.deployment.kill("node")
        time.sleep(0.5)
        found = audit(site, [series], ledger)
    assert len(ledger.taken) == len(series.paths), "the sender was told that all is well"
    assert len(found.lost) == len(series.paths) + 1, "every instance, and the case"


def test_the_auditor_names_what_is_missing(
    tmp_path: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    """A file removed from the spool and an object that is no result of ours are found."""
    (series,) = make_series(tmp_path / "series", 1, seed=2)
    ledger = Ledger()
    with open_site(tmp_path, orthanc, rabbitmq, postgres) as site:
        site.deployment.kill("gpu", "io")
        routers = Routers(site, [series], ledger, pause_s=0.0)
        routers.start()
        routers.wait(60.0)
        wait_until(lambda: [case["state"] for case in site.cases()] == ["READY"], "the case", 60.0)
        next((site.data / "spool").rglob("*.dcm")).unlink()
        orthanc.upload(series.paths[0].read_bytes())
        found = audit(site, [series], ledger)
    assert [len(found.lost), len(found.duplicate), len(found.stuck)] == [1, 1, 1]
