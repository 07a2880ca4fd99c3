"""Revisions of the database's schema, made with Alembic.

The import of Alembic takes a quarter of a second. So `Database` imports this module only to migrate, or if
the schema is not current.
"""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection


def alembic_config() -> Config:
    """Return Alembic's configuration with the folder of our migrations."""
    config = Config()
    folder = resources.files("uair_node.cases").joinpath("migrations")
    config.set_main_option("script_location", str(folder))
    return config


def upgrade(connection: Connection) -> None:
    """Migrate the schema to the newest revision in the transaction of `connection`."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def is_known(revision: str) -> bool:
    """Return whether this version of the software has a migration of this revision."""
    try:
        ScriptDirectory.from_config(alembic_config()).get_revision(revision)
    except CommandError:
        return False
    return True
