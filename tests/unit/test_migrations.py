"""The migrations make what the tables say, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from dicom_config.errors import ConfigError
from uair_node.cases.database import HEAD_REVISION, Database
from uair_node.cases.installation_tables import ALL_TABLES
from uair_node.cases.schema import alembic_config


def test_migrations_make_the_tables(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    database.migrate()
    with database.engine.connect() as connection:
        # SQLite names types otherwise than they were made; PostgreSQL does not.
        options = {"compare_type": connection.dialect.name != "sqlite"}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), ALL_TABLES)
    database.close()
    assert found == []


def test_the_newest_revision_is_the_last_migration() -> None:
    """`Database` compares with a constant, because Alembic takes long to import."""
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD_REVISION


def test_a_version_leaves_the_database_of_a_newer_one_alone(empty_database_url: str) -> None:
    """After an upgrade was taken back without its database."""
    database = Database(empty_database_url)
    database.migrate()
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for look in (database.migrate, database.require_current):
        with pytest.raises(ConfigError, match="version 9999, which this version") as refused:
            look()
        assert refused.value.code == "schema-newer"
    database.close()


def test_of_several_effective_answers_to_a_round_the_one_that_counted_stays(empty_database_url: str) -> None:
    """An older version let two answers of the same moment take effect."""
    database = Database(empty_database_url)
    config = alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        tables = sa.MetaData()
        tables.reflect(connection, only=("cases", "rounds", "selections"))
        for number, state in ((1, "ACCEPTED"), (2, "REFINING"), (3, "REFINING")):
            _insert(connection, tables.tables["cases"], id=number, state=state)
        said = [
            *((1, 1, "accept"), (2, 1, "pick")),  # the first ended the case
            *((3, 2, "pick"), (4, 2, "pick")),  # the first started the next round
            *((5, 3, "pick"), (6, 3, "pick")),  # neither did
            (7, 1, "refused"),
        ]
        for number, case_id, verb in said:
            outcome = "refused" if verb == "refused" else "effective"
            values = {"case_id": case_id, "round_number": 1, "verb": verb.replace("refused", "pick")}
            _insert(connection, tables.tables["selections"], id=number, outcome=outcome, **values)
        _insert(connection, tables.tables["rounds"], id=1, case_id=1, number=2, selection_id=2)
        _insert(connection, tables.tables["rounds"], id=2, case_id=2, number=2, selection_id=3)
        command.upgrade(config, "0008")
        rows = connection.execute(sa.text("SELECT id, outcome, candidates_round FROM selections ORDER BY id"))
        found = [tuple(row) for row in rows]
    database.close()
    outcomes = "effective", "replaced", "effective", "replaced", "replaced", "effective", "refused"
    assert found == [(number, outcome, 1) for number, outcome in enumerate(outcomes, 1)]


def _insert(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """Insert a row as it is before a migration; what is not given is empty."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for column in table.columns:
        if column.nullable or column.name in values or column.server_default is not None:
            continue
        kind = column.type
        if isinstance(kind, sa.DateTime):
            values[column.name] = moment
        elif isinstance(kind, sa.JSON):
            values[column.name] = {}
        else:
            values[column.name] = kind.python_type()
    connection.execute(table.insert().values(**values))
