"""The database's clock. Leases, due times, the end of a series, expiry and retention use it.

All machines share this clock. So a machine with a wrong clock cannot claim work that another machine holds,
and cannot keep work whose lease has ended. It also cannot delay a series or expire a case.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement


class present(FunctionElement[datetime]):  # noqa: N801  as SQLAlchemy's own functions
    """SQL expression for the present time of the database's clock, in UTC without a time zone.

    On SQLite its resolution is a millisecond.
    """

    type = DateTime()
    inherit_cache = True


@compiles(present, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(present, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


def database_now(session: Session) -> datetime:
    """Return the present time of the database's clock, in UTC without a time zone.

    On SQLite its resolution is a millisecond.
    """
    return session.scalars(select(present())).one()
