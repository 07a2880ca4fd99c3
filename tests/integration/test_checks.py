"""`uair check` against real peers: each fault in docs/administrators.md gets its code and remedy."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib.metadata import Distribution
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kombu import Connection, Queue
from pynetdicom.sop_class import CTImageStorage, Verification
from sqlalchemy import text

from dicom_config.model import Settings, load_settings
from tests.support.cases import publish_round, ready_case
from tests.support.certificates import Authority
from tests.support.checked_site import BROKER_LIMITS, CheckedSite, pacs_for, read_broker_limits
from tests.support.peers import Dcmtk, Postgres, RabbitMQ
from tests.support.ports import free_port, wait_until
from uair_node.cases import lifecycle
from uair_node.cases.database import Database
from uair_node.cases.database_outage import DATABASE_CODES
from uair_node.cases.tables import Delivery, DeliveryState, WorkItem
from uair_node.network.scp import DicomListener
from uair_node.patient_keys import SECRET_FILE, open_patient_keys
from uair_node.work.topology import DEAD_LETTER_EXCHANGE, EXCHANGE, QueueName, dead_letter_queue, work_queue
from workers.checks import altered_files

pytestmark = pytest.mark.integration

_FAULTS: dict[str, Callable[[CheckedSite], None]] = {}


@pytest.fixture(scope="module")
def pacs() -> Iterator[int]:
    with pacs_for() as port:
        yield port


@pytest.fixture(scope="module")
def migrated(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as url:
        database = Database(url)
        database.migrate()
        database.close()
        yield url


@pytest.fixture
def site(tmp_path: Path, migrated: str, rabbitmq: RabbitMQ, pacs: int) -> Iterator[CheckedSite]:
    with ExitStack() as stack:
        yield CheckedSite(tmp_path, migrated, rabbitmq, pacs, stack)
    with Connection(rabbitmq.url) as connection:
        for name in QueueName:
            for queue in (name.value, name.dead_letters):
                connection.channel().queue_delete(queue)


def _fault(code: str) -> Callable[[Callable[[CheckedSite], None]], Callable[[CheckedSite], None]]:
    def add(function: Callable[[CheckedSite], None]) -> Callable[[CheckedSite], None]:
        _FAULTS[code] = function
        return function

    return add


@_fault("config-value")
def _a_key_that_is_none(site: CheckedSite) -> None:
    site.values["intake"]["quite_s"] = 10


@_fault("disk-low")
def _disk_full(site: CheckedSite) -> None:
    site.values["intake"]["min_free_bytes"] = 1 << 60


@_fault("data-folder-unusable")
def _data_folder_is_a_file(site: CheckedSite) -> None:
    (site.folder / "data").write_text("")


@_fault("data-folder-open")
def _data_folder_of_an_earlier_version(site: CheckedSite) -> None:
    (site.folder / "data").mkdir()
    (site.folder / "data").chmod(0o755)


def _patient_secret(site: CheckedSite) -> Path:
    """The secret of the patient keys, which the database knows."""
    database, folder = site.own_database(), site.folder / "data"
    folder.mkdir(0o700)
    open_patient_keys(database, folder, None)
    return folder / SECRET_FILE


@_fault("patient-secret-missing")
def _patient_secret_lost(site: CheckedSite) -> None:
    _patient_secret(site).unlink()


@_fault("patient-secret-other")
def _patient_secret_exchanged(site: CheckedSite) -> None:
    _patient_secret(site).write_text("0" * 64)


@_fault("patient-secret-unusable")
def _patient_secret_cut_off(site: CheckedSite) -> None:
    _patient_secret(site).write_text("0123")


@_fault("database-unavailable")
def _database_stopped(site: CheckedSite) -> None:
    site.values["database"]["url"] = f"postgresql+psycopg://uair@127.0.0.1:{free_port()}/uair"


@_fault("migration-due")
def _schema_of_an_older_version(site: CheckedSite) -> None:
    with site.own_database().engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))


@_fault("schema-newer")
def _schema_of_a_newer_version(site: CheckedSite) -> None:
    with site.own_database().engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))


@_fault("clock-skew")
def _clock_wrong(site: CheckedSite) -> None:
    ahead = time.time() + 120
    site.patch.setattr("uair_node.operations.checks.servers.time", SimpleNamespace(time=lambda: ahead))


@_fault("broker-unreachable")
def _broker_stopped(site: CheckedSite) -> None:
    site.values["broker"]["url"] = f"amqp://guest:guest@127.0.0.1:{free_port()}//"


@_fault("broker-refuses")
def _broker_password_wrong(site: CheckedSite) -> None:
    site.values["broker"]["url"] = site.rabbitmq.url.replace("guest:guest", "guest:wrong")


@_fault("queue-arguments")
def _classic_queue(site: CheckedSite) -> None:
    with Connection(site.rabbitmq.url) as connection:
        queue = Queue(QueueName.GPU.value, EXCHANGE, QueueName.GPU.value, durable=True)
        queue.bind(connection.channel()).declare()


def _declare(site: CheckedSite, queue: Callable[[Settings], Queue]) -> None:
    with Connection(site.rabbitmq.url) as connection:
        queue(load_settings(site.write())).bind(connection.channel()).declare()


@_fault("no-worker")
def _worker_gone(site: CheckedSite) -> None:
    _declare(site, lambda settings: work_queue(QueueName.GPU, settings))


@_fault("work-waits")
def _work_that_no_worker_takes(site: CheckedSite) -> None:
    """Embedded mode: without a broker the database alone tells."""
    site.values["broker"]["url"] = ""
    with site.own_database().transaction() as session:
        ready_case(session, "1.9")
        item = session.query(WorkItem).one()
        item.not_before -= timedelta(minutes=2)


@_fault("dead-letters")
def _message_given_up(site: CheckedSite) -> None:
    _declare(site, lambda _: dead_letter_queue(QueueName.IO))
    with Connection(site.rabbitmq.url) as connection:
        connection.Producer().publish("7", exchange=DEAD_LETTER_EXCHANGE, routing_key=QueueName.IO.value)
        letters = Queue(QueueName.IO.dead_letters, channel=connection.channel())
        wait_until(lambda: letters.queue_declare(passive=True).message_count == 1, "the dead letter")


@_fault("consumer-timeout")
def _broker_loses_patience_too_soon(site: CheckedSite) -> None:
    site.patch.setattr(*BROKER_LIMITS, read_broker_limits)
    set_to = "application:set_env(rabbit, consumer_timeout, {})."
    site.rabbitmq.ctl("eval", set_to.format(60_000))
    site.stack.callback(lambda: site.rabbitmq.ctl("eval", set_to.format(14_400_000)))
    for name, value in site.rabbitmq.environment().items():
        site.patch.setenv(name, value)
    site.patch.setenv("PATH", f"{site.rabbitmq.scripts}:{os.environ['PATH']}")


@_fault("certificate-expired")
def _certificate_expired(site: CheckedSite) -> None:
    site.tls(days=-1)


@_fault("peer-certificate-expired")
def _certificate_of_the_pacs_expired(site: CheckedSite) -> None:
    authority = Authority(site.folder / "tls", "ca", days=25 * 365)
    theirs, ours = authority.issue("pacs", host="127.0.0.1", days=-12), authority.issue("ours", days=9999)
    options = ["+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.ca)]
    server = site.stack.enter_context(Dcmtk().storescp("PACS", options))
    files = {"certificate": ours.certificate, "key": ours.key, "ca": authority.ca}
    site.peer(port=server.port, tls={key: str(path) for key, path in files.items()})


@_fault("wide-network")
def _half_the_hospital_may_send(site: CheckedSite) -> None:
    site.values["node"]["allow"] = [{"networks": ["127.0.0.0/8", "172.16.0.0/12"]}]


@_fault("certificate-expires")
def _certificate_expires_soon(site: CheckedSite) -> None:
    site.tls(days=7)


@_fault("tls-files")
def _key_of_another_certificate(site: CheckedSite) -> None:
    site.values["node"]["tls"]["key"] = site.tls()["other_key"]


@_fault("crl-expired")
def _revocations_of_last_month(site: CheckedSite) -> None:
    site.revoke(days=-1)


@_fault("crl-unreadable")
def _revocations_in_another_form(site: CheckedSite) -> None:
    site.revoke().write_bytes(b"DER")


@_fault("weights-missing")
def _weights_missing(site: CheckedSite) -> None:
    site.values["engine"] = {"model": "vit_b", "checkpoint": str(site.folder / "absent.pth")}


@_fault("weights-altered")
def _weights_altered(site: CheckedSite) -> None:
    checkpoint = site.folder / "vit_b.pth"
    checkpoint.write_bytes(b"half of it")
    site.values["engine"] = {"model": "vit_b", "checkpoint": str(checkpoint), "checkpoint_sha256": "0" * 64}


@_fault("checkpoint-window")
def _checkpoint_that_may_be_medsam(site: CheckedSite) -> None:
    checkpoint = site.folder / "medsam_vit_b.pth"
    checkpoint.write_bytes(b"other tensors")
    site.values["engine"] = {"model": "vit_b", "checkpoint": str(checkpoint)}


@_fault("no-cuda")
def _no_graphics_card(site: CheckedSite) -> None:
    site.values["engine"] = {"device": "cuda"}
    if torch.cuda.is_available():
        pytest.skip("this machine has one")


@_fault("peer-unreachable")
def _pacs_down(site: CheckedSite) -> None:
    site.peer(port=free_port())


@_fault("peer-rejects")
def _pacs_does_not_know_the_title(site: CheckedSite) -> None:
    site.peer(ae_title="OTHER")


@_fault("peer-refuses-class")
def _pacs_takes_no_segmentations(site: CheckedSite) -> None:
    site.peer(port=site.stack.enter_context(pacs_for(Verification, CTImageStorage)))


@_fault("no-destination")
def _no_pacs_configured(site: CheckedSite) -> None:
    site.values["destinations"] = []


@_fault("port-taken")
def _another_program_has_our_port(site: CheckedSite) -> None:
    taken = site.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    site.values["node"]["port"] = taken.getsockname()[1]


@_fault("port-unavailable")
def _address_of_another_machine(site: CheckedSite) -> None:
    site.values["node"]["host"] = "192.0.2.1"


@_fault("delivery-parked")
def _pacs_refused_for_good(site: CheckedSite) -> None:
    with site.own_database().transaction() as session:
        publish_round(session, ready_case(session), ["pacs"])
        for delivery in session.query(Delivery):
            delivery.state, delivery.reason = DeliveryState.PARKED, "A900"


@_fault("cases-failed")
def _work_given_up(site: CheckedSite) -> None:
    with site.own_database().transaction() as session:
        case = ready_case(session)
        lifecycle.start_computing(session, case, actor="worker")
        lifecycle.fail(session, case, code="work-failed", cause="No.", remedy="Correct it.")


@pytest.mark.parametrize("code", _FAULTS)
def test_each_fault_is_named_with_its_mend(site: CheckedSite, code: str) -> None:
    _FAULTS[code](site)
    status, found = site.check()
    assert code in found
    assert found[code].sentence
    assert found[code].remedy
    unexpected = [finding for other, finding in found.items() if other not in (code, "node-not-running")]
    assert not unexpected, f"a fault must not be taken for another: {unexpected}"
    expected = 2 if code.startswith("config") else 0 if found[code].ok else 1
    assert status == expected


def test_a_site_that_is_well_has_no_fault(site: CheckedSite) -> None:
    status, found = site.check()
    assert status == 0
    assert set(found) == {"node-not-running"}


def test_a_node_that_runs_is_recognised(site: CheckedSite) -> None:
    settings = load_settings(site.write())
    listener = DicomListener(settings.node, lambda _: None)
    listener.start()
    site.stack.callback(listener.stop)
    assert site.check() == (0, {})


def test_scripts_get_records_and_a_status(site: CheckedSite) -> None:
    """The command itself, as a script calls it."""
    site.tls(days=-1)
    program = str(Path(sys.executable).with_name("uair"))
    done = subprocess.run(
        [program, "check", "--json", "--config", str(site.write())],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {load["what"]: load for load in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["destination pacs"]["ok"]
    assert (found["tls of the node"]["ok"], found["tls of the node"]["code"]) == (
        False,
        "certificate-expired",
    )


def test_installed_weights_are_compared_with_what_was_installed(tmp_path: Path) -> None:
    """As a wheel's RECORD lists them."""
    weights = tmp_path / "workers" / "small.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"weights").digest()).rstrip(b"=").decode()
    info = tmp_path / "uair_node-0.1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(f"workers/small.safetensors,sha256={digest},7\n")
    package = Distribution.at(info)
    assert list(altered_files(package)) == []
    weights.write_bytes(b"weighTs")
    assert list(altered_files(package)) == [weights]
    weights.unlink()
    assert list(altered_files(package)) == [weights]


def test_every_finding_is_explained_to_administrators() -> None:
    page = (Path(__file__).parents[2] / "docs" / "administrators.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    sources = (Path(__file__).parents[2] / "uair_node" / "operations" / "checks").glob("*.py")
    named = {code for path in sources for code in _codes(path.read_text("utf-8"))}
    assert named, "the checks are found"
    assert set(_FAULTS) | named | DATABASE_CODES <= explained


def _codes(source: str) -> set[str]:
    """The codes that `fault` and `warning` are called with."""
    return set(re.findall(r'(?:fault|warning)\(\s*[^,()]+,\s*"([a-z-]+)"', source))
