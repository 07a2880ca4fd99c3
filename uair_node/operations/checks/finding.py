"""The finding of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from dicom_config.errors import UairError
from dicom_config.model import Settings


class Level(StrEnum):
    """How bad it is; only a fault makes `uair check` end with 1."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        The part of the installation.
    code
        Stable name of what is wrong, empty where nothing is; `docs/administrators.md` explains each.
    """

    what: str
    level: Level
    sentence: str
    remedy: str = ""
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing keeps the node from its work."""
        return self.level != Level.FAULT

    @property
    def text(self) -> str:
        """The code, what is wrong, and what to do; of a part that is well, the sentence alone."""
        return f"{self.code}: {self._sentences}" if self.code else self.sentence

    @property
    def log_line(self) -> str:
        """The code, the part, what is wrong, and what to do: what a log says."""
        return f"{self.code}: {self.what}: {self._sentences}"

    @property
    def _sentences(self) -> str:
        return f"{self.sentence.rstrip('.')}. {self.remedy}"

    def record(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {**asdict(self), "level": str(self.level), "ok": self.ok}


Check = Callable[[Settings], Iterable[Finding]]
"""Looks at one part of the installation; does not raise what it looks for."""


def good(what: str, sentence: str) -> Finding:
    """Return that a part is well."""
    return Finding(what, Level.OK, sentence)


def warning(what: str, code: str, sentence: str, remedy: str) -> Finding:
    """Return what does not stop the node, or not yet."""
    return Finding(what, Level.WARNING, sentence, remedy, code)


def fault(what: str, code: str, sentence: str, remedy: str) -> Finding:
    """Return what stops the node or a part of it."""
    return Finding(what, Level.FAULT, sentence, remedy, code)


def of_error(what: str, error: UairError) -> Finding:
    """Return one of our own errors as a fault."""
    return fault(what, error.code, error.sentence, error.remedy)
