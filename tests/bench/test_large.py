"""Costs of a node's repeated queries once its database holds 100,000 cases, on both databases.

`make bench ARGS=tests/bench/test_large.py`. Prints one table beside the aims: the best of some turns, so that
other work on the machine counts less. Asserts no timing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import select
from starlette.testclient import TestClient

from tests.support.console import BASE, OPERATOR, console_site
from tests.support.intake import context_in
from tests.support.large import fill
from tests.support.made_once import migrated_sqlite
from tests.support.peers import Postgres
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, Round
from uair_node.console.app import make_app
from uair_node.context import Context
from uair_node.delivery.outbox import choose_pending
from uair_node.intake.register import Arrival, Identity, register
from uair_node.node import Node
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.operations.monitoring.department import DepartmentCollector
from uair_node.storage.spool import SpooledFile

pytestmark = [pytest.mark.bench, pytest.mark.integration, pytest.mark.timeout(3600)]

CASES = 100_000
TURNS = 5
CT = "1.2.840.10008.5.1.4.1.1.2"
PAGE_MS, SCRAPE_MS, SWEEP_MS, CHOICE_MS = 200, 200, 100, 50
PAGES = {
    "case list": "/cases",
    "case list, last page": "/cases?page=999999",
    "case list, search by accession number": f"/cases?search=ACC{CASES // 2}",
    "case list, search by the end of a UID": f"/cases?search={CASES // 2}.1",
    "queues": "/queues",
    "destinations": "/destinations",
    "refused": "/refused",
    "access": "/access",
}
_AWAY = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
_INTAKE = {"quiet_s": 86_400, "min_free_bytes": 0}


@dataclass
class Table:
    """Milliseconds of each question on each database, beside the aim (0: there is none)."""

    aims: dict[str, int] = field(default_factory=dict)
    measured: dict[str, dict[str, float]] = field(default_factory=dict)

    def note(self, question: str, aim: int, database: str, milliseconds: float) -> None:
        """Add a figure."""
        self.aims[question] = aim
        self.measured.setdefault(question, {})[database] = milliseconds

    def __str__(self) -> str:
        names = sorted({name for row in self.measured.values() for name in row}, reverse=True)
        heads = "".join(f"{name:>14}" for name in names)
        lines = [f"{CASES} cases, milliseconds{heads:>50}{'aim':>8}"]
        for question, row in self.measured.items():
            figures = "".join(f"{row[name]:14.1f}" if name in row else f"{'-':>14}" for name in names)
            lines.append(f"{question:<45}{figures}{self.aims[question] or '':>8}")
        return "\n".join(lines)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """The figures of both databases, printed at the end."""
    made = Table()
    yield made
    sys.stdout.write(f"\n{made}\n")


@contextmanager
def _filled(name: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Context]:
    """A node over 100,000 cases whose PACS is away."""
    sections = {"intake": _INTAKE, "destinations": [_AWAY], "console": {"port": 1}}
    if name == "SQLite":
        file = folder / "uair.sqlite"
        migrated_sqlite(file)
        with context_in(folder, f"sqlite:///{file}", **sections) as context:
            fill(context.database, CASES)
            yield context
        return
    server: Postgres = request.getfixturevalue("postgres")
    template = request.getfixturevalue("migrated_postgres")
    with (
        server.database(template=template) as url,
        context_in(folder, url, **sections) as context,
    ):
        fill(context.database, CASES)
        yield context


@pytest.mark.parametrize("name", ["SQLite", "PostgreSQL"])
def test_100_000_cases(name: str, table: Table, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with _filled(name, tmp_path, request) as context:
        for question, (aim, act) in _questions(context).items():
            table.note(question, aim, name, _best_ms(act))
        ended = _best_ms(lambda: apply_retention(context, dry_run=True), turns=1)
        table.note("tidy, dry run", 0, name, ended)
        due, began = len(apply_retention(context, dry_run=True)), time.perf_counter()
        assert len(apply_retention(context, dry_run=False)) == due > 0
        took_ms = (time.perf_counter() - began) * 1000
        idle_ms = _best_ms(lambda: apply_retention(context, dry_run=False))
        table.note("tidy, nothing due", 0, name, idle_ms)
        table.note("tidy, for each due case", 0, name, max(0.0, took_ms - idle_ms) / due)


def _questions(context: Context) -> Mapping[str, tuple[int, Callable[[], object]]]:
    """Return each question's aim in milliseconds (0: none) and what asks it."""
    registry = CollectorRegistry()
    registry.register(DepartmentCollector(context))
    node = Node(context)
    page = _pages(context)
    return {
        "case page, three rounds": (PAGE_MS, partial(page, f"/cases/{_case(context, 3)}")),
        "case page, one round, files gone": (PAGE_MS, partial(page, "/cases/101")),
        **{name: (PAGE_MS, partial(page, path)) for name, path in PAGES.items()},
        "metrics scrape": (SCRAPE_MS, partial(generate_latest, registry)),
        "sweep": (SWEEP_MS, node.sweep),
        "delivery choice": (CHOICE_MS, partial(choose_pending, context, "pacs")),
        "intake, a new instance": (0, partial(_take_new, context, count())),
        "intake, an instance sent again": (0, partial(_take_again, context)),
    }


def _pages(context: Context) -> Callable[[str], None]:
    """Return what opens a console page as an operator does."""
    site = console_site(context)
    client = site.enter(TestClient(make_app(site.console), base_url=BASE, follow_redirects=False), OPERATOR)

    def page(path: str) -> None:
        assert client.get(path).status_code == 200, path

    return page


def _case(context: Context, rounds: int) -> int:
    """Return the newest accepted case of so many rounds."""
    accepted = select(Case.id).join(Case.rounds).where(Case.state == CaseState.ACCEPTED)
    newest = accepted.where(Round.number == rounds).order_by(Case.id.desc()).limit(1)
    with context.database.reading() as session:
        return session.scalars(newest).one()


def _take_new(context: Context, numbers: Iterator[int]) -> None:
    uid = f"1.2.3.{next(numbers)}"
    register(context, [_arrival(context, Identity(uid, CT, "1.2.3", "1.2"), uid)])


def _take_again(context: Context) -> None:
    with context.database.reading() as session:
        row = session.scalars(select(Instance).order_by(Instance.id).limit(1)).one()
    identity = Identity(
        row.sop_instance_uid, row.sop_class_uid, row.series_instance_uid, row.study_instance_uid
    )
    register(context, [_arrival(context, identity, row.sha256)])


def _arrival(context: Context, identity: Identity, digest: str) -> Arrival:
    path = context.store.spool / f"{digest[-8:]}.dcm"
    return Arrival(identity, SpooledFile(path, digest, 526_000), "ROUTER0")


def _best_ms(act: Callable[[], object], turns: int = TURNS) -> float:
    """Return the time of the fastest of a few turns, after a first one that fills caches."""
    act()
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return min(times)
