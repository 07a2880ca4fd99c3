"""Where files lie, and how they reach the machine that needs them.

Rows keep paths relative to the data folder. With one machine, or a folder that all machines mount, the data
folder is the store. With an object store configured, each machine has a data folder of its own: what one
shares, others fetch when they first need it. A shared file never changes, so a fetched one is as good.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_config.errors import ResourceError, TransientError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Remote(Protocol):
    """A place that all machines reach; names are paths relative to the data folder."""

    def put(self, files: Mapping[str, Path]) -> None:
        """Keep these files under their names; when this returns, every machine can get them."""

    def get(self, files: Mapping[str, Path]) -> None:
        """Write what is kept under these names to these files."""

    def remove(self, names: Sequence[str]) -> None:
        """Keep these no longer; what is not there is no error."""

    def remove_folder(self, name: str) -> None:
        """Keep nothing under this folder any longer; an empty one is no error."""

    def probe(self) -> None:
        """Raise TransientError unless files can be kept here."""


@dataclass(frozen=True)
class Store:
    """The data folder: `spool` (received), `artifacts` (computed), `broker` (embedded transport).

    Parameters
    ----------
    root
        The data folder.
    remote
        Where files are shared with machines that have another data folder; None: they have the same.
    """

    root: Path
    remote: Remote | None = None

    @property
    def spool(self) -> Path:
        """Received instances."""
        return self.root / "spool"

    @property
    def broker(self) -> Path:
        """Messages of the embedded transport."""
        return self.root / "broker"

    def round_folder(self, case_id: int, number: int, token: str) -> Path:
        """Return (and make) the folder where one claim of a round's work writes.

        No two claims share one, so a worker that lost its lease never changes the files that count. The
        rows that a claim commits name them.

        Parameters
        ----------
        token
            The claim's token.
        """
        folder = self.case_folder(case_id) / f"round-{number:02d}.{token}"
        make_folder_durably(folder)
        return folder

    def case_folder(self, case_id: int) -> Path:
        """Return the folder of a case's artifacts."""
        return self.root / "artifacts" / f"case-{case_id:06d}"

    def case_folders(self) -> list[Path]:
        """Return the folders of all cases that have artifacts here."""
        return sorted((self.root / "artifacts").glob("case-*"))

    def relative(self, path: Path) -> str:
        """Return what a row keeps of `path`."""
        if path.is_relative_to(self.root):  # resolving asks the disk about each folder
            return path.relative_to(self.root).as_posix()
        return path.resolve().relative_to(self.root.resolve()).as_posix()

    def absolute(self, relative: str) -> Path:
        """Return where a row's path lies now, on the machine that wrote it."""
        return self.root / relative

    def share(self, *paths: Path) -> str:
        """Let other machines reach files of the data folder; return what a row keeps of the first.

        Raises
        ------
        TransientError
            ``store-unavailable``.
        """
        names = [self.relative(path) for path in paths]
        if self.remote is not None:
            self.remote.put(dict(zip(names, paths, strict=True)))
        return names[0]

    def fetch(self, relative: str) -> Path:
        """Return a row's path on this machine, whichever machine wrote it; raises as `share`."""
        return self.fetch_all([relative])[0]

    def fetch_if_kept(self, relative: str) -> Path | None:
        """Return a file's path on this machine, or None if retention deleted it; raises as `share`."""
        try:
            path = self.fetch(relative)
        except TransientError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return path if path.exists() else None

    def require_available(self) -> None:
        """Distinguish a store that is away from a file that is gone.

        Raises
        ------
        TransientError
            ``store-unavailable``, ``store-bucket``.
        """
        if self.remote is not None:
            self.remote.probe()
        elif not (self.root / "artifacts").is_dir():
            raise TransientError(
                "store-unavailable",
                "The data folder holds no artifacts.",
                "Mount the disk of the data folder; then the work continues by itself.",
            )

    def fetch_all(self, relatives: Sequence[str]) -> tuple[Path, ...]:
        """Return rows' paths on this machine, whichever machine wrote them; raises as `share`."""
        paths = tuple(self.root / relative for relative in relatives)
        missing = {name: path for name, path in zip(relatives, paths, strict=True) if not path.exists()}
        if self.remote is not None and missing:
            for path in missing.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            self.remote.get(missing)
        return paths

    def fetch_folder(self, relative: str, names: Sequence[str]) -> Path:
        """Return a folder on this machine that holds the files `names`; raises as `share`."""
        self.fetch_all([f"{relative}/{name}" for name in names])
        return self.root / relative


PARTIAL_SUFFIX = ".part"
"""Names that a crash can leave behind; no complete file has such a name."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the file system refuses into an error with a code.

    Raises
    ------
    ResourceError
        ``disk-full``: no space or quota left. ``disk-broken``: any other error of the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # pydicom's, of what it cannot write
            raise
        if error.errno in _NO_SPACE:
            raise ResourceError(
                "disk-full", "The disk is full.", "Free space; the work is tried again by itself."
            ) from error
        raise ResourceError(
            "disk-broken",
            f"A file cannot be written ({os.strerror(error.errno)}).",
            "Check the disk and the rights of its folder; the work is tried again by itself.",
        ) from error


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then fsync and rename it: whole or not there.

    A file that root writes belongs to the folder's owner: a command that an administrator runs as root locks
    nobody out.

    Raises
    ------
    ResourceError
        As `disk_errors`; nothing half-written is left.
    """
    with disk_errors():
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=PARTIAL_SUFFIX)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            _leave_to_owner(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        # The rename itself is durable only once the folder is.
        sync_folder(path.parent)


def make_folder_durably(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder, with `mode`, and those above it that are missing; their names survive a power cut.

    Raises
    ------
    ResourceError
        As `disk_errors`.
    """
    missing = []
    above = folder
    with disk_errors():
        while not above.is_dir():
            missing.append(above)
            above = above.parent
        folder.mkdir(mode, parents=True, exist_ok=True)
        for made in reversed(missing):
            _leave_to_owner(made)
            sync_folder(made.parent)


def _leave_to_owner(made: Path) -> None:
    """Change the owner of a file that root made to the owner of its folder."""
    if os.geteuid() == 0:
        owner = made.parent.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
