"""An operator drops, keeps and adds findings, and answers with a candidate of an older round."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.support.cases import publish_round
from tests.support.console import Site, submit
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection
from uair_node.console.drawings import place_on


def _newest(site: Site) -> tuple[CaseState, Selection | None, Marks]:
    with site.context.database.transaction() as session:
        row = session.query(Selection).order_by(Selection.id.desc()).first()
        state = session.get_one(Case, 1).state
        session.expunge_all()
    return state, row, (marks_of(row.marks) if row else None) or Marks()


def test_findings_are_dropped_and_kept(site: Site, operator: TestClient) -> None:
    page = operator.get("/cases/1/findings").text
    assert 'name="finding-1"' in page
    assert 'name="finding-2"' in page
    answer = {"finding-1": "keep", "finding-2": "drop"}
    assert submit(operator, "/cases/1/findings", **answer).status_code == 303
    state, row, marks = _newest(site)
    assert state == CaseState.REFINING
    assert row is not None
    assert (row.mechanism, row.sentence) == ("console", "Lesion 1 kept; lesion 2 dropped.")
    assert ([lesion.value for lesion in marks.lesions], marks.dropped, marks.picked) == ([2], (3,), False)


@pytest.mark.parametrize("fields", [{}, {"finding-1": ""}, {"finding-9": "drop"}])
def test_nothing_changed_and_unknown_findings_are_said(
    site: Site, operator: TestClient, fields: dict[str, str]
) -> None:
    submit(operator, "/cases/1/findings", **fields)
    assert _newest(site)[:2] == (CaseState.AWAITING_SELECTION, None)
    assert "Not done." in operator.get("/cases/1").text


@pytest.mark.parametrize(("name", "state"), [("pick", CaseState.REFINING), ("accept", CaseState.ACCEPTED)])
def test_a_candidate_is_taken_without_a_finding(
    site: Site, operator: TestClient, name: str, state: CaseState
) -> None:
    submit(operator, f"/cases/1/{name}", **{"candidate": "3", "finding-2": "drop"})
    found, row, marks = _newest(site)
    assert row is not None
    assert (found, row.picked, marks.dropped, marks.picked) == (state, 3, (3,), True)


def test_targets_and_parts_are_taken_from_other_candidates(site: Site, operator: TestClient) -> None:
    with site.context.database.transaction() as session:
        session.get_one(Case, 1).rounds[-1].parts = {"3": ["upper", "left"]}
    page = operator.get("/cases/1/pick").text
    assert "upper part of lesion 2" in page
    submit(operator, "/cases/1/pick", **{"candidate": "3", "take-3-back": "1"})
    assert "no back part of lesion 2" in operator.get("/cases/1").text
    fields = {"candidate": "3", "take-3": "2", "take-3-upper": "1", "take-3-left": ""}
    submit(operator, "/cases/1/pick", **fields)
    _, row, _ = _newest(site)
    assert row is not None
    assert row.answer == ReaderChoice(3, {3: 2}, {(3, "upper"): 1})


def test_a_candidate_of_an_older_round_is_picked(site: Site, operator: TestClient) -> None:
    submit(operator, "/cases/1/pick", candidate="2")
    with site.context.database.transaction() as session:
        publish_round(session, session.get_one(Case, 1))
    assert 'href="?round=1"' in operator.get("/cases/1/pick").text
    submit(operator, "/cases/1/pick", page="/cases/1/pick?round=1", candidate="4")
    _, row, _ = _newest(site)
    assert row is not None
    assert (row.picked, row.round_number, row.candidates_round) == (4, 2, 1)


def test_a_lesion_is_added_where_an_operator_clicks(site: Site, operator: TestClient) -> None:
    view = site.console.views.view(1, 1)
    affine = view.canonical.affine
    wanted = affine @ (6, 11, 12, 1)
    # The pixel whose place is nearest to the wanted one.
    places = {(x, y): place_on(view, 6, x, y) for x in range(0, 640, 10) for y in range(0, 640, 10)}
    x, y = min(places, key=lambda at: sum((a - b) ** 2 for a, b in zip(places[at], wanted, strict=False)))
    assert "Add a lesion" in operator.get("/cases/1/add-lesion?slice=7").text
    click = {"at.x": str(x), "at.y": str(y), "size": ""}
    submit(operator, "/cases/1/add-lesion", page="/cases/1/add-lesion?slice=7", **click)
    _, row, marks = _newest(site)
    assert row is not None
    assert row.sentence == "Lesion 3 added from your point."
    (lesion,) = marks.lesions
    assert lesion.marks[0].points[0] == pytest.approx((6.5, 11.5, 12.5), abs=0.5)


@pytest.mark.parametrize(
    "click", [{}, {"at.x": "2", "at.y": "north"}, {"at.x": "0", "at.y": "0", "slice": "1"}]
)
def test_what_was_not_clicked_on_the_organ_adds_nothing(
    site: Site, operator: TestClient, click: dict[str, str]
) -> None:
    submit(operator, "/cases/1/add-lesion", **click)
    assert _newest(site)[:2] == (CaseState.AWAITING_SELECTION, None)


def test_a_viewer_changes_no_finding(site: Site, viewer: TestClient) -> None:
    assert viewer.get("/cases/1/add-lesion").status_code == 403
    assert viewer.get("/cases/1/findings").status_code == 403
    assert _newest(site)[1] is None
