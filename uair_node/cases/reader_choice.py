"""A reader's answer to a round: one candidate, or different candidates for different targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LIVER = 1


@dataclass(frozen=True)
class ReaderChoice:
    """A pick.

    Parameters
    ----------
    k
        The candidate that all targets are taken from, 1 to 4; None: none fits.
    per_target
        Label value (1 liver, 1 + n lesion n) -> candidate, where that is another one than `k`.
    """

    k: int | None
    per_target: Mapping[int, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Say it: "candidate 3, lesion 2 of candidate 1"."""
        if self.k is None:
            return "none fits"
        others = [f"{target_name(value)} of candidate {k}" for value, k in sorted(self.per_target.items())]
        return ", ".join([f"candidate {self.k}", *others])


def target_name(value: int) -> str:
    """Return the name of a label value: "liver", "lesion 2"."""
    return "liver" if value == LIVER else f"lesion {value - LIVER}"
