"""A private PostgreSQL server. Every test uses a new database on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.ports import free_port
from tests.support.server import Server, need

_USER = "uair"


def _version(folder: Path) -> int:
    digits = re.search(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0


def _program_folders() -> list[Path]:
    """Return Debian's folders of the server programs, newest version first."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)


def _unprivileged() -> tuple[str, ...]:
    """Return the words before a command that must not run as root. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    (setpriv,) = need("setpriv")
    return (str(setpriv), "--reuid=postgres", "--regid=postgres", "--init-groups", "--")


class Postgres(Server):
    """PostgreSQL on a free loopback port and a socket below its folder; all users of this machine may log in.

    Root runs it as the user ``postgres``, which owns the folder.
    """

    # Fast shutdown: it ends connections and rolls transactions back. SIGTERM would wait for clients.
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path) -> None:
        initdb, self._postgres = need("initdb", "postgres", folders=_program_folders())
        super().__init__("PostgreSQL", folder)
        self.port = free_port()
        self._prefix = _unprivileged()
        self._data = folder / "data"
        options = ["-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            [*self._prefix, str(initdb), "-D", str(self._data), *options],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
        )

    def command(self) -> Sequence[str]:
        """Run the server in the foreground, without fsync, since tests kill processes and not the machine."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [*self._prefix, str(self._postgres), "-D", str(self._data), *options]

    def is_up(self) -> bool:
        """Whether it accepts a connection."""
        try:
            psycopg.connect(self._conninfo("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database of this server."""
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """Create a database with a name of its own, a copy of `template`, and return its SQLAlchemy URL.

        PostgreSQL's own ``template1`` is empty.
        """
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._administer("CREATE DATABASE {} TEMPLATE {}", name, template)
        # The first connection to a new database builds its caches; the product waits 10 s for one.
        psycopg.connect(self._conninfo(name)).close()
        return self.url(name)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Yield the URL of a new copy of `template` that is dropped after the ``with`` block."""
        url = self.create_database(template)
        try:
            yield url
        finally:
            self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.rpartition("/")[2])

    def _administer(self, statement: str, *databases: str) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, databases)))

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={_USER} dbname={database} connect_timeout=60"


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Yield an empty folder that the server's user owns and can reach, short enough for a socket's path.

    Other users cannot reach pytest's temporary folders. So this folder lies in the system's temporary folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="uair-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
