"""Keep received bytes durably.

Bytes are durable after a temporary file is written, synced and renamed, and its folder is synced. This
module does not use DICOM or the database.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_config.errors import ResourceError
from uair_node.storage.store import (
    PARTIAL_SUFFIX,
    disk_errors,
    make_folder_durably,
    staged,
    sync_folder,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpooledFile:
    """A file whose bytes survive a power cut.

    Attributes
    ----------
    sha256
        Hexadecimal digest of the content.
    size
        Size in bytes.
    """

    path: Path
    sha256: str
    size: int


Keep = Callable[[], SpooledFile]
"""A function that gives a written file its final name. After its return, the file is durable."""


class Spool:
    """A folder of received instances: ``<hash of series UID>/<hash of SOP UID>.<hash of content>.dcm``.

    Hashes are SHA-256. The same bytes always get the same path. Different bytes with the same UID get
    different paths. So an instance with other content never overwrites an acknowledged instance. The methods
    are thread-safe.

    Parameters
    ----------
    root
        The folder. It is made if it does not exist.
    min_free_bytes
        The least number of bytes that must stay free after a write.
    """

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        make_folder_durably(root)
        self._synced: set[Path] = set()

    def write(self, series_instance_uid: str, sop_instance_uid: str, data: bytes) -> SpooledFile:
        """Write `data` durably. The errors are those of `staged`."""
        with self.staged(series_instance_uid, sop_instance_uid, data) as keep:
            return keep()

    @contextmanager
    def staged(self, series_instance_uid: str, sop_instance_uid: str, data: bytes) -> Iterator[Keep]:
        """Write `data` to a temporary file. Yield a function that gives the file its final name.

        Raises
        ------
        ResourceError
            ``disk-low``: too few bytes would stay free. ``disk-full``: the space or quota was too small for
            `data`. ``disk-broken``: any other error of the file system. No part of `data` stays on disk.
        """
        digest = hashlib.sha256(data).hexdigest()
        folder = self._root / _hash(series_instance_uid)
        path = folder / f"{_hash(sop_instance_uid)}.{digest}.dcm"
        with disk_errors():
            self._refuse_when_low(len(data))
            # A folder that another thread has just made may not be durable yet.
            if folder not in self._synced or not folder.is_dir():
                folder.mkdir(exist_ok=True)
                sync_folder(self._root)
                self._synced.add(folder)

        def keep() -> SpooledFile:
            rename()
            return SpooledFile(path, digest, len(data))

        with staged(path, lambda temporary: temporary.write_bytes(data)) as rename:
            yield keep

    def clean(self) -> int:
        """Delete the incomplete files of a crashed process. Return their number.

        Only the process that writes may call this method, before its first `write`.
        """
        leftovers = list(self._root.glob(f"*/*{PARTIAL_SUFFIX}"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        if leftovers:
            log.warning("removed %d unfinished files from the spool", len(leftovers))
        return len(leftovers)

    def _refuse_when_low(self, size: int) -> None:
        free, least = shutil.disk_usage(self._root).free, self._min_free_bytes
        if free - size < least:
            raise ResourceError(
                "disk-low",
                f"The spool's disk has {free >> 20} MiB free; {least >> 20} MiB must stay free.",
                "Free space, or lower intake.min_free_bytes; the sender will try again.",
            )


def _hash(uid: str) -> str:
    """Return the SHA-256 digest of a UID, for a file name that is unique and hides the UID."""
    return hashlib.sha256(uid.encode()).hexdigest()
