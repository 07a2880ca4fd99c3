"""Let only one node run on a data folder.

A node cleans its spool when it starts, and `uair up` removes the messages of the last run. If another node
were running, then these steps would delete files that the other node is writing.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_config.errors import ConfigError

log = logging.getLogger(__name__)

LOCK_FILE = "node.lock"
"""The lock's file name in the data folder. The kernel releases the lock whenever the process ends."""

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Error numbers of a file system without locks."""


@contextmanager
def only_node(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock during a ``with`` block.

    If the file system has no locks, then the node runs without a lock and logs a warning.

    Raises
    ------
    ConfigError
        ``node-running``: another process holds the lock.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "node-running",
                f"Another UAIR node uses the data folder {data_dir}.",
                "Stop it first, or give this node a data_dir and a database of its own.",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("the file system of the data folder has no locks: start no second node on it")
        yield
    finally:
        os.close(descriptor)
