"""The memory of preferences: its entries from accepted cases, its owner, and its use in computing rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from dicom_config.model import Verb, load_settings
from tests.support.cases import publish_round, ready_case
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, Selection, TargetKind
from uair_node.cli import app
from uair_node.context import open_context
from uair_node.findings.volumes import Volumes
from uair_node.results.reader_preference import (
    differences,
    forget,
    in_words,
    key_of,
    listed,
    prior_of,
    radius_mm,
    remember,
)
from uair_node.selection.service import Evidence, select_by_number

WIDER = {TargetKind.LIVER: 0.5, TargetKind.LESION: 2.0}


def _accepted(session: Session, number: int, reader: str = "WS1", mode: str = "department") -> Case:
    """A case that `reader` accepted 2 mm wider than the model's lesions."""
    case = ready_case(session, f"1.2.3.{number}")
    publish_round(session, case)
    row = select_by_number(session, Evidence(Verb.ACCEPT, "seg", reader), case, ReaderChoice(1))
    remember(session, mode, case, row, WIDER)
    session.flush()
    return case


def test_what_was_accepted_is_compared_with_the_model_s_own_mean() -> None:
    base = {1: 60.0, 2: 10.0, 3: 8.0}
    ball = 4 / 3 * 3.141592653589793 / 1000
    volumes = Volumes(ball * 61**3, ((1, ball * 12**3), (2, ball * 9**3), (7, 500.0)))
    found = differences(volumes, base)
    assert found[TargetKind.LIVER] == pytest.approx(1.0)
    assert found[TargetKind.LESION] == pytest.approx(1.5), "lesion 7 is the reader's own"
    assert radius_mm(ball * 12**3) == pytest.approx(12.0)
    assert TargetKind.LESION not in differences(Volumes(ball, ()), base)


def test_a_department_s_cases_shape_its_next_one(database: Database) -> None:
    with database.transaction() as session:
        for number in range(5):
            _accepted(session, number)
        case = ready_case(session, "1.2.4")
        prior = prior_of(session, "department", case, case.rounds[0])
        assert (prior["key"], prior["cases"]) == ("ROUTER", 5)
        assert 1.5 < prior["lesion_mm"] < 2.0
        assert prior["liver_mm"] < 0.1, "half a millimetre is hardly certain yet"
        said = "drawn as in 5 accepted cases of department ROUTER: liver +0.0 mm, lesions +1."
        assert in_words(prior).startswith(said)
        other = ready_case(session, "1.2.5")
        other.calling_ae = "ELSEWHERE"
        assert prior_of(session, "department", other, other.rounds[0]) == {}


def test_off_remembers_and_recalls_nothing(database: Database) -> None:
    with database.transaction() as session:
        case = _accepted(session, 1, mode="off")
        assert listed(session) == []
        _accepted(session, 2)
        assert prior_of(session, "off", case, case.rounds[0]) == {}
        assert in_words({}) == ""


def test_a_redelivered_round_uses_what_the_first_delivery_used(database: Database) -> None:
    with database.transaction() as session:
        for number in range(4):
            _accepted(session, number)
        case = ready_case(session, "1.2.4")
        case_id, before = case.id, dict(prior_of(session, "department", case, case.rounds[0]))
    with database.transaction() as session:
        _accepted(session, 9)
        forget(session, None)
    with database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert prior_of(session, "department", case, case.rounds[0]) == before


def test_a_reader_s_memory_is_that_of_the_title_that_picks(database: Database) -> None:
    with database.transaction() as session:
        for number in range(4):
            _accepted(session, number, reader="WS1", mode="reader")
        case = ready_case(session, "1.2.4")
        assert prior_of(session, "reader", case, case.rounds[0]) == {}, "the router is no reader"
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.PICK, "seg", "WS1"), case, ReaderChoice(2))
        assert prior_of(session, "reader", case, case.rounds[1])["key"] == "WS1"
        pick = session.query(Selection).order_by(Selection.id.desc()).first()
        assert key_of("reader", case, pick) == "WS1"
        assert key_of("department", case, pick) == "ROUTER"


def test_a_case_tells_once(database: Database) -> None:
    with database.transaction() as session:
        case = _accepted(session, 1)
        row = session.query(Selection).one()
        remember(session, "department", case, row, WIDER)
        assert listed(session)[0]["cases"] == 1


def test_the_memory_is_shown_and_can_be_reset(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("data_dir: data\nengine: {preference: department}\n", "utf-8")
    context = open_context(load_settings(path), migrate=True)
    with context.database.transaction() as session:
        for number in range(3):
            _accepted(session, number)
    context.database.close()

    def run(*arguments: str) -> str:
        ended = CliRunner().invoke(app, ["preference", *arguments, "--config", str(path)])
        assert ended.exit_code == 0, ended.output
        return ended.output

    (entry,) = json.loads(run("show", "--json"))
    assert (entry["scope"], entry["key"], entry["cases"]) == ("department", "ROUTER", 3)
    assert "ROUTER" in run("show")
    assert "preference data of 0 cases" in run("reset", "NOBODY")
    assert "preference data of 3 cases" in run("reset")
    assert json.loads(run("show", "--json")) == []
