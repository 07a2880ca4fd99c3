"""Find the reason why a database cannot be used: no answer, a wrong password, a missing database, a refusal.

libpq gives no SQLSTATE when a connection fails, so the server's message decides. If a server writes messages
in another language, then only their severity is known. Such refusals have the code ``database-refuses``.
"""

from __future__ import annotations

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dicom_config.errors import TransientError

UNAVAILABLE, PASSWORD, MISSING, REFUSES = (
    "database-unavailable",
    "database-password",
    "database-missing",
    "database-refuses",
)
DATABASE_CODES = frozenset({UNAVAILABLE, PASSWORD, MISSING, REFUSES})
"""All codes of errors that mean that the database cannot be used."""

_GOES_ON = "Then the work continues by itself."
_BUSY = ("is starting up", "is shutting down", "in recovery mode", "too many clients", "slots are reserved")
_PASSWORD = ("password authentication failed", "no password supplied", "empty password")
_SILENT = ("timeout", "timed out")


def database_error(error: DBAPIError | PoolTimeout, url: URL) -> TransientError:
    """Return the error for a database that cannot be used. Its text does not contain the password."""
    if isinstance(error, PoolTimeout):
        sentence = "The database cannot be used now (all connections of this process are busy)."
        return TransientError(UNAVAILABLE, sentence, f"Find the statement that takes so long. {_GOES_ON}")
    if url.get_backend_name() == "sqlite":
        why = str(error.orig) if "locked" in str(error.orig) else type(error.orig).__name__
        sentence = f"The database file {url.database} cannot be used now ({why})."
        return TransientError(UNAVAILABLE, sentence, f"Check the disk and the rights of the file. {_GOES_ON}")
    return _postgresql_error(str(error.orig), url)


def _postgresql_error(message: str, url: URL) -> TransientError:
    server = f"PostgreSQL at {url.host or 'the local socket'}:{url.port or 5432}"
    if any(words in message for words in _BUSY):
        sentence = (
            f"{server} accepts no connection now (it is starting or stopping, or has too many connections)."
        )
        return TransientError(
            UNAVAILABLE, sentence, f"Wait, or raise max_connections of PostgreSQL. {_GOES_ON}"
        )
    if any(words in message for words in _PASSWORD):
        return TransientError(
            PASSWORD,
            f"{server} refuses the user {url.username or '(none)'} or the password.",
            "Correct database.url or the file that database.password_file names.",
        )
    if "database" in message and "does not exist" in message:
        return TransientError(
            MISSING,
            f"{server} has no database {url.database}.",
            f"Create the database (`createdb --owner={url.username} {url.database}`), or correct "
            "database.url.",
        )
    if "FATAL" in message:
        return TransientError(
            REFUSES,
            f"{server} refuses the connection of {url.username} to {url.database}.",
            "The log of PostgreSQL says why. Check pg_hba.conf, the role and the password.",
        )
    why = "no answer in time" if any(words in message for words in _SILENT) else "no server answers"
    sentence = f"{server} cannot be reached ({why})."
    remedy = f"Start PostgreSQL. Check host and port of database.url. {_GOES_ON}"
    return TransientError(UNAVAILABLE, sentence, remedy)
