"""A department under test: the product's processes and their peers, each link through a proxy of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.chaos.proxy import Mode, Proxy
from tests.support.peers import Orthanc, Postgres, RabbitMQ
from tests.support.running_node import HOST, Deployment, hospital, quick
from tests.support.scripted import ScriptedPeer, scripted_peer
from uair_node.cases.database import Database
from uair_node.operations import reports

VERBS = ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT")
_ACCEPTING = 0x0000


@dataclass
class Site:
    """What faults act on.

    Attributes
    ----------
    deployment
        Node, GPU worker, IO worker.
    orthanc, rabbitmq, postgres
        The peers.
    routers, pacs, broker, database
        The links to the node, and from the product to the peers.
    refuser
        A second PACS behind the `pacs` link while `refusing` is set.
    """

    deployment: Deployment
    orthanc: Orthanc
    rabbitmq: RabbitMQ
    postgres: Postgres
    routers: Proxy
    pacs: Proxy
    broker: Proxy
    database: Proxy
    refuser: ScriptedPeer
    truth: Database
    data: Path
    refusing: bool = False

    def cases(self) -> list[dict[str, Any]]:
        """All cases with all details, read past the proxy."""
        with self.truth.transaction() as session:
            found = reports.find_cases(session, limit=10_000)
            return [reports.detail(session, case) for case in reversed(found)]

    def heal(self) -> None:
        """Let everything run and every link pass."""
        self.refusing = False
        for link in (self.routers, self.pacs, self.broker, self.database):
            link.set(Mode.PASS)
        for peer in (self.postgres, self.rabbitmq, self.orthanc):
            peer.start()


@contextmanager
def open_site(folder: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres) -> Iterator[Site]:
    """Start the product beside peers that run, and keep its processes alive as a supervisor would."""
    orthanc.delete_all()
    with ExitStack() as stack:
        direct = make_url(stack.enter_context(postgres.database()))
        refuser = stack.enter_context(scripted_peer([_ACCEPTING]))
        broker, database = Proxy(lambda: rabbitmq.port), Proxy(lambda: postgres.port)
        site: Site
        pacs = Proxy(lambda: refuser.port if site.refusing else orthanc.dicom_port)
        peer = {
            "name": "pacs",
            "ae_title": orthanc.aet,
            "host": HOST,
            "port": pacs.port,
            "timeout_s": 3.0,
            "withdraw": True,
        }
        settings = quick([peer], work={"lease_s": 5.0, "max_attempts": 12})
        settings["engine"] = {"members": 8, "max_lesions": 1}
        deployment = hospital(
            folder,
            settings,
            direct.set(port=database.port).render_as_string(hide_password=False),
            rabbitmq.url.replace(str(rabbitmq.port), str(broker.port)),
        )
        routers = Proxy(lambda: deployment.port)
        truth = Database(direct.render_as_string(hide_password=False))
        stack.callback(truth.close)
        for link in (routers, pacs, broker, database):
            stack.callback(link.close)
        site = Site(
            deployment,
            orthanc,
            rabbitmq,
            postgres,
            routers,
            pacs,
            broker,
            database,
            refuser,
            truth,
            folder / "data",
        )
        for verb in VERBS:
            orthanc.add_modality(verb, verb, HOST, deployment.port)
        deployment.start()
        stack.callback(deployment.stop)
        stack.enter_context(_supervised(deployment))
        yield site


@contextmanager
def _supervised(deployment: Deployment) -> Iterator[None]:
    """Start again whatever ended by itself, as ``restart: unless-stopped`` does."""
    ended = threading.Event()

    def tend() -> None:
        while not ended.wait(1.0):
            deployment.revive()

    thread = threading.Thread(target=tend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
