"""Database engine, sessions and migrations: SQLite (WAL) on a single machine, PostgreSQL on several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from dicom_config.errors import ConfigError
from uair_node.cases.database_outage import database_error

BUSY_TIMEOUT_MS = 30_000
HEAD_REVISION = "0021"
"""The newest revision of the schema."""
READING = "uair_reading"
"""The execution option of a connection whose transaction can only read."""
POOL_WAIT_S = 30.0
"""The longest time in seconds for which a thread waits until a connection of its process is free."""
CONNECT_S = 10
"""Time limit for connecting, in seconds. Without it, libpq waits for minutes if the network drops packets."""


class Database:
    """The database of an installation. Its methods open transactions and migrate the schema.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``sqlite:///…`` or ``postgresql+psycopg://…``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _make_engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction. It commits at the end of the block and rolls back on any exception.

        Raises
        ------
        TransientError
            ``database-unavailable``: the database cannot be reached or stays locked, or all connections stay
            busy. ``database-password``, ``database-missing``, ``database-refuses``: PostgreSQL refuses the
            login.
        """
        session = self._sessions()
        try:
            yield session
            session.commit()
        except (OperationalError, PoolTimeout) as error:
            session.rollback()
            raise database_error(error, self.engine.url) from error
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that can only read. On SQLite it does not wait for writers.

        A statement that writes a row or locks a row fails, on SQLite and on PostgreSQL.

        Raises
        ------
        TransientError
            The errors of `transaction`.
        """
        with self.transaction() as session:
            session.connection(execution_options={READING: True, "postgresql_readonly": True})
            yield session

    @contextmanager
    def alone(self) -> Iterator[Session]:
        """Open a transaction that only one process can have at a time. Services use it when they start.

        Raises
        ------
        TransientError
            The errors of `transaction`.
        """
        with self.transaction() as session:
            _wait_for_others(session.connection())
            yield session

    def migrate(self) -> None:
        """Migrate the schema to the newest revision.

        Raises
        ------
        ConfigError
            ``schema-newer``: a newer version of the software has migrated the schema.
        TransientError
            The errors of `transaction`.
        """
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with self.connected() as connection:
            # To change a column, SQLite creates the table again. The check of foreign keys would forbid that.
            self._heed_references(connection, "OFF")
            try:
                with connection.begin():
                    _wait_for_others(connection)
                    found = _revision_in(connection)
                    if found != HEAD_REVISION:
                        self._require_known(found)
                        _upgrade(connection)
            finally:
                self._heed_references(connection, "ON")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a connection without a transaction. The method raises the errors of `transaction`."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (OperationalError, PoolTimeout) as error:
            raise database_error(error, self.engine.url) from error

    def _heed_references(self, connection: Connection, switch: str) -> None:
        """Switch SQLite's check of foreign keys ``ON`` or ``OFF``.

        The switch has no effect inside a transaction, and no effect on PostgreSQL.
        """
        if self._file is not None:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA foreign_keys={switch}")

    def require_current(self) -> None:
        """Raise an error unless the schema has the newest revision.

        Raises
        ------
        ConfigError
            ``migration-due``: the schema is older. ``schema-newer``: the schema is newer.
        TransientError
            The errors of `transaction`.
        """
        found = self._revision()
        if found != HEAD_REVISION:
            self._require_known(found)
            version = f"is at version {found}" if found else "has no tables"
            raise ConfigError(
                "migration-due",
                f"{self._name} {version}. This software needs database version {HEAD_REVISION}.",
                "Start `uair node` (or `uair up`) of this version once, to migrate the database. If you "
                "meant another database, name its configuration with --config or UAIR_CONFIG.",
            )

    def _require_known(self, revision: str | None) -> None:
        """Raise a ConfigError ``schema-newer`` if this version of the software lacks the revision."""
        if revision is not None and not _is_known(revision):
            raise ConfigError(
                "schema-newer",
                f"{self._name} is at version {revision}, which this version of the software does not know.",
                "Install the newer version again, or restore the database's backup from before the upgrade: "
                "docs/upgrading.md.",
            )

    def _revision(self) -> str | None:
        if self._file is not None and not self._file.exists():
            return None  # a connection would create the file
        with self.connected() as connection:
            return _revision_in(connection)

    @property
    def _file(self) -> Path | None:
        """Return the path of SQLite's file; None for PostgreSQL."""
        name = self.engine.url.database if self.engine.dialect.name == "sqlite" else None
        return Path(name) if name else None

    @property
    def _name(self) -> str:
        return f"The database {self._file}" if self._file else "The database"

    def close(self) -> None:
        """Release all connections."""
        self.engine.dispose()


def _wait_for_others(connection: Connection) -> None:
    """Wait for other processes that start at the same time. On SQLite, the write lock has this effect."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(4711)"))


def _upgrade(connection: Connection) -> None:
    from uair_node.cases.schema import upgrade  # Alembic, which a current database does not need

    upgrade(connection)


def _is_known(revision: str) -> bool:
    from uair_node.cases.schema import is_known

    return is_known(revision)


def _revision_in(connection: Connection) -> str | None:
    """Return the schema's revision from Alembic's table; None for a database without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _make_engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=POOL_WAIT_S,
            connect_args={"connect_timeout": CONNECT_S},
        )
    arguments = {"timeout": BUSY_TIMEOUT_MS / 1000}
    engine = create_engine(url, hide_parameters=True, pool_timeout=POOL_WAIT_S, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the event "begin" below starts transactions, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        reading = bool(connection.get_execution_options().get(READING))
        connection.exec_driver_sql(f"PRAGMA query_only={int(reading)}")
        if reading:
            connection.exec_driver_sql("BEGIN")
            return
        # A deferred transaction that first reads and then writes can fail at once with "locked". This
        # transaction waits instead.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
