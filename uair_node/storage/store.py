"""The paths of files, and the transfer of files to the machine that needs them.

Database rows contain paths relative to the data folder. With a single machine, or with a folder that all
machines mount, the data folder is the store. With an object store, each machine has a separate data folder. A
machine shares its new files. Another machine fetches a file at its first use. A shared file never changes, so
a fetched copy stays valid.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dicom_config.errors import ResourceError, TransientError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Remote(Protocol):
    """A store that all machines can access. Names are paths relative to the data folder."""

    def put(self, files: Mapping[str, Path]) -> None:
        """Upload files under the given names. After the return, every machine can get them."""

    def get(self, files: Mapping[str, Path]) -> None:
        """Download the objects with the given names to the given files."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete the objects with these names. A missing object is no error."""

    def remove_folder(self, name: str) -> None:
        """Delete all objects of this folder. An empty folder is no error."""

    def probe(self) -> None:
        """Raise a TransientError if the store cannot be used."""


@dataclass(frozen=True)
class Store:
    """The data folder with `spool` (received files), `artifacts` (computed files), `broker` (messages).

    Parameters
    ----------
    root
        The data folder.
    remote
        The object store for machines with separate data folders; None if all machines have the same folder.
    """

    root: Path
    remote: Remote | None = None

    @property
    def spool(self) -> Path:
        """The spool of received instances."""
        return self.root / "spool"

    @property
    def broker(self) -> Path:
        """The folder of the embedded transport's messages."""
        return self.root / "broker"

    def round_folder(self, case_id: int, number: int, token: str) -> Path:
        """Make the folder for the files that a worker writes for a round. Return the folder's path.

        Each claim gets a separate folder. The transaction that ends the job writes the paths of the files
        into database rows. So a worker that lost its lease cannot change a file whose path is in a row.

        Parameters
        ----------
        token
            The token of the claim, `Claim.token`.
        """
        folder = self.case_folder(case_id) / f"round-{number:02d}.{token}"
        make_folder_durably(folder)
        return folder

    def case_folder(self, case_id: int) -> Path:
        """Return the folder of a case's artifacts."""
        return self.root / "artifacts" / f"case-{case_id:06d}"

    def case_folders(self) -> list[Path]:
        """Return the existing artifact folders of cases on this machine."""
        return sorted((self.root / "artifacts").glob("case-*"))

    def relative(self, path: Path) -> str:
        """Return a path as database rows store it: relative to the data folder."""
        if path.is_relative_to(self.root):  # fast, because `resolve` would access each folder on the disk
            return path.relative_to(self.root).as_posix()
        return path.resolve().relative_to(self.root.resolve()).as_posix()

    def absolute(self, relative: str) -> Path:
        """Return this machine's path of a file whose path is in a row. The file may not exist here."""
        return self.root / relative

    def share(self, *paths: Path) -> str:
        """Upload files of the data folder for other machines. Return the first path as rows store it.

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
        """Return this machine's path of a file whose path is in a row. Download the file if necessary.

        The errors are those of `share`.
        """
        return self.fetch_all([relative])[0]

    def fetch_if_kept(self, relative: str) -> Path | None:
        """Return the path of a file as `fetch` does; None if the file no longer exists.

        The errors are those of `share`.
        """
        try:
            path = self.fetch(relative)
        except TransientError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return path if path.exists() else None

    def require_available(self) -> None:
        """Raise an error if the store cannot be used. If no error is raised, a missing file was deleted.

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
        """Return this machine's paths of several files, as `fetch` does for a single file."""
        paths = tuple(self.root / relative for relative in relatives)
        missing = {name: path for name, path in zip(relatives, paths, strict=True) if not path.exists()}
        if self.remote is not None and missing:
            for path in missing.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            self.remote.get(missing)
        return paths

    def fetch_folder(self, relative: str, names: Sequence[str]) -> Path:
        """Fetch the files `names` of a folder. Return the folder's path. The errors are those of `share`."""
        self.fetch_all([f"{relative}/{name}" for name in names])
        return self.root / relative


PARTIAL_SUFFIX = ".part"
"""Suffix of incomplete files, which a crash can leave. Complete files never have this suffix."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the file system into errors with a code.

    Raises
    ------
    ResourceError
        ``disk-full``: no space or quota left. ``disk-broken``: any other error of the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # raised by pydicom for a data set that it cannot write
            raise
        if error.errno in _NO_SPACE:
            raise ResourceError(
                "disk-full", "The disk is full.", "Free space; the work is tried again by itself."
            ) from error
        raise ResourceError(
            "disk-broken",
            f"A file cannot be written ({os.strerror(error.errno)}).",
            "Check the disk and the rights of the file's folder. The work is tried again by itself.",
        ) from error


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file durably: `write` fills a temporary file, which is then synced and renamed to `path`.

    If root writes the file, then the file gets the folder's owner. So services can still use the file after
    an administrator ran a command as root.

    Raises
    ------
    ResourceError
        The errors of `disk_errors`. No incomplete file stays.
    """
    with staged(path, write) as rename:
        rename()


@contextmanager
def staged(path: Path, write: Callable[[Path], object]) -> Iterator[Callable[[], None]]:
    """Write and sync a temporary file. Yield a function that gives the file its final name.

    If the ``with`` block does not call the function, then the file is deleted.

    Raises
    ------
    ResourceError
        The errors of `disk_errors`. The yielded function raises them, too.
    """
    temporary = _write_synced(path, write)
    try:
        yield partial(_rename_durably, temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, write: Callable[[Path], object]) -> Path:
    """Return a durable temporary file beside `path`, with the content that `write` writes.

    After an error, the temporary file is deleted.
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
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def _rename_durably(temporary: Path, path: Path) -> None:
    with disk_errors():
        temporary.replace(path)
        # The rename is durable only after the folder is synced.
        sync_folder(path.parent)


def make_folder_durably(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder with `mode`, and its missing parents. All made folders survive a power cut.

    Raises
    ------
    ResourceError
        The errors of `disk_errors`.
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
    """If root made a file, then give it the owner of its folder."""
    if os.geteuid() == 0:
        owner = made.parent.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
