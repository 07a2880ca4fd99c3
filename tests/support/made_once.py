"""Folders that each test process makes once. Tests get copies, and never change the original."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, insert, select

from uair_node.cases.database import Database
from uair_node.cases.tables import Base


class MadeOnce:
    """The originals of a test process, by name.

    Attributes
    ----------
    folder
        The folder of the originals. The session sets it before the first test. A process that a test starts
        has none, and makes what it needs itself.
    """

    folder: Path | None = None

    def copy(self, name: str, make: Callable[[Path], None], target: Path) -> None:
        """Copy the original `name` to the folder `target`. The first call makes the original by `make`."""
        if self.folder is None:
            make(target)
            return
        original = self.folder / name
        if not original.exists():
            making = self.folder / f"making-{name}"
            make(making)
            making.rename(original)
        shutil.copytree(original, target, dirs_exist_ok=True)


MADE_ONCE = MadeOnce()


def migrated_sqlite(file: Path) -> str:
    """Make a SQLite file with all tables and no rows. Return its SQLAlchemy URL."""

    def migrate(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        database = Database(f"sqlite:///{folder / file.name}")
        database.migrate()
        database.close()

    MADE_ONCE.copy(f"migrated-{file.name}", migrate, file.parent)
    return f"sqlite:///{file}"


def copy_rows(source_url: str, target_url: str) -> None:
    """Copy all rows to a database that has tables and no rows."""
    source, target = Database(source_url), Database(target_url)
    with source.reading() as reading, target.transaction() as writing:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in reading.execute(select(table)).mappings()]
            if not rows:
                continue
            writing.execute(insert(table), rows)
            if target.engine.dialect.name == "postgresql" and "id" in table.c:
                last = select(
                    func.setval(func.pg_get_serial_sequence(table.name, "id"), func.max(table.c.id))
                )
                writing.execute(last)
    source.close()
    target.close()
