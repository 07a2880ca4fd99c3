"""The data folder and the database belong together: a machine with another folder is told, by a code."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_config.errors import ConfigError
from dicom_config.model import Settings
from uair_node.cases.database import Database
from uair_node.context import Context, open_context
from uair_node.operations.checks.servers import check_database
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.storage.folder_identity import MARKER_FILE, claim_folder, require_same_folder
from uair_node.storage.store import Store
from uair_node.work.service_start import open_service


def _node(folder: Path, database: Database) -> Context:
    """A node's context, as at its start."""
    url = str(database.engine.url)
    return open_context(Settings(data_dir=folder, database={"url": url}), migrate=True)


def test_a_machine_with_another_folder_is_told_by_a_code(database: Database, tmp_path: Path) -> None:
    _node(tmp_path / "first", database).database.close()
    _node(tmp_path / "first", database).database.close()  # a restart
    other = tmp_path / "other"
    other.mkdir()
    settings = Settings(data_dir=other, database={"url": str(database.engine.url)})
    with pytest.raises(ConfigError) as caught:
        _node(other, database)
    assert caught.value.code == "data-folder-other"
    with pytest.raises(ConfigError) as caught:
        open_service(settings)
    assert caught.value.code == "data-folder-other"
    assert "data-folder-other" in {finding.code for finding in check_database(settings)}
    with pytest.raises(ConfigError) as caught:
        apply_retention(open_context(settings), dry_run=False)
    assert caught.value.code == "data-folder-other"
    assert list(other.iterdir()) == [], "nothing is written to the wrong folder"


def test_the_remedy_for_a_lost_folder_works(database: Database, tmp_path: Path) -> None:
    claim_folder(database, _made(tmp_path / "lost"))
    empty = _made(tmp_path / "empty")
    with pytest.raises(ConfigError) as caught:
        require_same_folder(database, empty)
    identity = caught.value.remedy.partition("`echo ")[2].partition(" > ")[0]
    (empty.root / MARKER_FILE).write_text(f"{identity}\n")
    require_same_folder(database, empty)


def test_a_database_that_was_made_anew_takes_the_folder_that_is_there(
    database: Database, tmp_path: Path
) -> None:
    store = _made(tmp_path)
    (store.root / MARKER_FILE).write_text("0" * 32 + "\n")
    require_same_folder(database, store)
    claim_folder(database, store)
    require_same_folder(database, store)
    assert (store.root / MARKER_FILE).read_text() == "0" * 32 + "\n"
    (store.root / MARKER_FILE).write_text("1" * 32 + "\n")
    with pytest.raises(ConfigError):
        require_same_folder(database, store)


class _Elsewhere:
    """A remote store that is never asked."""


def test_machines_with_an_object_store_have_folders_of_their_own(database: Database, tmp_path: Path) -> None:
    claim_folder(database, _made(tmp_path / "node"))
    worker = Store(_made(tmp_path / "worker").root, remote=_Elsewhere())  # type: ignore[arg-type]
    require_same_folder(database, worker)
    claim_folder(database, worker)
    assert list(worker.root.iterdir()) == []


def _made(folder: Path) -> Store:
    folder.mkdir(exist_ok=True)
    return Store(folder)
