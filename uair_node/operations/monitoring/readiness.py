"""Check whether the node can store objects safely now: the database answers, and the disk has space."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dicom_config.errors import TransientError
from uair_node.context import Context

_PATIENCE_S = 2.0


class Readiness:
    """Quick checks of database and disk. If the database does not answer in time, then its check fails.

    Parameters
    ----------
    context
        The settings, database and data folder.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._asked: Future[bool] | None = None

    def parts(self) -> dict[str, bool]:
        """Return the name of each checked part, and whether it is good."""
        return {"database": self._database_answers(), "disk": self._disk_has_room()}

    def _database_answers(self) -> bool:
        # If an earlier query still waits for the database, then no second query starts.
        if self._asked is None or self._asked.done():
            self._asked = self._pool.submit(self._ask)
        try:
            return self._asked.result(_PATIENCE_S)
        except FutureTimeout:
            return False

    def _ask(self) -> bool:
        try:
            with self._context.database.reading() as session:
                session.execute(text("SELECT 1"))
        except (TransientError, SQLAlchemyError):
            return False
        return True

    def _disk_has_room(self) -> bool:
        settings = self._context.settings
        return shutil.disk_usage(settings.data_dir).free >= settings.intake.min_free_bytes
