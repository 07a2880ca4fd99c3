"""Find files that are read while other connections cannot write to the database."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError


@dataclass(eq=False)
class Watch:
    """Tries to get the write lock whenever a file of a folder is opened.

    Attributes
    ----------
    opened
        The number of files that were opened.
    locked
        Stack traces of openings while the lock was held.
    """

    folder: Path
    engine: Engine
    sqlite: bool
    opened: int = 0
    locked: list[str] = field(default_factory=list)
    _busy: threading.local = field(default_factory=threading.local)

    def note(self, path: str) -> None:
        """Check whether another connection can write now."""
        if not path.startswith(str(self.folder)) or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self.opened += 1
            if not self._can_write():
                frames = [frame for frame in traceback.extract_stack() if "/uair_node/" in frame.filename]
                self.locked.append(
                    " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
                )
        finally:
            self._busy.now = False

    def _can_write(self) -> bool:
        try:
            with self.engine.connect() as connection:
                if self.sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    connection.execute(text("SELECT id FROM cases FOR UPDATE NOWAIT"))
                connection.exec_driver_sql("ROLLBACK")
        except OperationalError:
            return False
        return True


_watches: list[Watch] = []


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        for watch in list(_watches):
            watch.note(arguments[0])


@cache
def _add_hook() -> None:
    """Add the hook once: Python cannot remove one."""
    sys.addaudithook(_on_event)


@contextmanager
def watched_reads(database_url: str, folder: Path) -> Iterator[Watch]:
    """Watch the files of a folder that are opened in the `with` block, by any thread of this process.

    On SQLite, the lock is the database's write lock. On PostgreSQL, it is the lock of any case's row.
    """
    _add_hook()
    sqlite = make_url(database_url).get_backend_name() == "sqlite"
    arguments = {"timeout": 0, "isolation_level": None} if sqlite else {}
    engine = create_engine(database_url, poolclass=NullPool, connect_args=arguments)
    watch = Watch(folder, engine, sqlite)
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)
        engine.dispose()
