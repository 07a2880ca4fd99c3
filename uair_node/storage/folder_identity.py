"""Check that this machine's data folder belongs to the database.

Machines without an object store must mount the same data folder. If a machine uses a separate folder, then it
cannot find the files of the other machines. So the node writes a marker into its folder and into the
database.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import select

from dicom_config.errors import ConfigError
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import DataFolder
from uair_node.storage.store import Store, write_durably

MARKER_FILE = "data-folder-id"
"""The marker's file name in the data folder. The file contains 32 hexadecimal digits."""


def claim_folder(database: Database, store: Store) -> None:
    """Mark the data folder at the first start of a node. Later, check it as `require_same_folder` does."""
    if store.remote is not None:
        return
    with database.alone() as session:
        known = session.scalar(select(DataFolder.identity))
        if known is None:
            identity = _marker(store.root) or _mark(store.root)
            session.add(DataFolder(identity=identity))
        else:
            _require(store.root, known)


def require_same_folder(database: Database, store: Store) -> None:
    """Raise an error unless the data folder belongs to the database.

    With an object store, each machine has a separate folder, and this function does not check it.

    Raises
    ------
    ConfigError
        ``data-folder-other``: the folder's marker is not the marker in the database.
    """
    if store.remote is not None:
        return
    with database.reading() as session:
        known = session.scalar(select(DataFolder.identity))
    if known is not None:
        _require(store.root, known)


def _marker(folder: Path) -> str:
    try:
        return (folder / MARKER_FILE).read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _mark(folder: Path) -> str:
    identity = secrets.token_hex(16)
    write_durably(folder / MARKER_FILE, lambda part: part.write_text(f"{identity}\n", "ascii"))
    return identity


def _require(folder: Path, known: str) -> None:
    if _marker(folder) == known:
        return
    raise ConfigError(
        "data-folder-other",
        f"{folder} is not the data folder of this database: `{MARKER_FILE}` is missing or differs.",
        "Mount the node's data folder there, correct data_dir, or share files by `store`. If this folder "
        f"replaces a lost one: `echo {known} > {folder / MARKER_FILE}`, then `uair recover`.",
    )
