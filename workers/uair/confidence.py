"""What a lesion's confidence means for the reader: in how many of the four candidates it appears.

Confidence is the probability that a `LesionFilter` gives. Proposals are cheap and mostly wrong, so what is
doubtful is offered with and without, and the reader's pick decides.
"""

from __future__ import annotations

DOUBTFUL = 0.15
"""A proposal of less confidence is not shown at all."""
PROBABLE = 0.5
"""A lesion of less confidence has no place in the mean that no reader has seen."""
SURE = 0.6
"""A lesion of less confidence is left out of two of the first four candidates, so that the reader decides."""
CERTAIN = 0.9
"""A lesion of less confidence is left out of one."""


def shown_in(confidences: list[float], *, first: bool) -> list[tuple[bool, bool, bool, bool]]:
    """Return for each lesion in which of candidates 1 to 4 it appears.

    The less certain a lesion, the more of the four are without it. After a pick candidate 1 is what the
    reader selected, so there only new candidates are.
    """
    doubtful = (True, False, True, False) if first else (True, True, False, False)
    return [
        (True,) * 4
        if confidence >= CERTAIN
        else (True, True, True, False)
        if confidence >= SURE
        else doubtful
        for confidence in confidences
    ]
