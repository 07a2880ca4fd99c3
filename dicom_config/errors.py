"""The base class of our exceptions.

Every error carries a stable `code`, a `sentence` that says what is wrong, and a `remedy` that says what to
do about it. None of the three contains patient data.
"""

from __future__ import annotations


class UairError(Exception):
    """Base class of all errors that we raise on purpose.

    Parameters
    ----------
    code
        Lower-case words joined by hyphens. It never changes, because tables, metrics and tests refer to it.
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
        """The line for a log: code, sentence and remedy."""
        return f"{self.code}: {self}"

    def __reduce__(self) -> tuple[type[UairError], tuple[str, str, str]]:
        """Make the error picklable, so that a worker's child process can pass it to its parent."""
        return type(self), (self.code, self.sentence, self.remedy)


class InputError(UairError):
    """The input cannot be used. A retry would not help, so there is none."""


class ConfigError(UairError):
    """The configuration is wrong. The error is raised before any service starts."""


class TransientError(UairError):
    """Another system failed for now. The work is retried after a delay."""


class ResourceError(UairError):
    """Memory, disk or device did not suffice. The work is retried in smaller pieces, or later."""


class IllegalTransitionError(UairError):
    """A case should have entered a state that the table of states does not allow."""
