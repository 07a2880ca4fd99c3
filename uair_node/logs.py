"""Logging of a process: one line an event, to standard error. No patient data ever goes in (invariant 7)."""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

_BOUND: ContextVar[dict[str, object]] = ContextVar("bound", default={})  # noqa: B039 - never changed in place
_Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add values (``case=7, round=2``) to every line that this thread logs inside a ``with`` block."""
    token = _BOUND.set({**_BOUND.get(), **{key: one for key, one in values.items() if one is not None}})
    try:
        yield
    finally:
        _BOUND.reset(token)


class _Discreet(logging.Formatter):
    """Shows of an exception its type and place; its text may quote a header."""

    def formatException(self, ei: _Failure) -> str:  # noqa: N802 - the base class' name
        """Return the frames and the type, innermost last."""
        frames = traceback.extract_tb(ei[2])
        places = " > ".join(f"{Path(one.filename).name}:{one.lineno}" for one in frames)
        return f"{ei[0].__name__ if ei[0] else 'exception'} at {places}"


class _Text(_Discreet):
    def format(self, record: logging.LogRecord) -> str:
        words = "".join(f" {key}={value}" for key, value in _BOUND.get().items())
        return super().format(record) + words


class _Json(_Discreet):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **_BOUND.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(
    *, verbose: bool = False, quiet: bool = False, form: Literal["text", "json"] = "text"
) -> None:
    """Configure the root logger of this process.

    Parameters
    ----------
    verbose
        Also debug messages of our own.
    quiet
        Only warnings and worse.
    form
        Lines for people, or one JSON object a line.
    """
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Json() if form == "json" else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger().setLevel(max(level, logging.INFO))
    for ours in ("uair_node", "workers", "dicom_config"):
        logging.getLogger(ours).setLevel(level)
    # These libraries may quote data set contents, the first two even in warnings (a name of a wrong form).
    for foreign in ("pydicom", "highdicom"):
        logging.getLogger(foreign).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=foreign)
    for foreign in ("pynetdicom", "alembic", "celery", "kombu", "matplotlib"):
        logging.getLogger(foreign).setLevel(logging.WARNING)
    # Full UIDs; complaints about the missing host of a folder and about delayed tasks, which we send none of.
    for louder in ("pynetdicom", "kombu.connection", "kombu.transport.native_delayed_delivery"):
        logging.getLogger(louder).setLevel(logging.CRITICAL)
