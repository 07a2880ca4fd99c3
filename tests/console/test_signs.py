"""The department's state: the strip on each page, queues without a worker, finals that are not delivered."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dicom_config.model import Settings, Verb
from tests.support.cases import ready_case
from tests.support.console import Site
from uair_node.cases.queue import QueuePosition, places
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, ResultKind, WorkItem, utc_now
from uair_node.console import check_schedule, figures
from uair_node.console.check_schedule import CheckSchedule
from uair_node.console.figures import Broker, Remembered
from uair_node.console.serve import Pulse, make_server
from uair_node.console.signs import Sign, department_signs
from uair_node.console.templating import volumes
from uair_node.delivery.outstanding import final_outstanding
from uair_node.operations.checks.finding import Finding, fault, good, warning
from uair_node.selection.service import Evidence, select_by_number
from uair_node.work.queues import QueueView
from uair_node.work.topology import QueueName


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
    assert (sign.words, sign.tone) == ("takes no work, 1 for 5 min", "bad")
    assert "1 work item waits, the oldest since" in viewer.get("/queues").text
    assert "no worker" in viewer.get("/cases").text
    with site.context.database.transaction() as session:
        item = session.query(WorkItem).filter_by(case_id=case_id, open=True).one()
        item.lease_owner, item.lease_until = "host:1:x", utc_now() + timedelta(minutes=1)
    assert _signs(site)["GPU worker"].words == "computes 1"
    assert "Claim ends in" in viewer.get("/queues").text


_BOTH = (QueueView("uair.gpu", 0, 1), QueueView("uair.io", 0, 1))
_NO_GPU = (QueueView("uair.gpu", 0, 0), QueueView("uair.io", 0, 1))


class _Answers(Remembered):
    """A broker that gives one answer after the other; the last one stays."""

    def __init__(self, patch: pytest.MonkeyPatch, *answers: Broker) -> None:
        super().__init__(lasts_s=-1.0)
        left = list(answers)
        patch.setattr(figures, "ask_broker", lambda _settings: left.pop(0) if len(left) > 1 else left[0])

    def latest(self, settings: Settings) -> Broker:
        """Ask at once, not in a thread."""
        return self.ask(settings)


@pytest.mark.parametrize(
    ("broker", "label", "words", "tone"),
    [
        (Broker(up=False, sentence="away"), "Broker", "does not answer", "bad"),
        (Broker(_BOTH), "Broker", "answers", "good"),
        (Broker(_BOTH), "GPU worker", "nothing to compute", "plain"),
        (Broker(_NO_GPU), "GPU worker", "none for 0 s", "bad"),
        (Broker([_BOTH[0], QueueView("uair.io", 4, 0)]), "IO worker", "none for 0 s", "bad"),
        (Broker(_BOTH[:1], ["uair.io"]), "IO worker", "none for 0 s", "bad"),
    ],
)
def test_the_broker_names_the_worker_that_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch, broker: Broker, label: str, words: str, tone: str
) -> None:
    with site.context.database.transaction() as session:
        session.query(WorkItem).update({"open": False})
    signs = _signs(site, broker=_Answers(monkeypatch, broker))
    assert (signs[label].words, signs[label].tone) == (words, tone)


def test_a_worker_that_is_gone_is_said_at_once_with_the_time_and_what_to_do(
    site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim still holds the case: no page says that it is being computed."""
    with site.context.database.transaction() as session:
        session.query(WorkItem).update({"open": False})
        case_id = ready_case(session, "1.9").id
        item = session.query(WorkItem).filter_by(case_id=case_id, open=True).one()
        item.lease_owner, item.lease_until = "host:1:x", utc_now() + timedelta(seconds=20)
    site.console.kept["broker"] = _Answers(monkeypatch, Broker(_BOTH))
    assert "being computed" in viewer.get(f"/cases/{case_id}").text
    site.console.kept["broker"] = _Answers(monkeypatch, Broker(_NO_GPU))
    sign = _signs(site, **site.console.kept)["GPU worker"]
    assert (sign.words, sign.tone) == ("none for 0 s, 1 waits", "bad")
    for path in ("/cases", f"/cases/{case_id}"):
        page = viewer.get(path).text
        assert ">no worker<" in page
        assert "being computed" not in page
    page = viewer.get("/queues").text
    assert "No worker has served <code>uair.gpu</code> for" in page
    assert "uair-gpu-worker" in page, "the unit is named"


