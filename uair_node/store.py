"""Where files lie under the data folder. Rows keep paths relative to it, so that it can move."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Store:
    """The data folder: `spool` (received), `artifacts` (computed), `broker` (embedded transport)."""

    root: Path

    @property
    def spool(self) -> Path:
        """Received instances."""
        return self.root / "spool"

    @property
    def broker(self) -> Path:
        """Messages of the embedded transport."""
        return self.root / "broker"

    def round_folder(self, case_id: int, number: int) -> Path:
        """Return (and make) the folder of one round's artifacts."""
        folder = self.root / "artifacts" / f"case-{case_id:06d}" / f"round-{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def relative(self, path: Path) -> str:
        """Return what a row keeps of `path`."""
        if path.is_relative_to(self.root):  # resolving asks the disk about each folder
            return path.relative_to(self.root).as_posix()
        return path.resolve().relative_to(self.root.resolve()).as_posix()

    def absolute(self, relative: str) -> Path:
        """Return where a row's path lies now."""
        return self.root / relative


PARTIAL_SUFFIX = ".part"
"""What a crash can leave behind; never the name of anything whole."""


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then fsync and rename it: whole or not there."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=PARTIAL_SUFFIX)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself is durable only once the folder is.
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
