"""Fixtures that every test may ask for: private real peers, real CT, databases.

Servers start when the first test asks for them, on free loopback ports, and end with the session. A peer
that is not installed skips its tests, except where the variable CI is set: there they fail.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import Dcmtk, Orthanc, Postgres, RabbitMQ, absent
from tests.support.postgres import postgres_folder

_ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """Give back the levels that a command sets for its process, which here is that of all tests."""

    def loggers() -> list[logging.Logger]:
        return [logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)]

    levels = {one.name: one.level for one in loggers()}
    yield
    for one in loggers():
        one.setLevel(levels.get(one.name, logging.NOTSET))


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


@pytest.fixture(
    params=[
        pytest.param("sqlite", id="sqlite"),
        pytest.param("postgresql", id="postgresql", marks=pytest.mark.integration),
    ]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database; each test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'uair.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture(scope="session")
def ct_dir() -> Path:
    """The folder of real CT series: UAIR_CT_DIR, or ``../shared/ct`` beside the repository."""
    folder = Path(os.environ.get("UAIR_CT_DIR") or _ROOT.parent / "shared" / "ct")
    if not folder.is_dir():
        absent(f"no real CT at {folder}; set UAIR_CT_DIR")
    return folder
