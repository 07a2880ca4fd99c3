"""Gives memory that a task has freed back to the machine."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_memory(**_: object) -> None:
    """Return freed pages to the system, where the C library can (glibc's `malloc_trim`).

    Volumes of some megabytes that come and go leave holes in the heap: a fifth of what a worker holds after a
    few series. Takes keywords so that a signal may call it.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
