"""The migrations make what the tables say, on both databases."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from uair_node.cases.database import Database
from uair_node.cases.tables import Base


def test_migrations_make_the_tables(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    database.migrate()
    with database.engine.connect() as connection:
        # SQLite names types otherwise than they were made; PostgreSQL does not.
        options = {"compare_type": connection.dialect.name != "sqlite"}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    database.close()
    assert found == []
