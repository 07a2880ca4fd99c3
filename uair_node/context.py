"""What every part of a running process shares: settings, database, data folder."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_config.model import Settings
from uair_node.cases.database import Database
from uair_node.store import Store


@dataclass(frozen=True)
class Context:
    """Built once at start and passed down."""

    settings: Settings
    database: Database
    store: Store

    @property
    def destinations(self) -> tuple[str, ...]:
        """Names of the configured destinations."""
        return tuple(one.name for one in self.settings.destinations)

    @property
    def withdrawing(self) -> tuple[str, ...]:
        """Names of the destinations that are told to hide what was not accepted."""
        return tuple(one.name for one in self.settings.destinations if one.withdraw)


def open_context(settings: Settings, *, migrate: bool = False) -> Context:
    """Open the data folder and the database.

    Parameters
    ----------
    migrate
        Bring the schema up to date; otherwise an old one raises ConfigError ``migration-due``.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    if migrate:
        database.migrate()
    else:
        database.require_current()
    return Context(settings, database, Store(settings.data_dir))
