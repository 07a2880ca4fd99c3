"""A reader's answer to a round: one candidate, or different candidates for different targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LIVER = 1


@dataclass(frozen=True)
class ReaderChoice:
    """The candidates that a reader chose.

    Parameters
    ----------
    k
        The candidate (1 to 4) from which all targets are taken; None if no candidate fits.
    per_target
        Label value (1 for the liver, 1 + n for lesion n) -> candidate, for targets that are taken from
        another candidate than `k`.
    per_part
        (label value, name of a part) -> candidate, for parts that are taken from another candidate than their
        target.
    """

    k: int | None
    per_target: Mapping[int, int] = field(default_factory=dict)
    per_part: Mapping[tuple[int, str], int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Return the choice in words: "candidate 3, lesion 2 of candidate 1"."""
        if self.k is None:
            return "none fits"
        others = [f"{target_name(value)} of candidate {k}" for value, k in sorted(self.per_target.items())]
        parts = [
            f"{part_name(value, name)} of candidate {k}" for (value, name), k in sorted(self.per_part.items())
        ]
        return ", ".join([f"candidate {self.k}", *others, *parts])

    def candidate_of(self, value: int) -> int | None:
        """Return the candidate from which a target is taken; None if no candidate fits.

        `value` is the target's label value. Its parts may be taken from other candidates.
        """
        return self.k and self.per_target.get(value, self.k)

    @property
    def stored(self) -> dict[str, int]:
        """Return the candidates other than `k` in the form that a row stores: ``{"2": 1, "2 upper": 4}``.

        The keys are label values, or a label value and the name of a part.
        """
        of_targets = {str(value): k for value, k in self.per_target.items()}
        return of_targets | {f"{value} {name}": k for (value, name), k in self.per_part.items()}

    @classmethod
    def from_stored(cls, k: int | None, stored: Mapping[str, int]) -> ReaderChoice:
        """Return the choice of candidate `k`, with the other candidates of targets and parts in `stored`."""
        per_target, per_part = {}, {}
        for key, other in stored.items():
            value, _, name = key.partition(" ")
            if name:
                per_part[int(value), name] = int(other)
            else:
                per_target[int(value)] = int(other)
        return cls(k, per_target, per_part)


def target_name(value: int) -> str:
    """Return the name of a label value: "liver", "lesion 2"."""
    return "liver" if value == LIVER else f"lesion {value - LIVER}"


def part_name(value: int, name: str) -> str:
    """Return the name of a part of a label value: "upper part of lesion 2"."""
    return f"{name} part of {target_name(value)}"
