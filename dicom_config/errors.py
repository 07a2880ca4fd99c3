"""The exceptions of this project, and their base class.

Every error has a stable `code`, a `sentence` that describes the fault, and a `remedy` that says what a person
can do. None of these texts contains patient data.
"""

from __future__ import annotations


class UairError(Exception):
    """Base class of all errors that this project raises on purpose.

    Parameters
    ----------
    code
        Lower-case words joined by hyphens. It never changes, because tables, metrics and tests refer to it.
    sentence
        The fault, described for a person.
    remedy
        The action that can correct the fault.
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
    """The input cannot be used. The work is not retried, because a retry cannot help."""


class ConfigError(UairError):
    """The configuration is wrong. The error is raised before any service starts."""


class TransientError(UairError):
    """Another system failed temporarily. The work is retried after a delay."""


class ResourceError(UairError):
    """Memory, disk space or GPU memory was too small. The work is retried in smaller pieces, or later."""


class IllegalTransitionError(UairError):
    """The table of states does not allow this change of a case's state."""
