"""The findings of an audit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_KINDS = ("lost", "duplicate", "stuck", "unexplained", "parked", "wrong")


@dataclass
class Answers:
    """The number of answers by outcome. Joined parts count with their effective answer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    contradictory: int = 0

    def line(self) -> str:
        """The ledger line of a run."""
        effective = self.outcomes["effective"] + self.outcomes["joined"]
        rest = [f"{name} {self.outcomes[name]}" for name in ("repeated", "replaced", "refused")]
        total = sum(self.outcomes.values()) + self.lost
        return (
            f"answers {total} = effective {effective} + {' + '.join(rest)}, "
            f"lost {self.lost}, contradictory {self.contradictory}"
        )


@dataclass
class Audit:
    """The auditor's findings. Each entry describes a fault."""

    cases: int = 0
    lost: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: Answers = field(default_factory=Answers)
    compared: int = 0

    @property
    def clean(self) -> bool:
        """Whether there are no findings."""
        return not self.findings()

    def findings(self) -> list[str]:
        """All findings, one line each."""
        return [f"{kind}: {what}" for kind in _KINDS for what in getattr(self, kind)]

    def line(self, faults: int) -> str:
        """The last line of a run's output."""
        counts = " ".join(f"{kind} {len(getattr(self, kind))}" for kind in _KINDS)
        return f"auditor: faults {faults} cases {self.cases} segmentations {self.compared} {counts}"
