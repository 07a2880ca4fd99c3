"""How the department is: the strip on each page, queues without a worker, finals that are not delivered."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from dicom_config.model import Settings, Verb
from tests.support.cases import ready_case
from tests.support.console import Site
from uair_node.cases.queue import QueuePosition, places
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, ResultKind, WorkItem, utc_now
from uair_node.console import check_schedule
from uair_node.console.check_schedule import CheckSchedule
from uair_node.console.figures import Broker, Remembered
from uair_node.console.serve import Pulse, make_server
from uair_node.console.signs import Sign, department_signs
from uair_node.console.templating import volumes
from uair_node.delivery.outstanding import final_outstanding
from uair_node.operations.checks.finding import Finding, fault, good, warning
from uair_node.selection.service import Evidence, select_by_number
from uair_node.work.queues import QueueView


def _signs(site: Site, **kept: Any) -> dict[str, Sign]:
    return {sign.label: sign for sign in department_signs(site.context, kept)}


def _deliver(site: Site, state: DeliveryState, *, minutes: float = 0.0) -> None:
    """Let each object of the first case be in a state at a destination."""
    with site.context.database.transaction() as session:
        session.query(Delivery).delete()
        created = utc_now() - timedelta(minutes=minutes)
        session.add_all(
            Delivery(result_id=result.id, destination="pacs", state=state, created_at=created)
            for result in session.query(Result)
        )


def test_each_page_says_how_the_department_is(site: Site, viewer: TestClient) -> None:
    for path in ("/cases", "/cases/1", "/queues", "/destinations", "/refused", "/checks", "/configuration"):
        assert 'id="signs"' in viewer.get(path).text
    assert 'id="signs"' not in viewer.get("/login").text
    signs = _signs(site)
    assert set(signs) == {"Database", "GPU worker", "Destinations", "Last image", "Oldest case", "Disk"}
    assert (signs["Destinations"].words, signs["Destinations"].tone) == ("nothing waits", "good")
    assert signs["Last image"].words.endswith(" ago")


@pytest.mark.parametrize(
    ("state", "minutes", "words", "tone"),
    [
        (DeliveryState.PENDING, 1, "objects on their way", "waits"),
        (DeliveryState.PENDING, 60, "objects wait 1 h", "bad"),
        (DeliveryState.PARKED, 1, "11 refused", "bad"),
        (DeliveryState.CONFIRMED, 60, "nothing waits", "good"),
    ],
)
def test_destinations_are_good_only_while_nothing_waits(
    site: Site, state: DeliveryState, minutes: float, words: str, tone: str
) -> None:
    _deliver(site, state, minutes=minutes)
    sign = _signs(site)["Destinations"]
    assert (sign.words, sign.tone) == (words, tone)


def test_a_queue_that_nobody_serves_has_no_estimate(site: Site, viewer: TestClient) -> None:
    with site.context.database.transaction() as session:
        case = ready_case(session, "1.9")
        case_id = case.id
        item = session.query(WorkItem).filter_by(case_id=case_id, open=True).one()
        assert places(session)[case_id] == QueuePosition(1, None)
        item.not_before -= timedelta(minutes=5)
        assert places(session)[case_id] == QueuePosition(1, None, unmanned=True)
    sign = _signs(site)["GPU worker"]
    assert (sign.words, sign.tone) == ("none, 1 wait", "bad")
    assert "no worker" in viewer.get("/cases").text
    with site.context.database.transaction() as session:
        item = session.query(WorkItem).filter_by(case_id=case_id, open=True).one()
        item.lease_owner, item.lease_until = "host:1:x", utc_now() + timedelta(minutes=1)
    assert _signs(site)["GPU worker"].words == "computes 1, 0 wait"


def _broker(site: Site, broker: Broker) -> Sign:
    answered = Remembered(lasts_s=float("inf"), _at=0.0, _broker=broker)
    answered.latest = lambda _settings: broker  # type: ignore[method-assign, assignment]
    return _signs(site, broker=answered)["Broker"]


@pytest.mark.parametrize(
    ("broker", "words", "tone"),
    [
        (Broker(up=False, sentence="away"), "does not answer", "bad"),
        (Broker([QueueView("uair.gpu", 0, 1), QueueView("uair.io", 0, 1)]), "answers", "good"),
        (Broker([QueueView("uair.gpu", 0, 1), QueueView("uair.io", 4, 0)]), "a queue without worker", "bad"),
        (Broker([QueueView("uair.gpu", 0, 1)], ["uair.io"]), "a queue without worker", "bad"),
    ],
)
def test_the_broker_is_good_only_with_a_worker_at_each_queue(
    site: Site, broker: Broker, words: str, tone: str
) -> None:
    sign = _broker(site, broker)
    assert (sign.words, sign.tone) == (words, tone)


def test_an_accepted_case_is_green_only_once_its_final_objects_are_delivered(
    site: Site, viewer: TestClient
) -> None:
    def missing() -> str:
        with site.context.database.transaction() as session:
            return final_outstanding(session, [session.get_one(Case, 1)]).get(1, "")

    assert missing() == "", "it is not accepted"
    with site.context.database.transaction() as session:
        select_by_number(session, Evidence(Verb.ACCEPT, "test"), session.get_one(Case, 1), ReaderChoice(2))
    assert missing() == "final not written"
    with site.context.database.transaction() as session:
        session.query(WorkItem).filter_by(case_id=1).update({"open": False})
        session.query(Result).first().kind = ResultKind.FINAL  # type: ignore[union-attr]
    found = []
    for state in DeliveryState:
        _deliver(site, state)
        found.append(missing())
    assert found == ["final not delivered", "final not delivered", "", "final refused"]
    for path in ("/cases", "/cases/1"):
        assert "ACCEPTED, final refused" in viewer.get(path).text


def test_a_pick_shows_pictures_and_volumes(site: Site, operator: TestClient) -> None:
    page = operator.get("/cases/1/pick").text
    with site.context.database.transaction() as session:
        case = session.get_one(Case, 1)
        assert case.current_round is not None
        shown = [volumes(candidate.volumes_ml) for candidate in case.current_round.candidates]
    assert len(shown) == 4
    for k, words in enumerate(shown, start=1):
        assert f'src="/cases/1/rounds/1/{k}/thumbnail.jpg"' in page
        assert words in page
    assert operator.get("/cases/1/rounds/1/4/thumbnail.jpg").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"liver": 1520.4, "lesions": [10.0, 4.2]}, "liver 1520 ml, 2 lesions 14.2 ml"),
        ({"liver": 1520.4, "lesions": [4.2]}, "liver 1520 ml, 1 lesion 4.2 ml"),
        ({"liver": 1520.4, "lesions": []}, "liver 1520 ml, no lesion"),
        ({}, ""),
    ],
)
def test_volumes_are_said_in_words(found: dict[str, Any], words: str) -> None:
    assert volumes(found) == words


def test_checks_run_by_themselves_and_a_warning_is_not_green(
    site: Site, viewer: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Checks" not in _signs(site), "the first check is under way"
    assert "is under way" in viewer.get("/checks").text
    found = [good("disk", "9 GiB free")]
    monkeypatch.setattr(check_schedule, "run_checks", lambda _settings, with_workers: [*found])
    schedule = CheckSchedule(site.context.settings, site.console.kept)
    seen = []
    for more in (
        None,
        warning("tls", "certificate-expires", "soon", "Renew it"),
        fault("disk", "a", "b", "c"),
    ):
        found += [more] if more else []
        schedule.check()
        sign = _signs(site, **site.console.kept)["Checks"]
        seen.append((sign.words, sign.tone))
    del found[1:]
    with caplog.at_level("INFO"):
        schedule.check()
    assert seen == [("all well", "good"), ("1 warning", "waits"), ("1 fault, 1 warning", "bad")]
    logged = [record.getMessage() for record in caplog.records if record.name == check_schedule.__name__]
    assert logged[:2] == [
        "check: certificate-expires: tls: soon. Renew it", "check: a: disk: b. c"
    ]  # fmt: skip
    assert sorted(logged[2:]) == ["check: a: disk is over", "check: certificate-expires: tls is over"]
    assert "all well" in viewer.get("/cases").text


def test_a_console_that_serves_checks_at_its_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def run_checks(_settings: Settings, *, with_workers: bool) -> list[Finding]:
        assert not with_workers, "torch stays out of the console"
        asked.set()
        return []

    monkeypatch.setattr(check_schedule, "run_checks", run_checks)
    make_server(site.context, Pulse())
    assert asked.wait(30)
