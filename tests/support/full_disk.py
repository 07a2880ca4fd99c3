"""A disk that fails for the durable writes of one module. The writes of other modules succeed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

_WRITERS = {"uair_node.storage.store", "uair_node.results.result_writer", "contextlib"}
"""Modules that write for other modules."""


@contextmanager
def failing_writes_of(module: str, number: int) -> Iterator[list[str]]:
    """Let each durable write of a module fail at its sync. Yield the names of these files.

    Most file systems report a full disk there at the latest. Syncs of folders and of other modules succeed.
    """
    sync, failed = os.fsync, list[str]()

    def fail(handle: int) -> None:
        writing = _writing(sys._getframe(1))
        if writing is not None and _asker(writing) == module:
            failed.append(str(writing.f_locals["path"].name))
            raise OSError(number, os.strerror(number))
        sync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield failed


def _writing(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the durable write whose file is synced now."""
    if frame is not None and frame.f_code.co_name == "_write_synced":
        return frame
    return None


def _asker(frame: FrameType | None) -> str:
    """Return the module that started a write."""
    while frame is not None and frame.f_globals["__name__"] in _WRITERS:
        frame = frame.f_back
    assert frame is not None, "somebody asked for it"
    return str(frame.f_globals["__name__"])
