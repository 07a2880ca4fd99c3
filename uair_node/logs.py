"""Logging of a process: one line for each event, to standard error. No line contains patient data."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from dicom_config.errors import UairError

log = logging.getLogger(__name__)

_BOUND: ContextVar[dict[str, object]] = ContextVar("bound", default={})  # noqa: B039 - never changed in place
_Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add values (``case=7, round=2``) to every line that this thread logs inside a ``with`` block."""
    token = _BOUND.set({**_BOUND.get(), **{key: value for key, value in values.items() if value is not None}})
    try:
        yield
    finally:
        _BOUND.reset(token)


class _Discreet(logging.Formatter):
    """Formats only type and place of an exception. The exception's text may quote a DICOM header."""

    def formatException(self, ei: _Failure) -> str:  # noqa: N802 - the base class' name
        """Return the exception's type and its stack frames, innermost frame last."""
        frames = traceback.extract_tb(ei[2])
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        return f"{ei[0].__name__ if ei[0] else 'exception'} at {places}"


def _hide_error_texts(record: logging.LogRecord) -> bool:
    """Replace the exceptions in a record's message and arguments by their types.

    Celery passes an exception's text and its traceback as strings in a mapping of arguments. These strings
    are replaced, too.
    """
    record.msg = _without_text(record.msg)
    if isinstance(record.args, Mapping):
        named = {name: "" if name == "traceback" else value for name, value in record.args.items()}
        if "exc" in named:
            kind = record.exc_info[0] if record.exc_info else None
            named["exc"] = kind.__name__ if kind else "error"
        record.args = {name: _without_text(value) for name, value in named.items()}
    elif record.args:
        record.args = tuple(_without_text(value) for value in record.args)
    return True


def _without_text(value: object) -> object:
    """Return an argument of a log record; a foreign exception becomes the name of its type."""
    return (
        type(value).__name__
        if isinstance(value, BaseException) and not isinstance(value, UairError)
        else value
    )


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an exception that ends the process, without its text. `sys.excepthook` would print the text."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    """Log an exception that ends a thread, without its text. `threading.excepthook` would print the text."""
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        failure = (args.exc_type, args.exc_value, args.exc_traceback)
        log.critical("uncaught exception in a thread", exc_info=failure)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    """Log an exception in a finalizer, without its text. The interpreter would print the text."""
    if args.exc_value is not None:
        log.error("exception in a finalizer", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


class _Text(_Discreet):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the local time with its zone: ``2026-01-31 12:00:00.123+01:00``."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")

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
        Also log our own debug messages.
    quiet
        Log only warnings and errors.
    form
        ``text``: lines for people. ``json``: a JSON object for each line.
    """
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler()
    handler.addFilter(_hide_error_texts)
    handler.setFormatter(
        _Json() if form == "json" else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger().setLevel(max(level, logging.INFO))
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable
    for ours in ("uair_node", "workers", "dicom_config"):
        logging.getLogger(ours).setLevel(level)
    # All these libraries may quote contents of data sets. pydicom and highdicom quote them even in warnings,
    # such as a warning about a name of a wrong form.
    for foreign in ("pydicom", "highdicom"):
        logging.getLogger(foreign).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=foreign)
    for foreign in ("pynetdicom", "alembic", "celery", "kombu", "matplotlib"):
        logging.getLogger(foreign).setLevel(logging.WARNING)
    # pynetdicom logs full UIDs. kombu warns about the missing host of a folder, and about delayed tasks. But
    # we do not use delayed tasks.
    for louder in ("pynetdicom", "kombu.connection", "kombu.transport.native_delayed_delivery"):
        logging.getLogger(louder).setLevel(logging.CRITICAL)
