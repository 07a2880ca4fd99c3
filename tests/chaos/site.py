"""A department under test: the product's processes and their peers. Each link has a proxy of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy.engine import make_url

from dicom_config.model import load_settings
from tests.chaos.proxy import Mode, Proxy
from tests.support.peers import Orthanc, Postgres, RabbitMQ
from tests.support.running_node import HOST, Deployment, hospital, quick
from tests.support.scripted import ScriptedPeer, scripted_peer
from uair_node.cases.database import Database
from uair_node.context import Context
from uair_node.operations import reports
from uair_node.operations.case_list import find_cases
from uair_node.storage.store import Store

VERBS = ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT")
DESTINATION = "pacs"
_ACCEPTING = 0x0000
LEASE_S = 5.0


@dataclass
class Site:
    """The systems that faults act on.

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
    truth, data, context
        The database without its proxy, the data folder, and a context of both.
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
    context: Context
    refusing: bool = False

    def cases(self) -> list[dict[str, Any]]:
        """All cases with all details, read without the proxy."""
        with self.truth.transaction() as session:
            found = find_cases(session, limit=10_000)
            return [reports.detail(session, case) for case in reversed(found)]

    def heal(self) -> None:
        """Let all processes run, let every link pass, and set all clocks right."""
        self.refusing = False
        for name in self.deployment.processes:
            self.deployment.set_clock(name, 0)
            self.deployment.resume(name)
        for link in (self.routers, self.pacs, self.broker, self.database):
            link.set(Mode.PASS)
        for peer in (self.postgres, self.rabbitmq, self.orthanc):
            peer.start()


@contextmanager
def open_site(
    folder: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres, *, own_clocks: bool = False
) -> Iterator[Site]:
    """Start the product with running peers, and keep its processes alive as a supervisor would.

    With `own_clocks` each process has a clock that can be set.
    """
    orthanc.delete_all()
    with ExitStack() as stack:
        direct = make_url(stack.enter_context(postgres.database()))
        refuser = stack.enter_context(scripted_peer([_ACCEPTING]))
        broker, database = Proxy(lambda: rabbitmq.port), Proxy(lambda: postgres.port)
        site: Site
        pacs = Proxy(lambda: refuser.port if site.refusing else orthanc.dicom_port)
        peer = {
            "name": DESTINATION,
            "ae_title": orthanc.aet,
            "host": HOST,
            "port": pacs.port,
            "timeout_s": 3.0,
            "withdraw": True,
        }
        settings = quick([peer], work={"lease_s": LEASE_S, "max_attempts": 12})
        settings["engine"] = {"members": 8, "max_lesions": 1}
        deployment = hospital(
            folder,
            settings,
            direct.set(port=database.port).render_as_string(hide_password=False),
            rabbitmq.url.replace(str(rabbitmq.port), str(broker.port)),
        )
        routers = Proxy(lambda: deployment.port)
        if own_clocks:
            deployment.own_clocks(folder)
        url = direct.render_as_string(hide_password=False)
        truth = Database(url)
        stack.callback(truth.close)
        with patch.dict(os.environ, {**deployment.environment, "UAIR_DATABASE__URL": url}):
            context = Context(load_settings(deployment.config), truth, Store(folder / "data"))
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
            context,
        )
        for verb in VERBS:
            orthanc.add_modality(verb, verb, HOST, deployment.port)
        deployment.start()
        stack.callback(deployment.stop)
        stack.enter_context(_supervised(deployment))
        yield site


@contextmanager
def _supervised(deployment: Deployment) -> Iterator[None]:
    """Restart processes that ended by themselves, as ``restart: unless-stopped`` does."""
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
