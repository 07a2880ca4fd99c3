"""A database that is down, refuses us or is missing: one sentence with code and remedy, then back again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dicom_config.errors import TransientError
from dicom_config.model import Settings
from tests.support.intake import context_in
from tests.support.peers import Postgres
from tests.support.ports import free_port
from tests.support.postgres import postgres_folder
from uair_node.cases.database import Database
from uair_node.node import Node
from uair_node.operations.checks.servers import check_database
from uair_node.work.service_start import open_service

pytestmark = pytest.mark.integration

_CODES = {
    "locked:wrong@127.0.0.1:{port}/{name}": "database-password",
    "locked@127.0.0.1:{port}/{name}": "database-password",
    "stranger@127.0.0.1:{port}/{name}": "database-refuses",
    "uair@127.0.0.1:{port}/absent": "database-missing",
    "uair@127.0.0.1:{free}/{name}": "database-unavailable",
    "uair@absent.invalid:{port}/{name}": "database-unavailable",
}


@pytest.fixture(scope="module")
def guarded(postgres: Postgres) -> Iterator[str]:
    """A database that `locked` enters with a password, and `stranger` not at all."""
    rules = postgres.folder / "data" / "pg_hba.conf"
    before = rules.read_text("utf-8")
    strict = "host all locked 127.0.0.1/32 scram-sha-256\nhost all stranger 127.0.0.1/32 reject\n"
    rules.write_text(strict + before, "utf-8")
    with postgres.database() as url, psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        connection.execute("CREATE ROLE stranger LOGIN")
        yield url.rpartition("/")[2]
        connection.execute("DROP ROLE locked")
        connection.execute("DROP ROLE stranger")
        rules.write_text(before, "utf-8")
        connection.execute("SELECT pg_reload_conf()")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


@pytest.mark.parametrize("address", _CODES)
def test_what_keeps_us_from_the_database_is_told_apart(
    postgres: Postgres, guarded: str, tmp_path: Path, address: str
) -> None:
    there = address.format(port=postgres.port, name=guarded, free=free_port())
    url = f"postgresql+psycopg://{there}"
    database = Database(url)
    with pytest.raises(TransientError) as caught:
        database.migrate()
    database.close()
    assert caught.value.code == _CODES[address]
    assert caught.value.remedy
    assert "wrong" not in str(caught.value), "no password is shown"
    (found,) = check_database(Settings(data_dir=tmp_path, database={"url": url}))
    assert (found.code, found.sentence) == (caught.value.code, caught.value.sentence)


def test_a_process_does_not_wait_for_a_database_that_refuses_it(guarded: str, postgres: Postgres) -> None:
    url = f"postgresql+psycopg://locked:wrong@127.0.0.1:{postgres.port}/{guarded}"
    pauses: list[float] = []
    with pytest.raises(TransientError) as caught:
        open_service(Settings(database={"url": url}), sleep=pauses.append)
    assert (caught.value.code, pauses) == ("database-password", [])


def test_a_node_waits_for_its_database_and_says_once_that_it_went_and_came_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres_folder() as folder:
        server = Postgres(folder)
        settings = Settings(data_dir=tmp_path / "data", database={"url": server.url("postgres")})
        pauses: list[float] = []

        def wait(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                server.start()

        try:
            open_service(settings, migrate=True, sleep=wait).database.close()
            assert [pause for pause in pauses if pause > 0] == sorted(pauses), "pauses grow"
            assert _outages(caplog) == ["database-unavailable", "database-unavailable is over"]
            with context_in(tmp_path / "data", server.url("postgres")) as context:
                node = Node(context)
                server.stop()
                assert [node.sweep() for _ in range(3)] == [True] * 3, "the node itself is well"
                server.start()
                assert node.sweep()
                assert _outages(caplog) == ["database-unavailable", "database-unavailable is over"]
        finally:
            server.stop()


def _outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines about outages since the last call, each up to its code or its time."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return [line.partition(" after ")[0].partition(":")[0] for line in lines]
