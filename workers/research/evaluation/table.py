"""Make the paper's Table 1: rows of means with confidence intervals, paired differences, preferences.

The records have no layout. `report` and `json_report` format them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from workers.research.evaluation.fixed_preferences import REACHED_DICE, rounds_needed
from workers.research.evaluation.intervals import Estimate, estimate
from workers.research.evaluation.results import CaseResult, Measure, Method, Offered, PreferenceRun, Target
from workers.research.evaluation.workbench import RULES
from workers.uair.candidates import Rule

TARGETS: tuple[Target, ...] = ("liver", "lesion", "tumour", "found", "missed")
TITLES = {
    "unet": "U-Net",
    "transunet": "TransUNet",
    "finder": "3-D network alone",
    "manual": "manual (tight boxes)",
    "auto": "auto (one 3-D box)",
    "ensemble": "ensemble mean",
    "ensemble_offered": "ensemble mean, all lesions offered",
    "uair1": "UAIR, 1 round",
    "uair2": "UAIR, 2 rounds",
    "uair3": "UAIR, 3 rounds",
    "marked0": "a line on each missed lesion, candidate 1",
    "marked1": "the same, one pick",
    "marked2": "the same, two picks",
}
"""Titles of the methods, in the order of the paper's table."""
_DRAWN = ("manual", "marked0", "marked1", "marked2")


PICK_S, BOX_S = 14.0, 4.0
"""Seconds that a reader needs for a pick, and for a box.

The time of a pick is from the paper's Table 1 (16 s for one pick, 43 s for three picks). The time of a box is
assumed.
"""


@dataclass(frozen=True)
class Row:
    """The results of a method on one target.

    Attributes
    ----------
    method, target
        The method, and the target.
    automatic
        Whether no person drew a box or a line. Picks of candidates do not count as drawing.
    n, cases
        Number of measures (one for each lesion, or for each case), and number of cases.
    dsc, jaccard
        Means with intervals.
    average_surface_mm, hd95_mm
        Means over results that are not empty; None if all results are empty.
    seconds, picks
        Means over the measures.
    """

    method: Method
    target: Target
    automatic: bool
    n: int
    cases: int
    dsc: Estimate
    jaccard: Estimate
    average_surface_mm: float | None
    hd95_mm: float | None
    seconds: float
    picks: float

    @property
    def interactable(self) -> bool:
        """Whether a person can correct the result."""
        return self.picks > 0

    @property
    def interactive_s(self) -> float:
        """Seconds that a reader needs for all picks and boxes, computed with `PICK_S` and `BOX_S`."""
        return self.picks * (BOX_S if self.method.name == "manual" else PICK_S)


@dataclass(frozen=True)
class Difference:
    """DSC of the last round minus DSC of another method, paired by case or lesion."""

    target: Target
    rule: Rule
    other: str
    n: int
    dsc: Estimate


@dataclass(frozen=True)
class RuleDifference:
    """DSC of a round with the default rule minus DSC with another rule, paired by case or lesion."""

    method: Method
    target: Target
    other: Rule
    n: int
    dsc: Estimate


@dataclass(frozen=True)
class PreferenceRow:
    """The results of readers with one preference.

    Attributes
    ----------
    preference, prior
        The preference, and whether the engine started from its memory of these readers.
    n
        Number of lesions.
    rounds
        Mean number of rounds until the readers stop (`rounds_needed`).
    reached
        Part of the lesions whose Dice with the wanted shape reached `REACHED_DICE`.
    first, last
        Mean Dice with the wanted shape after round 1, and after the round in which the reader stops.
    """

    preference: str
    prior: bool
    n: int
    rounds: Estimate
    reached: float
    first: float
    last: float


def rows(results: Sequence[CaseResult], reader: str = "best") -> list[Row]:
    """Return the table's rows for a reader.

    The methods without a reader are rows of the reader ``best``.
    """
    measures = [
        measure for result in results for measure in result.measures if measure.method.reader == reader
    ]
    methods = sorted({measure.method for measure in measures}, key=_place)
    found = []
    for target in TARGETS:
        for method in methods:
            chosen = [
                measure for measure in measures if measure.target == target and measure.method == method
            ]
            if chosen:
                found.append(_row(method, target, chosen))
    return found


def _place(method: Method) -> tuple[int, int]:
    rule = -1 if method.rule is None else RULES.index(method.rule)
    return list(TITLES).index(method.name), rule


def _row(method: Method, target: Target, measures: Sequence[Measure]) -> Row:
    cases = [measure.case for measure in measures]
    surfaces = [measure.surface for measure in measures if measure.surface is not None]
    return Row(
        method=method,
        target=target,
        automatic=target != "lesion" and method.name not in _DRAWN,
        n=len(measures),
        cases=len(set(cases)),
        dsc=estimate([measure.overlap.dice for measure in measures], cases),
        jaccard=estimate([measure.overlap.jaccard for measure in measures], cases),
        average_surface_mm=float(np.mean([surface.average_mm for surface in surfaces])) if surfaces else None,
        hd95_mm=float(np.mean([surface.hd95_mm for surface in surfaces])) if surfaces else None,
        seconds=float(np.mean([measure.seconds for measure in measures])),
        picks=float(np.mean([measure.picks for measure in measures])),
    )


