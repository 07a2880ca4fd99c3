"""The finding of a check, and functions that make findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from dicom_config.errors import UairError
from dicom_config.model import Settings


class Level(StrEnum):
    """The severity of a finding. Only a fault gives `uair check` the exit status 1."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """The result of a check of one part.

    Attributes
    ----------
    what
        The part of the installation that was checked.
    sentence, remedy
        The fault or the good state in a sentence, and the remedy of a fault.
    code
        Stable name of the fault; empty if there is no fault. `docs/administrators.md` explains each code.
    """

    what: str
    level: Level
    sentence: str
    remedy: str = ""
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether the finding is no fault. A warning is no fault."""
        return self.level != Level.FAULT

    @property
    def text(self) -> str:
        """Code, sentence and remedy; only the sentence if there is no fault."""
        return f"{self.code}: {self._sentences}" if self.code else self.sentence

    @property
    def log_line(self) -> str:
        """Code, part, sentence and remedy, as a line for the log."""
        return f"{self.code}: {self.what}: {self._sentences}"

    @property
    def _sentences(self) -> str:
        return f"{self.sentence.rstrip('.')}. {self.remedy}"

    def record(self) -> dict[str, Any]:
        """Return the finding as a record for `--json`."""
        return {**asdict(self), "level": str(self.level), "ok": self.ok}


Check = Callable[[Settings], Iterable[Finding]]
"""A function that checks one part of the installation. It returns faults instead of raising them."""


def good(what: str, sentence: str) -> Finding:
    """Return the finding for a part without a fault."""
    return Finding(what, Level.OK, sentence)


def warning(what: str, code: str, sentence: str, remedy: str) -> Finding:
    """Return the finding for a fault that does not stop the node now."""
    return Finding(what, Level.WARNING, sentence, remedy, code)


def fault(what: str, code: str, sentence: str, remedy: str) -> Finding:
    """Return the finding for a fault that stops the node or a part of the node."""
    return Finding(what, Level.FAULT, sentence, remedy, code)


def of_error(what: str, error: UairError) -> Finding:
    """Return the finding for an error: a fault with the error's code, sentence and remedy."""
    return fault(what, error.code, error.sentence, error.remedy)
