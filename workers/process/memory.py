"""Return memory that a task has freed to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_memory(**_: object) -> None:
    """Return freed memory to the system, if the C library can do this (glibc's `malloc_trim`).

    Freed volumes of some megabytes leave holes in the heap. After a few series, the holes are a fifth of a
    worker's memory.
    The function takes any keywords, so that a Celery signal can call it.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