def differences(results: Sequence[CaseResult]) -> Iterator[Difference]:
    """Yield, for each target and rule, the last round's DSC minus the DSC of every compared method.

    The compared methods are round 1, both ensembles and *manual*.
    """
    measures = [
        measure for result in results for measure in result.measures if measure.method.reader == "best"
    ]
    values = {
        (measure.method, measure.target, measure.case, measure.lesion): measure.overlap.dice
        for measure in measures
    }
    last = max(
        (measure.method.name for measure in measures if measure.method.name.startswith("uair")), default=""
    )
    for target in TARGETS:
        for rule in RULES:
            for other in (Method("uair1", rule), *map(Method, ("ensemble", "ensemble_offered", "manual"))):
                pairs = [
                    (value - values[other, target, case, lesion], case)
                    for (method, of, case, lesion), value in values.items()
                    if of == target and method == Method(last, rule) and (other, of, case, lesion) in values
                ]
                if pairs:
                    gains, cases = zip(*pairs, strict=True)
                    yield Difference(target, rule, other.name, len(pairs), estimate(gains, cases))


@dataclass(frozen=True)
class OfferRow:
    """Candidates of single lesions from given boxes, and how well M_unc predicts the error of the pick.

    Attributes
    ----------
    method
        The round, and the rule.
    n
        Number of lesions.
    between
        Mean Dice over all pairs of the four candidates.
    entropy
        Entropy of the picked numbers 1 to 4, in bits. It is 2 if all four numbers are picked equally often.
    covered
        Mean part of the pick's wrong voxels that lies inside M_unc.
    precise
        Mean part of the voxels of M_unc where the pick is wrong.
    corrected
        Mean Dice of the pick if the truth replaces it inside M_unc.
    """

    method: Method
    n: int
    between: float
    entropy: float
    covered: float
    precise: float
    corrected: float


def offers(results: Sequence[CaseResult]) -> list[OfferRow]:
    """Return a row for each round and rule, for the reader ``best``."""
    found = [offer for result in results for offer in result.offered if offer.method.reader == "best"]
    methods = sorted({offer.method for offer in found}, key=lambda method: _place(method)[::-1])
    return [_offers(method, [offer for offer in found if offer.method == method]) for method in methods]


def _offers(method: Method, found: Sequence[Offered]) -> OfferRow:
    shares = np.bincount([offer.picked for offer in found]) / len(found)
    shares = shares[shares > 0]
    return OfferRow(
        method=method,
        n=len(found),
        between=float(np.mean([offer.between for offer in found])),
        entropy=float(-(shares * np.log2(shares)).sum()),
        covered=float(np.mean([offer.covered for offer in found if offer.covered is not None])),
        precise=float(np.mean([offer.precise for offer in found if offer.precise is not None])),
        corrected=float(np.mean([offer.corrected for offer in found])),
    )


def rule_differences(results: Sequence[CaseResult]) -> Iterator[RuleDifference]:
    """Yield the DSC with the default rule minus the DSC with each other rule, by reader, target and round."""
    measures = [
        measure for result in results for measure in result.measures if measure.method.rule is not None
    ]
    values = {
        (measure.method, measure.target, measure.case, measure.lesion): measure.overlap.dice
        for measure in measures
    }
    methods = sorted({measure.method for measure in measures if measure.method.rule == RULES[0]}, key=_place)
    for reader in dict.fromkeys(method.reader for method in methods):
        for target in TARGETS:
            for method in (candidate for candidate in methods if candidate.reader == reader):
                for rule in RULES[1:]:
                    other = Method(method.name, rule, reader)
                    pairs = [
                        (value - values[other, target, case, lesion], case)
                        for (of, what, case, lesion), value in values.items()
                        if (of, what) == (method, target) and (other, target, case, lesion) in values
                    ]
                    if pairs:
                        gains, cases = zip(*pairs, strict=True)
                        yield RuleDifference(method, target, rule, len(pairs), estimate(gains, cases))


@dataclass(frozen=True)
class StrokesRow:
    """Counts for a reader who draws a line over each lesion that round 1 missed, over all cases with lesions.

    Attributes
    ----------
    cases, lesions, missed, refused
        Number of cases, and sums over the cases; see `Strokes`.
    lines, boxes
        Medians over cases of the numbers of lines and boxes.
    """

    cases: int
    lesions: int
    missed: int
    refused: int
    lines: float
    boxes: float


def strokes(results: Sequence[CaseResult]) -> StrokesRow | None:
    """Return the row of the reader who draws lines; None if no case has lesions."""
    found = [result.strokes for result in results if result.strokes is not None]
    if not found:
        return None
    return StrokesRow(
        cases=len(found),
        lesions=sum(case.lesions for case in found),
        missed=sum(case.missed for case in found),
        refused=sum(case.refused for case in found),
        lines=float(np.median([case.lines for case in found])),
        boxes=float(np.median([case.boxes for case in found])),
    )


def preferences(results: Sequence[CaseResult]) -> list[PreferenceRow]:
    """Return a row for each preference without the engine's memory, and a row with the memory."""
    runs = [run for result in results for run in result.preferences]
    kinds = dict.fromkeys((run.preference, run.prior) for run in runs)
    return [
        _preference(*kind, [run for run in runs if (run.preference, run.prior) == kind]) for kind in kinds
    ]


def _preference(preference: str, prior: bool, runs: Sequence[PreferenceRun]) -> PreferenceRow:
    rounds = [rounds_needed(run.dices) for run in runs]
    last = [run.dices[number - 1] for run, number in zip(runs, rounds, strict=True)]
    return PreferenceRow(
        preference=preference,
        prior=prior,
        n=len(runs),
        rounds=estimate(rounds, [run.case for run in runs]),
        reached=float(np.mean([reached >= REACHED_DICE for reached in last])),
        first=float(np.mean([run.dices[0] for run in runs])),
        last=float(np.mean(last)),
    )
