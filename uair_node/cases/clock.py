"""The clock that leases, due times, quiet series, expiry and retention go by: the database's.

It is the same for every machine. A machine whose own clock is wrong neither takes work that another holds
nor keeps work that it has lost; it holds up no series and expires no case.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

_SQLITE = text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
_POSTGRESQL = text("SELECT clock_timestamp() AT TIME ZONE 'UTC'")


def database_now(session: Session) -> datetime:
    """Return the present by the database's clock, UTC, without zone; SQLite counts milliseconds."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.fromisoformat(session.scalars(_SQLITE).one())
    found: datetime = session.scalars(_POSTGRESQL).one()
    return found
