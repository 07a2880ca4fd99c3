"""Pages and metrics only read, in as many statements for a long list as for a short one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.routing import Route
from starlette.testclient import TestClient

from dicom_config.model import Verb
from tests.support.cases import publish_round, ready_case
from tests.support.console import OPERATOR, Site, console_site
from tests.support.intake import context_in
from tests.support.statements import Statements, recorded
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.console.app import make_app
from uair_node.operations.monitoring.department import DepartmentCollector
from uair_node.selection.service import Evidence, select_by_number

_NAMED = {"case_id": 1, "result_id": 1, "round": 1, "k": 1, "slice": 40}
_FORMS = ("csv", "nifti", "dicom")
_ACTIONS = ("resend", "pick", "expire", "retry")


@pytest.fixture
def rows(tmp_path: Path, database_url: str) -> Iterator[Site]:
    """A console over case 1 with one round and case 2 with two, on either database; there are no files."""
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    with context_in(tmp_path, database_url, destinations=[destination]) as context:
        with context.database.transaction() as session:
            publish_round(session, ready_case(session, "1.1"), ["pacs"])
            case = ready_case(session, "1.2")
            publish_round(session, case, ["pacs"])
            select_by_number(session, Evidence(Verb.PICK, "console"), case, ReaderChoice(1))
            publish_round(session, case, ["pacs"])
        yield console_site(context)


def _addresses(site: Site) -> list[str]:
    """Return an address of every page that the console has."""
    found = []
    for route in make_app(site.console).routes:
        if not isinstance(route, Route) or "GET" not in (route.methods or ()) or route.path == "/login":
            continue
        forms = _FORMS if "{form" in route.path else _ACTIONS if "{action" in route.path else ("",)
        names = {name: _NAMED.get(name, "") for name in route.param_convertors}
        for form in forms:
            path = route.path
            for name, value in names.items():
                for kind in ("int", "str", "path"):
                    path = path.replace(f"{{{name}:{kind}}}", str(value or form))
            found.append(path)
    return found


def _wrote(statements: Statements) -> list[str]:
    """Return what is no line of the record of accesses."""
    return [sql for sql in statements.writing if not sql.startswith("INSERT INTO access_records")]


def _refused(client: TestClient, path: str) -> bool:
    return client.get(path).status_code >= 500


def test_no_page_writes_more_than_the_record_of_accesses(rows: Site) -> None:
    addresses = _addresses(rows)
    assert len(addresses) > 20
    with rows.visitor() as client, recorded(rows.context.database) as statements:
        rows.enter(client, OPERATOR)
        assert [path for path in addresses if _refused(client, path)] == []
    assert statements.reading
    assert _wrote(statements) == []


def test_no_page_over_real_files_writes_more_than_that(site: Site, operator: TestClient) -> None:
    with recorded(site.context.database) as statements:
        answers = {path: operator.get(path).status_code for path in _addresses(site)}
    assert _wrote(statements) == []
    assert {status for status in answers.values() if status >= 500} == set()
    assert sum(status == 200 for status in answers.values()) > 15, answers


def test_a_refreshed_page_waits_for_no_writer(site: Site, operator: TestClient) -> None:
    """Only the first look is recorded; on SQLite a page that took the write lock would wait here."""
    pages = ("/cases", "/cases/1", "/queues", "/destinations", "/refused", "/access", "/cases/1/expire")
    first = [operator.get(path).status_code for path in pages]
    with site.context.database.transaction():
        assert [operator.get(path).status_code for path in pages] == first == [200] * len(pages)


def test_metrics_only_read_and_ask_as_much_of_a_large_department(rows: Site) -> None:
    registry = CollectorRegistry()
    registry.register(DepartmentCollector(rows.context))
    with recorded(rows.context.database) as few:
        generate_latest(registry)
    with rows.context.database.transaction() as session:
        for n in range(20):
            publish_round(session, ready_case(session, f"1.3.{n}"), ["pacs"])
    with recorded(rows.context.database) as many:
        generate_latest(registry)
    assert (few.writing, many.writing, len(many)) == ([], [], len(few))


def test_a_page_asks_as_much_of_one_round_as_of_two_and_of_two_cases_as_of_many(rows: Site) -> None:
    database = rows.context.database
    with rows.visitor() as client:
        rows.enter(client, OPERATOR)

        def asked(path: str) -> int:
            client.get(path)  # recorded once
            with recorded(database) as statements:
                assert client.get(path).status_code == 200
            return len(statements)

        assert asked("/cases/1") == asked("/cases/2")
        two = asked("/cases")
        with database.transaction() as session:
            for n in range(20):
                publish_round(session, ready_case(session, f"1.3.{n}"), ["pacs"])
        assert asked("/cases") == two
