"""Fixtures for all tests: private real peers, real CT, databases.

A server starts when the first test uses it, on free loopback ports, and ends with the session. If a peer is
not installed, then its tests are skipped. If the variable CI is set, then they fail instead.

The suite runs in several processes (pytest-xdist). The tests of a file run in the same process and share the
fixtures of their module. Each process has servers of its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.made_once import MADE_ONCE, migrated_sqlite
from tests.support.missed import MissedCase, copied_missed_case, missed_case, missed_series
from tests.support.peers import Dcmtk, Orthanc, Postgres, RabbitMQ, absent
from tests.support.postgres import postgres_folder
from uair_node.cases.database import Database
from uair_node.dicom.volume import Volume

_ROOT = Path(__file__).parents[1]

# Test processes share the cores. Child processes inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# If a series has no time zone, then its results have the machine's time zone.
os.environ["TZ"] = "UTC"
time.tzset()

# Folders whose files run longest start first, so that all processes end at about the same time.
_LONGEST_FIRST = ("chaos", "e2e", "viewer", "integration", "console", "fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the folders that take longest."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=rank)  # stable: the order within a folder stays


@pytest.fixture(scope="session", autouse=True)
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    MADE_ONCE.folder = tmp_path_factory.mktemp("made-once")


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """Restore the log levels after a test: a command sets them for its process, which all tests share."""

    def loggers() -> list[logging.Logger]:
        return [logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)]

    levels = {logger.name: logger.level for logger in loggers()}
    yield
    for logger in loggers():
        level = levels.get(logger.name, logging.NOTSET)
        if logger.level != level:  # each change clears the caches of all loggers
            logger.setLevel(level)


@pytest.fixture(scope="session")
def dcmtk() -> Dcmtk:
    """DCMTK's storescu, echoscu, storescp."""
    return Dcmtk()


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc shared by the session; `delete_all` empties it, `orthanc.aet` is ``ORTHANC``."""
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker shared by the session; a test that declares queues deletes them."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server shared by the session; `create_database` gives each test its own."""
    with postgres_folder() as folder:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


_BACK_ENDS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.integration),
]


@pytest.fixture(params=_BACK_ENDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a database without tables; each test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'uair.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture(params=_BACK_ENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, migrated database; each test runs on SQLite and on PostgreSQL.

    Every database is a copy of one that was migrated once.
    """
    if request.param == "sqlite":
        yield migrated_sqlite(tmp_path / "uair.sqlite")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database(template=request.getfixturevalue("migrated_postgres")) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh, migrated database, open; each test runs on SQLite and on PostgreSQL."""
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> Iterator[str]:
    """The name of a PostgreSQL database with all tables and no rows. Tests copy it and never open it."""
    with postgres.database() as url:
        database = Database(url)
        database.migrate()
        database.close()
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def ct_dir() -> Path:
    """The folder of real CT series: UAIR_CT_DIR, or ``../shared/ct`` relative to the repository."""
    folder = Path(os.environ.get("UAIR_CT_DIR") or _ROOT.parent / "shared" / "ct")
    if not folder.is_dir():
        absent(f"no real CT at {folder}; set UAIR_CT_DIR")
    return folder


@pytest.fixture(scope="module")
def missed_original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Volume]:
    """A case that lacks a lesion, and its series; each test has a copy of it."""
    folder = tmp_path_factory.mktemp("missed")
    volume = missed_series(tmp_path_factory.mktemp("series") / "ct")
    with missed_case(folder, volume):
        return folder, volume


@pytest.fixture
def missed(tmp_path: Path, missed_original: tuple[Path, Volume]) -> Iterator[MissedCase]:
    """A case that waits for a reader and lacks a lesion."""
    original, volume = missed_original
    with copied_missed_case(original, tmp_path, volume) as made:
        yield made
