"""Check the storage: disk, data folder, object store."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dicom_config.errors import UairError
from dicom_config.model import Settings
from uair_node.operations.checks.finding import Finding, fault, good, of_error, warning
from uair_node.storage.object_store import ObjectStore

_AMPLE = 4
"""If the free space is less than this multiple of `intake.min_free_bytes`, then the check warns.

At this limit, C-STORE is not refused yet.
"""


_FOR_OTHERS = 0o077


def check_disk(settings: Settings) -> Iterable[Finding]:
    """Check that the spool's disk has the free space that C-STORE requires."""
    folder = _existing(settings.data_dir)
    free, least = shutil.disk_usage(folder).free, settings.intake.min_free_bytes
    sentence = f"{free / 2**30:.1f} GiB free in {folder}"
    remedy = "Free space (`uair tidy`), move data_dir, or lower intake.min_free_bytes."
    if free < least:
        refused = f"{sentence}, less than intake.min_free_bytes: C-STORE is answered A700"
        yield fault("disk", "disk-low", refused, remedy)
    elif free < _AMPLE * least:
        yield warning("disk", "disk-filling", f"{sentence}; C-STORE stops at {least / 2**30:.1f} GiB", remedy)
    else:
        yield good("disk", sentence)


def check_data_folder(settings: Settings) -> Iterable[Finding]:
    """Check that this user can write to the data folder or create it. The check leaves no file."""
    folder = settings.data_dir if settings.data_dir.exists() else _existing(settings.data_dir)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".uair-check-") as file:
            file.write(b"uair")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield fault(
            "data folder",
            "data-folder-unusable",
            f"{settings.data_dir} cannot be written ({error.strerror}).",
            "Make the user that runs uair the owner of the folder. Check that its disk is mounted for "
            "writing, or correct data_dir. ReadWritePaths of a systemd unit must contain the folder.",
        )
        return
    if settings.data_dir.exists() and settings.data_dir.stat().st_mode & _FOR_OTHERS:
        sentence = f"{settings.data_dir} is open to other users of this machine."
        remedy = f"Run `chmod -R go= {settings.data_dir}` as its owner."
        yield warning("data folder", "data-folder-open", sentence, remedy)
    elif not settings.data_dir.exists():
        yield good("data folder", f"{settings.data_dir} is not there yet, {folder} can be written")
    else:
        yield good("data folder", f"{folder} can be written")


def check_store(settings: Settings) -> Iterable[Finding]:
    """Check that the shared object store can be listed."""
    if not settings.store.url:
        return
    try:
        ObjectStore(settings.store).probe()
    except UairError as error:
        yield of_error("store", error)
    else:
        yield good("store", f"{settings.store.url} can be listed")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())
