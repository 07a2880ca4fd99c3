"""The queue's places and estimates, queues and workers, GPUs, destinations."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from kombu import Connection
from sqlalchemy.orm import Session

from dicom_config.model import Verb, load_settings
from tests.support.cases import publish_round, ready_case
from tests.support.console import OPERATOR, VIEWER, Site, console_site, submit
from tests.support.intake import context_in
from tests.support.peers import RabbitMQ
from tests.support.ports import free_port, wait_until
from tests.support.scripted import scripted_peer
from tests.support.server import guarded
from uair_node.cases import lifecycle
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.queue import QueuePosition, places
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import WorkItem, WorkKind, utc_now
from uair_node.console.check_schedule import keep_findings
from uair_node.console.figures import ask_broker, due_work
from uair_node.context import Context, open_context
from uair_node.operations.checks.finding import fault, good
from uair_node.operations.gpu import Gpu, parse_gpus
from uair_node.selection.service import Evidence, select_by_number
from uair_node.supervisor import uair_command
from uair_node.work.topology import QueueName


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as made:
        yield made


def test_places_follow_the_order_of_claiming_and_times_that_of_the_past(context: Context) -> None:
    with context.database.transaction() as session:
        for n, seconds in enumerate((30.0, 40.0, 90.0)):
            done = ready_case(session, f"1.1.{n}")
            publish_round(session, done)
            assert done.current_round
            done.current_round.compute_seconds = seconds
        assert places(session) == {}, "nothing is due"
        first, second = ready_case(session, "1.2.1"), ready_case(session, "1.2.2")
        select_by_number(session, Evidence(Verb.PICK, "test"), done, ReaderChoice(1))
        found = places(session)
        assert list(found) == [done.id, first.id, second.id], "a reader waits for a refinement"
        assert [entry.position for entry in found.values()] == [1, 2, 3]
        assert [entry.seconds for entry in found.values()] == [40.0, 80.0, 120.0], "the median, one worker"
        _hold(session, [done.id, first.id])
        assert places(session) == {
            done.id: QueuePosition(0, 20.0),
            first.id: QueuePosition(0, 20.0),
            second.id: QueuePosition(1, 60.0),
        }, "two workers share what is ahead"


def _hold(session: Session, case_ids: list[int]) -> None:
    for item in session.query(WorkItem).filter(
        WorkItem.kind == WorkKind.COMPUTE, WorkItem.open, WorkItem.case_id.in_(case_ids)
    ):
        item.lease_owner, item.lease_until = f"host:{item.id}:x", utc_now() + timedelta(seconds=30)


def test_without_a_past_there_is_no_estimate(context: Context) -> None:
    with context.database.transaction() as session:
        case = ready_case(session)
        assert places(session) == {case.id: QueuePosition(1, None)}


def test_due_work_is_counted_by_what_holds_it_up(context: Context) -> None:
    with context.database.transaction() as session:
        cases = [ready_case(session, f"1.2.{n}") for n in range(3)]
        _hold(session, [cases[0].id])
        late = session.query(WorkItem).filter_by(case_id=cases[1].id).one()
        late.not_before, late.cause = utc_now() + timedelta(seconds=60), "Out of memory."
        (row,) = [item for item in due_work(session) if not item.idle]
    assert (row.kind, row.held, row.waiting, row.postponed) == (WorkKind.COMPUTE, 1, 1, 1)
    assert row.causes == ["Out of memory."]
    assert row.oldest_s is not None


def test_a_broker_that_is_away_is_a_sentence_not_an_error(tmp_path: Path) -> None:
    broker = {"url": f"amqp://guest:br0ker-secret@127.0.0.1:{free_port()}//"}
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'u.sqlite'}", broker=broker) as context:
        site = console_site(context)
        with site.visitor() as client:
            page = site.enter(client, VIEWER).get("/queues")
    assert page.status_code == 200
    assert "The broker does not answer (" in page.text
    assert "Nothing is lost" in page.text
    assert "br0ker-secret" not in page.text


@pytest.mark.integration
def test_queues_and_workers_are_what_broker_and_workers_say(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump({"data_dir": "data", "broker": {"url": rabbitmq.url}}))
    context = open_context(load_settings(config), migrate=True)
    _delete_queues(context)
    site = console_site(context)
    with site.visitor() as client:
        site.enter(client, VIEWER)
        told = ask_broker(context.settings)
        assert told.up
        named = sorted([*(queue.name for queue in told.queues), *told.absent])
        assert named == ["uair.gpu", "uair.gpu.XQ", "uair.io", "uair.io.XQ"]
        assert "No worker answered." in client.get("/queues").text
        log = tmp_path / "worker.log"
        command = uair_command("worker", "--queue", "io", "--config", str(config))
        worker = guarded(command, log, signal.SIGTERM, os.environ)
        try:
            wait_until(lambda: bool(ask_broker(context.settings).workers), f"the worker; see {log}", 90.0)
            told = ask_broker(context.settings)
            shown = re.compile(r"uair\.io\.\d+@")
            wait_until(lambda: bool(shown.search(client.get("/queues").text)), "the worker on the page", 20.0)
        finally:
            worker.terminate()
            worker.wait(30.0)
            assert worker.stdin
            worker.stdin.close()
            _delete_queues(context)
    assert [(worker["name"][:8], worker["done"], worker["active"]) for worker in told.workers] == [
        ("uair.io.", 0, 0)
    ]
    assert {queue.name: queue.consumers for queue in told.queues}["uair.io"] == 1
    context.database.close()


def _delete_queues(context: Context) -> None:
    with Connection(context.settings.broker.url) as connection:
        for queue in QueueName:
            for name in (queue.value, queue.dead_letters):
                connection.default_channel.queue_delete(name)


def test_gpus_are_read_from_the_drivers_tool() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 1024, 81559, 37\n1, NVIDIA A2, 5, 15356, [N/A]\nNo devices were found\n"
    assert parse_gpus(text) == [
        Gpu(0, "NVIDIA H100 80GB HBM3", 1024, 81559, 37),
        Gpu(1, "NVIDIA A2", 5, 15356, None),
    ]


def test_a_destination_is_asked_and_its_answer_shown(tmp_path: Path) -> None:
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "timeout_s": 2}
    with scripted_peer([0x0000]) as known:
        destinations = [
            {**peer, "name": "up", "port": known.port},
            {**peer, "name": "a/b?<i>", "port": free_port()},
        ]
        url = f"sqlite:///{tmp_path / 'u.sqlite'}"
        with context_in(tmp_path / "data", url, destinations=destinations) as context:
            site = console_site(context)
            with site.visitor() as client:
                site.enter(client, OPERATOR)
                submit(client, "/destinations/up/echo", page="/destinations")
                assert "answers C-ECHO" in client.get("/destinations").text
                assert "<i>" not in client.get("/destinations").text
                submit(client, "/destinations/a%2Fb%3F%3Ci%3E/echo", page="/destinations")
                assert "does not answer at 127.0.0.1" in client.get("/destinations").text
                assert submit(client, "/destinations/none/echo", page="/destinations").status_code == 404
            assert _echoes(site) == [("destination up", "done"), ("destination a/b?<i>", "no answer")]


def test_a_destination_shows_what_the_last_check_found_wrong_with_it(tmp_path: Path) -> None:
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "timeout_s": 2, "port": 104}
    destinations = [{**peer, "name": "pacs"}, {**peer, "name": "archive"}]
    with context_in(
        tmp_path / "data", f"sqlite:///{tmp_path / 'u.sqlite'}", destinations=destinations
    ) as context:
        site = console_site(context)
        found = [
            fault("tls of pacs", "certificate-expired", "our certificate expired", "Renew it."),
            good("destination pacs", "answers"),
            fault("destination archive", "peer-tls", "TLS fails", "Check it."),
        ]
        keep_findings(site.console.kept, found)
        with site.visitor() as client:
            page = site.enter(client, VIEWER).get("/destinations").text
    pacs, archive = page[page.index(">pacs<") :].split(">archive<")
    assert "certificate-expired</strong> our certificate expired. Renew it." in pacs
    assert "peer-tls" not in pacs
    assert "peer-tls</strong> TLS fails. Check it." in archive


def _echoes(site: Site) -> list[tuple[str, str]]:
    with site.context.database.transaction() as session:
        return [
            (record.subject, record.outcome)
            for record in session.query(AccessRecord).filter_by(action="echo")
        ]


def test_checks_are_made_on_request_and_kept(tmp_path: Path) -> None:
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'data' / 'uair.sqlite'}") as context:
        site = console_site(context)
        with site.visitor() as client:
            site.enter(client, OPERATOR)
            submit(client, "/checks")
            page = client.get("/checks").text
    assert "none configured" in page
    assert "need attention" in page


def test_a_cancelled_case_drops_what_is_computed_for_it(context: Context) -> None:
    with context.database.transaction() as session:
        case = ready_case(session)
        lifecycle.cancel(session, case, actor="test")
        assert case.code == "cancelled"
        assert not session.query(WorkItem).filter_by(case_id=case.id, open=True).count()
