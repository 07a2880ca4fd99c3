"""Files of a folder that other users of the machine can reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOR_OTHERS = 0o077


def open_to_others(folder: Path) -> list[Path]:
    """Return the folder and what it holds, as far as a group or all users have a right to it."""
    return [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & FOR_OTHERS]


@contextmanager
def common_umask() -> Iterator[None]:
    """Start processes as a login shell does, whose umask lets all users read."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
