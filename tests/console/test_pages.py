"""The text of the console's pages, read without JavaScript."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dicom_config.model import AllowRule, NodeSection
from tests.console.conftest import MARKUP
from tests.support.cases import publish_round, ready_case, receiving_case
from tests.support.console import OPERATOR, Site, console_site, submit
from tests.support.intake import context_in
from tests.support.peers import Postgres
from tests.support.ports import free_port
from uair_node.cases import lifecycle
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState, Transition
from uair_node.delivery.resend import resend
from uair_node.dicom.gate_codes import gate_error
from uair_node.network.listener_metrics import ListenerMetrics
from uair_node.network.scp import DicomListener
from uair_node.operations.checks.refused import check_refused_peers
from uair_node.operations.monitoring.refusals import keep_refusals


def _state(site: Site, case_id: int = 1) -> CaseState:
    with site.context.database.transaction() as session:
        return session.get_one(Case, case_id).state


def _records(site: Site) -> list[tuple[str, str, str, str]]:
    with site.context.database.transaction() as session:
        rows = session.query(AccessRecord).order_by(AccessRecord.id)
        return [(row.actor, row.action, row.subject, row.outcome) for row in rows]


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("", ["/cases/1", "/cases/2", "AWAITING SELECTION", "no-rescale", "ACC-1"], []),
        ("?state=REJECTED", ["/cases/2"], ["/cases/1"]),
        ("?search=ACC-1", ["/cases/1"], ["/cases/2"]),
        ("?search=1.2.4", ["/cases/2"], ["/cases/1"]),
        ("?search=%25", ["No case matches"], ["/cases/1"]),
        ("?search=%00&state=NONSENSE&page=99999999999999999999", ["/cases/1"], []),
    ],
)
def test_cases_are_listed_searched_and_filtered(
    viewer: TestClient, query: str, shown: list[str], hidden: list[str]
) -> None:
    page = viewer.get(f"/cases{query}")
    assert page.status_code == 200
    assert all(text in page.text for text in shown)
    assert not any(f'href="{text}"' in page.text for text in hidden)


def test_a_long_list_has_pages_and_places_in_the_queue(site: Site, viewer: TestClient) -> None:
    with site.context.database.transaction() as session:
        for n in range(30):
            ready_case(session, f"1.3.{n}")
    first, second = viewer.get("/cases?state=READY"), viewer.get("/cases?state=READY&page=2")
    assert "page 1 of 2" in first.text
    assert 'href="?state=READY&amp;page=2"' in first.text
    assert "page 2 of 2" in second.text
    assert "number 1<" in second.text, "the oldest is next"
    assert "no estimate yet" in second.text


def test_a_case_shows_its_whole_story(site: Site, operator: TestClient) -> None:
    page = operator.get("/cases/1").text
    for text in ("RECEIVING → READY", "READY → SEGMENTING", "Round 1 computed", "round 1 published"):
        assert text in page
    for heading in ("Summary", "Pictures", "Rounds", "Timeline", "Deliveries", "Patient and series"):
        assert f">{heading}</h2>" in page
    assert page.count("?small=1") == 7, "the overview, four candidates, two findings"


def test_pictures_are_the_pages_that_went_to_the_archive(site: Site, viewer: TestClient) -> None:
    page = viewer.get("/cases/1").text
    address = page.split('<img src="')[1].split('"')[0]
    small, large = viewer.get(address), viewer.get(address.partition("?")[0])
    assert small.headers["content-type"] == large.headers["content-type"] == "image/png"
    assert large.content.startswith(b"\x89PNG")
    assert len(small.content) < len(large.content)
    assert viewer.get("/cases/2/pictures/5.png").status_code == 404, "a picture belongs to its case"
    assert viewer.get("/cases/1/pictures/1.png").status_code == 404, "a segmentation is no picture"


def test_an_operator_retries_cancels_and_expires(site: Site, operator: TestClient) -> None:
    with site.context.database.transaction() as session:
        ready_case(session, "1.5")
    for name, state in (
        ("cancel", "FAILED"),
        ("retry", "SEGMENTING"),
        ("cancel", "FAILED"),
        ("expire", "EXPIRED"),
    ):
        answer = submit(operator, f"/cases/3/{name}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/cases/3")
        assert _state(site, 3) == state
    with site.context.database.transaction() as session:
        actors = [transition.actor for transition in session.query(Transition).filter_by(case_id=3)]
    assert actors[-4:] == ["console olga"] * 4
    assert [row[1:] for row in _records(site) if row[2] == "case 3" and row[0] == "olga"] == [
        (name, "case 3", "done") for name in ("cancel", "retry", "cancel", "expire")
    ]


def test_what_is_not_possible_now_is_said_and_changes_nothing(site: Site, operator: TestClient) -> None:
    assert operator.get("/cases/1/retry").status_code == 409
    assert operator.get("/cases/1/nonsense").status_code == 404
    assert operator.get("/cases/99").status_code == 404
    assert operator.get("/cases/99999999999999999999").status_code == 404
    form = {"seen": "READY/1", "csrf": _token(operator)}
    operator.post("/cases/1/expire", data=form)
    assert _state(site) == CaseState.AWAITING_SELECTION
    assert "has changed since" in operator.get("/cases/1").text
    assert _records(site)[-2][1:] == ("expire", "case 1", "case-changed")


def _token(client: TestClient) -> str:
    return client.get("/cases").text.split('name="csrf" value="')[1].split('"')[0]


@pytest.mark.parametrize(
    ("name", "fields", "state"),
    [
        ("pick", {"candidate": "3"}, CaseState.REFINING),
        ("accept", {"candidate": "2"}, CaseState.ACCEPTED),
        ("none-fits", {}, CaseState.REFINING),
        ("pick", {"candidate": "7"}, CaseState.AWAITING_SELECTION),
        ("pick", {"candidate": "²"}, CaseState.AWAITING_SELECTION),
        ("pick", {}, CaseState.AWAITING_SELECTION),
    ],
)
def test_an_operator_answers_for_the_reader(
    site: Site, operator: TestClient, name: str, fields: dict[str, str], state: CaseState
) -> None:
    submit(operator, f"/cases/1/{name}", **fields)
    assert _state(site) == state


def test_what_was_confirmed_is_sent_again_only_if_everything_is_asked_for(site: Site) -> None:
    with site.context.database.transaction() as session:
        case = session.get_one(Case, 1)
        results = case.rounds[0].results
        states = [DeliveryState.CONFIRMED, DeliveryState.PARKED, DeliveryState.STORED]
        for result, state in zip(results, states, strict=False):
            session.add(
                Delivery(result_id=result.id, destination="pacs", state=state, reason="no", attempts=3)
            )
        session.flush()
        assert resend(session, case, "pacs", everything=False) == 1
        assert resend(session, case, "pacs", everything=True) == 3
        rows = session.query(Delivery).all()
        assert {(row.state, row.reason, row.attempts) for row in rows} == {("pending", "", 0)}


def test_views_and_searches_are_noted_without_what_was_typed(site: Site, viewer: TestClient) -> None:
    for address in ("/cases?search=ACC-1", "/cases/1", "/cases/1?refresh=1", "/cases/1/patient", "/cases/1"):
        viewer.get(address)
    assert _records(site) == [
        ("viktor", "search", "cases 1", "done"),
        ("viktor", "view case", "case 1", "done"),
        ("viktor", "view patient data", "case 1", "done"),
    ]


def test_refused_series_are_grouped_by_code(site: Site, viewer: TestClient) -> None:
    with site.context.database.transaction() as session:
        case = session.get_one(Case, 2)
        assert case.code == "no-rescale"
    page = viewer.get("/refused").text
    assert "no-rescale" in page
    assert case.remedy in page.replace("&#39;", "'")


def test_what_the_listener_refused_is_counted_with_what_to_do(site: Site, viewer: TestClient) -> None:
    assert "address not admitted" not in viewer.get("/refused").text
    metrics = ListenerMetrics()
    rule = AllowRule(networks=("192.0.2.0/24",))
    listener = DicomListener(NodeSection(port=0, allow=(rule,)), lambda _: None, metrics=metrics)
    listener.start()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", listener.port), 60, ("127.0.0.2", 0)) as stranger:
            assert stranger.recv(1) == b""
    listener.stop()
    keep_refusals(site.context.database, metrics)
    page = viewer.get("/refused").text
    rows = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*address not admitted.*?</tr>", page, re.DOTALL)
    assert len(rows) == 2, "the peer, and the sum of all"
    assert all(">3<" in row for row in rows)
    assert "127.0.0.2" in rows[0]
    assert "Add this address to node.allow" in rows[0]
    for finding in check_refused_peers(site.context.database):
        assert finding.code == "peer-refused"
        assert finding.sentence.startswith("a sender at 127.0.0.2 was refused 3 times, last just now.")


@pytest.mark.parametrize(
    "address",
    ["/", "/cases", "/cases/1", "/queues", "/destinations", "/refused", "/checks", "/configuration"],
)
def test_every_page_opens_for_a_viewer(viewer: TestClient, address: str) -> None:
    answer = viewer.get(address, follow_redirects=True)
    assert answer.status_code == 200
    assert "not a medical device" in answer.text
    assert answer.text.count("<h1>") == 1


def test_every_page_opens_on_every_database(database_url: str, tmp_path: Path) -> None:
    destinations = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}]
    with context_in(tmp_path / "data", database_url, destinations=destinations) as context:
        with context.database.transaction() as session:
            publish_round(session, ready_case(session, "1.2"), ["pacs"])
            lifecycle.reject_input(session, receiving_case(session, "1.3"), gate_error("no-rescale"))
            session.query(Delivery).first().reason = "away"  # type: ignore[union-attr]
            ready_case(session, "1.4")
        site = console_site(context)
        with site.visitor() as client:
            site.enter(client, OPERATOR)
            for address in (
                "/cases?search=1.2&state=ready",
                "/cases/1",
                "/queues",
                "/destinations",
                "/refused",
            ):
                assert client.get(address).status_code == 200, address
            assert "away" in client.get("/destinations").text
            assert submit(client, "/cases/1/resend", destination="pacs", what="everything").status_code == 303
            assert submit(client, "/cases/1/accept", candidate="2").status_code == 303
            page = client.get("/cases/1").text
            assert "ACCEPTED" in page
            assert "Re-send in the console" in page
            assert "accept" in client.get("/access").text
        assert _state(site) == CaseState.ACCEPTED


@pytest.mark.integration
def test_a_database_that_is_away_is_said_and_comes_back(postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as url, context_in(tmp_path / "data", url) as context:
        site = console_site(context)
        with site.visitor() as client:
            site.enter(client, OPERATOR)
            with postgres.stopped():
                answer = client.get("/cases")
                assert answer.status_code == 503
                assert "database-unavailable" in answer.text
                assert "Then the work continues by itself" in answer.text
            assert client.get("/cases").status_code == 200


def test_a_retry_that_the_life_cycle_refuses_is_said(site: Site) -> None:
    with site.context.database.transaction() as session:
        case = session.get_one(Case, 1)
        assert not lifecycle.can_be_retried(case)


def test_markup_in_headers_is_text(viewer: TestClient) -> None:
    page = viewer.get("/cases/1/patient").text
    assert "Probe^&lt;img src=x onerror=alert(1)&gt;" in page
    assert MARKUP not in page
    assert "<script>alert" not in page
