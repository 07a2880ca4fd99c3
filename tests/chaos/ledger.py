"""The node's promises: objects that it answered with 0000, and actions that it reported as done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Ledger:
    """The promises made during a run.

    Attributes
    ----------
    taken
        Sent file -> SOP Instance UID, in the order in which the node answered with 0000.
    finished
        Series whose instances the node has all answered with 0000.
    answers
        SOP Instance UID and verb of each answer over DICOM that the node answered with 0000.
    attempts
        SOP Instance UID and verb of each sent answer, with any status.
    told
        Case, mechanism and verb of each answer that command line or console reported as done.
    expired
        Cases that the command line reported as expired.
    tidied
        Whether retention ran.
    counts
        Number of acts of each interference.
    """

    taken: dict[Path, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    answers: list[tuple[str, str]] = field(default_factory=list)
    attempts: set[tuple[str, str]] = field(default_factory=set)
    told: list[tuple[int, str, str]] = field(default_factory=list)
    expired: set[int] = field(default_factory=set)
    tidied: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, path: Path, uid: str) -> None:
        """Note that the node took a file, which is now the newest version of its instance."""
        self.taken.pop(path, None)
        self.taken[path] = uid
