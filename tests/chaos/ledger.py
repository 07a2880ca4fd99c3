"""The node's promises: objects that it answered 0000 for, and actions that it told operators it had done."""

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
        File that was sent -> SOP Instance UID, in the order in which the node answered 0000 for them.
    finished
        Series of which every instance was taken.
    answers
        SOP Instance UID and verb of each answer over DICOM that the node answered 0000 for.
    attempts
        The same of each answer that was sent, whatever came of it.
    told
        Case, mechanism and verb of each answer that the command line or the console said was done.
    expired
        Cases that the command line said are expired.
    tidied
        Whether retention ran.
    counts
        How often each interference did something.
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
        """Note that the node took a file: it is the newest version of its instance now."""
        self.taken.pop(path, None)
        self.taken[path] = uid
