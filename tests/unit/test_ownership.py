"""An administrator's command, run as root, leaves files to the service's own user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uair_node.console.users import Role, UsersFile
from uair_node.storage.store import make_folder_durably, write_durably

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
_SERVICE = 54321


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of another user."""
    made = tmp_path / "data"
    made.mkdir()
    os.chown(made, _SERVICE, _SERVICE)
    return made


def test_a_user_added_by_root_locks_nobody_out(folder: Path) -> None:
    path = folder / "console" / "users.json"
    UsersFile(path).add("reader", Role.VIEWER, "a long enough password")
    assert (path.stat().st_uid, path.stat().st_gid) == (_SERVICE, _SERVICE)
    assert path.parent.stat().st_uid == _SERVICE
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_root_writes_again_stays_with_its_owner(folder: Path) -> None:
    path = folder / "note"
    for content in ("first", "second"):
        write_durably(path, lambda temporary, content=content: temporary.write_text(content))
        assert path.stat().st_uid == _SERVICE


def test_folders_on_the_way_belong_to_the_owner(folder: Path) -> None:
    make_folder_durably(folder / "artifacts" / "case-000001")
    assert {path.stat().st_uid for path in folder.rglob("*")} == {_SERVICE}
