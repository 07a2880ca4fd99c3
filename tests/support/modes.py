"""Files of a folder that other users of the machine can reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOR_OTHERS = 0o077


def open_to_others(folder: Path) -> list[Path]:
    """Return the folder and its content, as far as its group or all users have a right."""
    return [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & FOR_OTHERS]


@contextmanager
def common_umask() -> Iterator[None]:
    """Set the umask of a login shell in the block. All users can then read new files."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