def test_the_time_of_a_worker_that_is_gone_is_that_of_the_first_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(datetime(2026, 1, 1, 3, minute) for minute in range(4))
    monkeypatch.setattr(figures, "utc_now", lambda: next(moments))
    broker = _Answers(monkeypatch, Broker(_NO_GPU), Broker(_NO_GPU), Broker(_BOTH), Broker(_NO_GPU))
    seen = [broker.ask(site.context.settings).alone_since for _ in range(4)]
    first = {QueueName.GPU: datetime(2026, 1, 1, 3, 0)}
    assert seen[:3] == [first, first, {}]
    assert seen[3][QueueName.GPU] > first[QueueName.GPU], "gone again"


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
    assert seen == [("all well", "good"), ("certificate-expires", "waits"), ("1 fault, 1 warning", "bad")]
    logged = [record.getMessage() for record in caplog.records if record.name == check_schedule.__name__]
    assert logged[:2] == [
        "check: certificate-expires: tls: soon. Renew it", "check: a: disk: b. c"
    ]  # fmt: skip
    assert sorted(logged[2:]) == ["check: a: disk is over", "check: certificate-expires: tls is over"]
    assert "all well" in viewer.get("/cases").text


class _Clock(threading.Event):
    """An event that passes the time instead of waiting; it ends the thread after some pauses."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self._most = pauses

    def wait(self, timeout: float | None = None) -> bool:
        """Note the pause."""
        self.pauses.append(timeout)
        if len(self.pauses) == self._most:
            raise SystemExit
        return False


def test_the_next_check_is_soon_only_while_something_is_wrong(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = fault("disk", "a", "b", "c")
    found = iter([[wrong], [wrong], [good("disk", "9 GiB free")], [wrong]])
    monkeypatch.setattr(check_schedule, "run_checks", lambda _settings, with_workers: next(found))
    clock = site.console.kept["check wanted"] = _Clock(pauses=4)
    with pytest.raises(SystemExit):
        CheckSchedule(site.context.settings, site.console.kept)._run()
    assert clock.pauses == [60.0, 60.0, 900.0, 60.0]


def test_a_part_that_turns_bad_is_checked_at_once(site: Site, viewer: TestClient) -> None:
    wanted = site.console.kept["check wanted"] = threading.Event()
    viewer.get("/checks")
    assert not wanted.is_set()
    _deliver(site, DeliveryState.PARKED)
    viewer.get("/checks")
    assert wanted.is_set(), "the strip shows a new fault"
    wanted.clear()
    viewer.get("/checks")
    assert not wanted.is_set(), "it is known"


@pytest.mark.parametrize(("age_s", "known"), [(50.0, True), (70.0, False)])
def test_an_old_answer_of_the_broker_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, age_s: float, known: bool
) -> None:
    """The first page after an hour without a visitor does not show the broker of an hour ago."""
    monkeypatch.setattr(Remembered, "_ask_beside", lambda _self, _settings: None)
    remembered = Remembered(_at=time.monotonic() - age_s, _broker=Broker(_BOTH))
    settings = Settings(data_dir=tmp_path, broker={"url": "amqp://guest:guest@127.0.0.1:1//"})
    assert (remembered.latest(settings) is not None) == known


def test_an_old_check_says_its_age(site: Site) -> None:
    at = utc_now() - timedelta(minutes=12)
    assert _signs(site, checks=(at, [good("disk", "9 GiB free")]))["Checks"].words == "all well 12 min ago"


def test_a_console_that_serves_checks_at_its_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def run_checks(_settings: Settings, *, with_workers: bool) -> list[Finding]:
        assert not with_workers, "torch stays out of the console"
        asked.set()
        return []

    monkeypatch.setattr(check_schedule, "run_checks", run_checks)
    make_server(site.context, Pulse())
    assert asked.wait(30)
