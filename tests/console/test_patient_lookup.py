"""Cases are found by patient data: read from headers when asked for, recorded, and kept in no address."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.valuerep import DSfloat
from sqlalchemy import select
from starlette.testclient import TestClient

from tests.support.console import VIEWER, Site, hidden_fields, submit
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.tables import Case
from uair_node.console import patient_lookup
from uair_node.console.patient import _shown
from uair_node.console.patient_lookup import PatientLookup, look_through
from uair_node.dicom.patient_facts import PatientFacts, facts_of


def _look_up(client: TestClient, words: str) -> str:
    answer = submit(client, "/cases/patient", "/cases", patient=words)
    assert answer.status_code == 303
    assert words not in answer.headers["location"]
    return client.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        ("", ""),
        (DSfloat(1.6000000238418579, auto_format=True), "1.6"),
        (DSfloat(5), "5"),
        (12, "12"),
    ],
)
def test_a_header_s_value_is_shown_without_its_rounding(value: object, words: str) -> None:
    assert _shown(value) == words


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("P1", [1, 2]),
        ("p", [1, 2, 3, 4]),
        ("P2 2026-03-05", [3]),
        ("20260105", [1]),
        ("2026-02", [2]),
        ("P1 P2", []),
    ],
)
def test_cases_are_found_by_what_their_headers_say(
    studies: Site, reader: TestClient, words: str, found: list[int]
) -> None:
    page = _look_up(reader, words)
    assert [number for number in range(1, 5) if f'href="/cases/{number}"' in page] == found
    assert "in the headers of 4" in page


def test_a_look_up_is_recorded_without_what_was_typed(studies: Site, reader: TestClient) -> None:
    page = _look_up(reader, "P1")
    assert "P1 · 2026-02-05" in page
    with studies.context.database.reading() as session:
        rows = session.scalars(select(AccessRecord).where(AccessRecord.actor == VIEWER)).all()
    told = [(row.action, row.subject) for row in rows]
    assert ("search patient data", "2 cases found in 4 headers") in told
    assert ("view patient data", "cases 2, 1") in told
    assert not any("P1" in row.subject for row in rows)


def test_a_found_list_is_sorted_and_filtered_and_over_with_the_next_look_up(reader: TestClient) -> None:
    _look_up(reader, "P")
    assert "3 cases found" in reader.get("/cases?found=1&state=ACCEPTED").text
    assert reader.get("/cases?found=1&sort=case").text.index('href="/cases/1"') > 0
    _look_up(reader, "P1")
    over = reader.get("/cases?found=1")
    assert (over.status_code, "Search for the patient again" in over.text) == (409, True)
    assert reader.post("/cases/patient", data={"patient": "P1"}).status_code == 403, "no token"


def test_a_look_up_that_takes_long_goes_on_with_older_cases(
    studies: Site, reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_lookup, "_AT_A_TIME", 2)
    monkeypatch.setattr(patient_lookup, "LONGEST_S", -1.0)
    first = look_through(studies.context, PatientLookup(1, "P"))
    assert (first.found, first.read, first.before) == ((3, 4), 2, 3)
    page = _look_up(reader, "P")
    assert "2 cases found" in page
    assert "Older cases have not been read yet" in page
    older = reader.post("/cases/patient", data=hidden_fields(page))
    assert "4 cases found" in reader.get(older.headers["location"]).text


def test_a_whole_patient_id_finds_cases_whose_images_are_gone(studies: Site, reader: TestClient) -> None:
    with studies.context.database.reading() as session:
        paths = [instance.path for instance in session.get_one(Case, 1).instances]
    for path in paths:
        studies.context.store.absolute(path).unlink()
    page = _look_up(reader, "P1")
    assert "2 cases found in the headers of 3; of 1 no header is kept here" in page
    assert "no header is kept here</span>" in page
    assert 'href="/cases/1"' not in _look_up(reader, "2026-01-05")


@pytest.fixture(scope="module")
def facts() -> PatientFacts:
    """A header with a name in two scripts."""
    header = Dataset()
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientName = "Müller^Jürgen=山田^太郎"
    header.PatientID, header.PatientBirthDate = "AB-0815", "19500102"
    header.StudyDate, header.StudyDescription, header.SeriesDescription = (
        "20260312",
        "CT Abdomen",
        "Portal venous",
    )
    return facts_of(header)


@pytest.mark.parametrize(
    "words",
    ["müller", "MULLER jurgen", "山田", "0815", "ab-0815", "abdomen portal", "2026-03-12", "12.3.2026",
     "3/12/2026", "12/3/2026", "2026-03", "muller 1950-01-02"],
)  # fmt: skip
def test_words_match_whatever_their_case_accents_and_dates(facts: PatientFacts, words: str) -> None:
    assert facts.matches(words)


@pytest.mark.parametrize("words", ["meier", "müller meier", "2026-03-13", "2026", "13.3.2026", "chest"])
def test_each_word_must_fit(facts: PatientFacts, words: str) -> None:
    assert not facts.matches(words)


def test_a_name_is_shown_as_people_write_it(facts: PatientFacts) -> None:
    assert facts.name == "Müller, Jürgen (山田, 太郎)"
    assert (facts.study_date, facts.description) == ("2026-03-12", "CT Abdomen, Portal venous")


def test_an_empty_header_matches_nothing() -> None:
    empty = facts_of(Dataset())
    assert (empty.name, empty.matches("doe"), empty.matches("2026-03-12")) == ("", False, False)
