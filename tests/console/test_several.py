"""Several cases at once: retried, sent again, expired; those that do not fit, or moved on, are left alone."""

from __future__ import annotations

from html import unescape

import pytest
from starlette.testclient import TestClient

from dicom_config.model import Destination
from tests.support.cases import ready_case
from tests.support.console import Site, hidden_fields
from tests.support.outbox import with_destinations
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState
from uair_node.console import cases as case_pages


@pytest.fixture
def failed(site: Site) -> list[int]:
    """Three cases that failed."""
    with site.context.database.transaction() as session:
        cases = [ready_case(session, f"1.7.{n}") for n in range(3)]
        for case in cases:
            lifecycle.cancel(session, case, actor="test")
        return [case.id for case in cases]


def _states(site: Site, numbers: list[int]) -> list[CaseState]:
    with site.context.database.reading() as session:
        return [session.get_one(Case, number).state for number in numbers]


def _confirm(client: TestClient, name: str, query: str, **fields: str) -> str:
    page = client.get(f"/cases/several/{name}?{query}")
    assert page.status_code == 200, page.text
    answer = client.post(f"/cases/several/{name}", data={**hidden_fields(page.text), **fields})
    assert answer.status_code == 303
    return unescape(client.get(answer.headers["location"]).text)


def test_ticked_cases_are_retried_and_others_are_left_alone(
    site: Site, operator: TestClient, failed: list[int]
) -> None:
    ticked = "&".join(f"case-{number}=on" for number in [*failed[:2], 1])
    question = operator.get(f"/cases/several/retry?{ticked}").text
    assert "Retry: 2 cases?" in question
    assert "AWAITING SELECTION" in question.split("Left alone")[1]
    page = _confirm(operator, "retry", f"{ticked}&state=FAILED")
    assert "Retry: done for 2 cases." in page
    assert "1 case found" in page, "the same list as before"
    assert _states(site, failed) == [CaseState.SEGMENTING, CaseState.SEGMENTING, CaseState.FAILED]


def test_all_cases_of_a_list_are_expired_also_those_of_other_pages(
    site: Site, operator: TestClient, failed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_pages, "_A_PAGE", 2)
    listed = operator.get("/cases?state=FAILED").text
    assert "all 3 of the list" in listed
    _confirm(operator, "expire", "state=FAILED&all=on")
    assert _states(site, failed) == [CaseState.EXPIRED] * 3
    assert _states(site, [1]) == [CaseState.AWAITING_SELECTION]


def test_a_case_that_moved_on_is_left_alone_and_told(
    site: Site, operator: TestClient, failed: list[int]
) -> None:
    page = operator.get(f"/cases/several/expire?case-{failed[0]}=on&case-{failed[1]}=on").text
    with site.context.database.transaction() as session:
        lifecycle.retry(session, session.get_one(Case, failed[0]), actor="test")
    answer = operator.post("/cases/several/expire", data=hidden_fields(page))
    told = operator.get(answer.headers["location"]).text
    assert f"Not done for 1: Case {failed[0]} is SEGMENTING" in told
    assert "Expire: done for 1 case." in told
    assert _states(site, failed[:2]) == [CaseState.SEGMENTING, CaseState.EXPIRED]


def test_objects_of_several_cases_are_sent_again(site: Site, operator: TestClient) -> None:
    with site.context.database.transaction() as session:
        for result in session.get_one(Case, 1).rounds[0].results:
            session.add(Delivery(result_id=result.id, destination="pacs", state=DeliveryState.PARKED))
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    site.console.context = with_destinations(site.context, pacs)
    assert "Re-send: done for 1 case." in _confirm(
        operator, "resend", "case-1=on&case-2=on", destination="pacs", what="unconfirmed"
    )


@pytest.mark.parametrize("query", ["", "case-2=on", "case-99=on", "case-x=on", "case-99999999999=on"])
def test_where_nothing_fits_nothing_is_asked(operator: TestClient, query: str) -> None:
    assert operator.get(f"/cases/several/retry?{query}").status_code == 409


def test_only_some_actions_are_for_several(operator: TestClient, viewer: TestClient) -> None:
    assert operator.get("/cases/several/accept?case-1=on").status_code == 404
    assert "Ticked cases" in operator.get("/cases").text


def test_a_viewer_has_no_boxes(viewer: TestClient) -> None:
    assert "checkbox" not in viewer.get("/cases").text
    assert viewer.get("/cases/several/expire?case-1=on").status_code == 403


@pytest.mark.parametrize(
    ("sort", "order"),
    [("case", [1, 2]), ("-case", [2, 1]), ("state", [1, 2]), ("-state", [2, 1]), ("-round", [1, 2]),
     ("accession", [2, 1]), ("-slices", [1, 2]), ("why", [1, 2]), ("nonsense", [2, 1])],
)  # fmt: skip
def test_the_list_is_sorted(viewer: TestClient, sort: str, order: list[int]) -> None:
    page = viewer.get(f"/cases?sort={sort}").text
    assert sorted([1, 2], key=lambda number: page.index(f'href="/cases/{number}"')) == order


def test_a_head_turns_its_order_round(viewer: TestClient) -> None:
    page = viewer.get("/cases?sort=accession&state=").text
    assert 'aria-sort="ascending"><a href="/cases?sort=-accession">Accession number' in page
    assert 'href="/cases?sort=slices"' in page
