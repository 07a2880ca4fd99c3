"""The clock that leases, due times, quiet series, expiry and retention go by: the database's.

It is the same for every machine. So a machine with a wrong clock takes no work that another holds, and keeps
no work that it has lost. It delays no series and expires no case.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement


class present(FunctionElement[datetime]):  # noqa: N801  as SQLAlchemy's own functions
    """The present by the database's clock, UTC, without zone; SQLite counts milliseconds."""

    type = DateTime()
    inherit_cache = True


@compiles(present, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(present, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


def database_now(session: Session) -> datetime:
    """Return the present by the database's clock, UTC, without zone; SQLite counts milliseconds."""
    return session.scalars(select(present())).one()
