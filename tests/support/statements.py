"""The statements that a database runs while a test records them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from uair_node.cases.database import READING, Database

_OF_TRANSACTIONS = ("BEGIN", "PRAGMA query_only")


@dataclass
class Statements:
    """SQL texts of reading transactions, and SQL texts of transactions that may write."""

    reading: list[str] = field(default_factory=list)
    writing: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.reading) + len(self.writing)


@contextmanager
def recorded(database: Database) -> Iterator[Statements]:
    """Record the statements of the ``with`` block, without statements that begin a transaction."""
    found = Statements()

    def note(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(_OF_TRANSACTIONS):
            reads = connection.get_execution_options().get(READING)
            (found.reading if reads else found.writing).append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
