"""The one root of our exceptions.

Every error carries a stable `code`, a `sentence` that says what is wrong, and a `remedy` that says what to
do about it. None of the three ever holds patient data (DESIGN invariant 7).
"""

from __future__ import annotations


class UairError(Exception):
    """Root of all errors that we raise on purpose.

    Parameters
    ----------
    code
        Stable, lower case, words joined by hyphens; what tables, metrics and tests refer to.
    sentence
        What is wrong, for a person.
    remedy
        What that person can do about it.
    """

    def __init__(self, code: str, sentence: str, remedy: str = "") -> None:
        super().__init__(f"{sentence} {remedy}".strip())
        self.code = code
        self.sentence = sentence
        self.remedy = remedy

    @property
    def log_line(self) -> str:
        """The code, what is wrong, and what to do: what a log says."""
        return f"{self.code}: {self}"

    def __reduce__(self) -> tuple[type[UairError], tuple[str, str, str]]:
        """Let the error pass from a worker's child to its parent."""
        return type(self), (self.code, self.sentence, self.remedy)


class InputError(UairError):
    """The input cannot be used as it is; trying again changes nothing. Never retried."""


class ConfigError(UairError):
    """The configuration is wrong; raised before anything starts."""


class TransientError(UairError):
    """Something outside failed for now; retried with a delay."""


class ResourceError(UairError):
    """Memory, disk or device ran short; retried smaller, or later."""


class IllegalTransitionError(UairError):
    """A case was to enter a state that the table of states does not allow."""
