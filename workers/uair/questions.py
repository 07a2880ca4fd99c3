"""Choose the doubts that a round shows, if the reader picks one candidate for all targets.

A doubt is the best alternative to the selected shape of a target. Most viewers send a whole segmentation
back. If every target differs among the candidates, then this pick gives little information about each
target. Usually the reader keeps the earlier selection, because every other candidate is worse in some target.
So a round combines two doubts. Candidate 2 shows the first alternative, candidate 3 shows the second, and
candidate 4 shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workers.uair.compose import LIVER
from workers.uair.state import TargetState

AS_SELECTED = "as selected"
_LESION = "lesion "
_COMBINED = ((False, True, False, True), (False, False, True, True))
"""The candidates that show the first and the second alternative, in the order of `shown_in`."""


@dataclass(frozen=True)
class _Doubt:
    """The best alternative to the selected shape of a target.

    Parameters
    ----------
    index
        Index of the target.
    alternative
        Index 1 … 3 of the offered candidate.
    worth_ml
        The target's volume in ml, times the expected gain in Dice by the alternative.
    change
        The difference in words. It describes the outline ("tighter"), because "smaller" could mean a change
        since an earlier study.
    """

    index: int
    alternative: int
    worth_ml: float
    change: str


def two_questions(targets: Sequence[TargetState]) -> tuple[tuple[TargetState, ...], tuple[str, ...] | None]:
    """Return the targets with at most two doubts, and the name of each candidate.

    If the presence of a lesion is in doubt, then two candidates leave the lesion out. Its presence is then
    the second doubt, so the round shows an alternative shape for only one target.

    Parameters
    ----------
    targets
        The targets of a round after a pick, the liver first.

    Returns
    -------
    tuple
        The targets, and the names of the four candidates. With fewer than two doubts: the unchanged targets,
        and None.
    """
    doubts = sorted(
        filter(None, map(_doubt, range(len(targets)), targets)), key=lambda doubt: -doubt.worth_ml
    )
    presence = any(any(target.present) and not target.present[2] for target in targets)
    asked = doubts[: 1 if presence else 2]
    if len(doubts) < 2 or not all(target.held for target in targets if any(target.present)):
        return tuple(targets), None
    result = [_resting(target) if any(target.present) else target for target in targets]
    for doubt, otherwise in zip(asked, _COMBINED, strict=False):
        order = [doubt.alternative if other else 0 for other in otherwise]
        result[doubt.index] = replace(targets[doubt.index], offered=targets[doubt.index].offered[order])
    changes = [
        _joined([doubt.change for doubt, otherwise in zip(asked, _COMBINED, strict=False) if otherwise[k]])
        for k in range(4)
    ]
    return tuple(result), tuple(change or AS_SELECTED for change in changes)


def _joined(changes: Sequence[str]) -> str:
    """Return up to two changes as text: "lesion 2 tighter, lesion 1 wider", "lesions 1 and 2 wider"."""
    names, ways = (
        [change.rpartition(" ")[0] for change in changes],
        {change.split()[-1] for change in changes},
    )
    if len(changes) < 2 or len(ways) > 1:
        return ", ".join(changes)
    numbers = sorted(int(name.removeprefix(_LESION)) for name in names if name.startswith(_LESION))
    what = (
        f"lesions {numbers[0]} and {numbers[1]}" if len(numbers) > 1 else f"liver and {_LESION}{numbers[0]}"
    )
    return f"{what} {ways.pop()}"


def _doubt(index: int, target: TargetState) -> _Doubt | None:
    """Return the doubt about a target's shape; None if the target is not shown or is settled."""
    if target.belief is None or target.settled or not any(target.present):
        return None
    agreement = target.belief.agreement(target.offered > 0)
    gains = np.maximum(agreement[:, 1:] - agreement[:, :1], 0.0).mean(axis=0)
    alternative = 1 + int(np.argmax(gains))
    cells = (target.offered > 0).reshape(len(target.offered), -1).sum(axis=1)
    grows = cells[alternative] >= cells[0]
    name = "liver" if target.value == LIVER else f"{_LESION}{target.value - LIVER}"
    return _Doubt(
        index,
        alternative,
        float(gains[alternative - 1] * cells[0] * target.crop.cell_volume_ml),
        f"{name} {'wider' if grows else 'tighter'}",
    )


def _resting(target: TargetState) -> TargetState:
    """Return the target with the selected shape in all four candidates."""
    if target.settled:
        return target
    offered = np.repeat(target.offered[:1], len(target.offered), axis=0)
    return replace(target, offered=offered, resting=True)
