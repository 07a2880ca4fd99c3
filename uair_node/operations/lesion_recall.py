"""Count the lesions of accepted cases: found in round 1, added by the reader, or dropped.

The counts come from the case's rows, because a lesion keeps its number in all rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uair_node.cases.marks import marks_of
from uair_node.cases.reader_choice import LIVER
from uair_node.cases.tables import Case, ResultKind, Selection


@dataclass(frozen=True)
class LesionTally:
    """Numbers of lesions of one case or of several cases.

    Attributes
    ----------
    found
        Accepted lesions that a candidate of round 1 offered.
    marked, drawn
        Accepted lesions that a mark added (`marked`), and that an edit added (`drawn`).
    dropped
        Lesions of candidate 1 of round 1 that were not accepted.
    """

    found: int = 0
    marked: int = 0
    drawn: int = 0
    dropped: int = 0

    def __add__(self, other: LesionTally) -> LesionTally:
        return LesionTally(
            self.found + other.found,
            self.marked + other.marked,
            self.drawn + other.drawn,
            self.dropped + other.dropped,
        )

    @property
    def accepted(self) -> int:
        """Number of accepted lesions."""
        return self.found + self.marked + self.drawn

    @property
    def recall(self) -> float | None:
        """The fraction of the accepted lesions that round 1 offered; None if no lesion was accepted."""
        return self.found / self.accepted if self.accepted else None


def tally_lesions(case: Case, answers: Sequence[Selection]) -> LesionTally | None:
    """Count the lesions of an accepted case.

    Return None if the case has no final segmentation yet, or if the case started from another system's
    segmentation.

    Parameters
    ----------
    answers
        The case's answers that took effect.
    """
    first, newest = case.rounds[0], case.rounds[-1]
    finals = [result for result in newest.results if result.kind == ResultKind.FINAL]
    if not finals or not first.candidates or first.selection_id is not None:
        return None
    accepted = _lesions(finals[0].targets)
    offered = {lesion for candidate in first.candidates for lesion in _lesions(candidate.targets)}
    shown = _lesions(first.candidates[0].targets)
    marks = [said for said in (marks_of(answer.marks) for answer in answers) if said is not None]
    marked = {lesion.value for said in marks for lesion in said.lesions if lesion.new}
    added = accepted - offered
    return LesionTally(
        found=len(accepted & offered),
        marked=len(added & marked),
        drawn=len(added - marked),
        dropped=len(shown - accepted),
    )


def _lesions(targets: Sequence[int]) -> set[int]:
    return {value for value in targets if value > LIVER}
