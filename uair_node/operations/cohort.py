"""Statistics of a department's accepted cases in a period: sizes, effort, preferences, agreement.

`cohort_page` makes the page. The data identifies no patient, because each case has only its number. Series
UID and accession number are added only on request.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, ResultKind, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.findings.record import Findings, load_findings
from uair_node.operations.lesion_recall import LesionTally, tally_lesions
from uair_node.results.round_inputs import ACCEPTED_FILE, FINDINGS_FILE
from uair_node.storage.artifacts import load_candidates

_ANSWERED = (SelectionOutcome.EFFECTIVE, SelectionOutcome.REPEATED, SelectionOutcome.REFUSED)
_SEEN = {
    "lesions_found": "found",
    "lesions_marked": "marked",
    "lesions_drawn": "drawn",
    "lesions_dropped": "dropped",
}
"""Column of the CSV table -> attribute of `LesionTally`."""
IDENTIFYING = ("accession_number", "series_instance_uid")


@dataclass(frozen=True)
class CohortCase:
    """One accepted case.

    Parameters
    ----------
    case
        Number of the case.
    reader
        AE title that sent the acceptance; without an AE title, the mechanism.
    accepted_at
        Time of the acceptance, in UTC without a time zone.
    hours_to_accept
        Hours from the first four candidates to the acceptance.
    rounds, picks
        Number of rounds, and number of answers that took effect, including the acceptance.
    kinds
        The choice of each answer: the candidate's character, "edited" for an edit, "marks" for marks without
        a pick, "none" if no candidate fits.
    liver_ml, lesions, lesions_ml
        Volume of the liver, number of lesions, and volume of all lesions; None without measurements.
    response
        Response category since the study before; empty if there is none.
    seen
        Numbers of lesions that were found, added or dropped; None if unknown.
    identity
        Identifiers of the case; empty unless requested.
    """

    case: int
    reader: str
    accepted_at: datetime
    hours_to_accept: float
    rounds: int
    picks: int
    kinds: tuple[str, ...]
    liver_ml: float | None
    lesions: int | None
    lesions_ml: float | None
    response: str
    seen: LesionTally | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """The agreement of readers.

    Parameters
    ----------
    same_pick, asked
        `asked` is the number of rounds that several AE titles answered. `same_pick` is the number of these
        rounds in which all AE titles named the same candidate.
    liver_dice, lesion_dice
        Dice for each pair of accepted segmentations of the same series by different AE titles.
    """

    same_pick: int
    asked: int
    liver_dice: tuple[float, ...]
    lesion_dice: tuple[float, ...]


@dataclass(frozen=True)
class Cohort:
    """All accepted cases of a period. The period includes the days `first` and `last`."""

    first: date
    last: date
    cases: tuple[CohortCase, ...]
    agreement: Agreement

    @property
    def seen(self) -> LesionTally:
        """Numbers of lesions that were found, added or dropped in all cases."""
        return sum((case.seen for case in self.cases if case.seen is not None), LesionTally())

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """Pairs of a choice and its number of answers, the most frequent choice first."""
        return Counter(kind for case in self.cases for kind in case.kinds).most_common()


def collect(context: Context, first: date, last: date, *, identifying: bool = False) -> Cohort:
    """Collect the accepted cases of a period.

    Parameters
    ----------
    first, last
        First and last day of the period, in UTC.
    identifying
        Whether to add accession number and series UID to each case.

    Raises
    ------
    InputError
        ``period``: `last` lies before `first`.
    """
    if last < first:
        raise InputError("period", "The period ends before it begins.", "Give --from a day before --to.")
    start, stop = (datetime.combine(day, time()) for day in (first, last + timedelta(days=1)))
    with context.database.reading() as session:
        accepted = session.scalars(select(Case).where(Case.state == CaseState.ACCEPTED).order_by(Case.id))
        found = []
        for case in accepted:
            at = _accepted_at(case)
            if at is not None and start <= at < stop:
                found.append((case, at))
        rows = tuple(_row(context, session, case, at, identifying) for case, at in found)
        return Cohort(first, last, rows, _agreement(context, session, [case for case, _ in found]))


def as_csv(cohort: Cohort) -> str:
    """Return a CSV table with a line for each case."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    identity = [name for name in IDENTIFYING if any(name in case.identity for case in cohort.cases)]
    columns = ["case", "reader", "accepted_at", "hours_to_accept", "rounds", "picks", "kinds"]
    columns += ["liver_ml", "lesions", "lesions_ml", "response", *_SEEN]
    table.writerow([*columns, *identity])
    for case in cohort.cases:
        values = {**vars(case), "accepted_at": f"{case.accepted_at:%Y-%m-%dT%H:%M:%SZ}"}
        values["kinds"] = "; ".join(case.kinds)
        values |= {name: getattr(case.seen, part) if case.seen else None for name, part in _SEEN.items()}
        values["hours_to_accept"] = round(case.hours_to_accept, 3)
        row = ["" if values[name] is None else values[name] for name in columns]
        table.writerow([*row, *(case.identity.get(name, "") for name in identity)])
    return text.getvalue()


def _accepted_at(case: Case) -> datetime | None:
    return next(
        (
            transition.at
            for transition in reversed(case.transitions)
            if transition.state == CaseState.ACCEPTED
        ),
        None,
    )


def _row(context: Context, session: Session, case: Case, at: datetime, identifying: bool) -> CohortCase:
    answers = _answers(session, case, (SelectionOutcome.EFFECTIVE,))
    shown = case.rounds[0].published_at or at
    findings = _findings(context, case)
    liver: dict[str, Any] = {key: value.value for key, value in findings.liver.items()} if findings else {}
    return CohortCase(
        case=case.id,
        reader=answers[-1].calling_ae or answers[-1].mechanism if answers else "",
        accepted_at=at,
        hours_to_accept=(at - shown).total_seconds() / 3600,
        rounds=len(case.rounds),
        picks=len(answers),
        kinds=tuple(_kind(case, answer) for answer in answers),
        liver_ml=liver.get("liver_ml"),
        lesions=liver.get("lesions"),
        lesions_ml=liver.get("lesions_ml"),
        response=findings.follow_up.response if findings and findings.follow_up else "",
        seen=tally_lesions(case, answers),
        identity={name: getattr(case, name) for name in IDENTIFYING} if identifying else {},
    )


def _answers(session: Session, case: Case, outcomes: Sequence[SelectionOutcome]) -> Sequence[Selection]:
    return session.scalars(
        select(Selection)
        .where(Selection.case_id == case.id, Selection.outcome.in_(outcomes))
        .order_by(Selection.id)
    ).all()


def _kind(case: Case, answer: Selection) -> str:
    if answer.artifact:
        return "edited"
    if answer.verb == Verb.REJECT or answer.picked is None:
        return "none"
    if answer.marks is not None and not answer.marks["picked"]:
        return "marks"
    for round_ in case.rounds:
        for result in round_.results:
            at = (round_.number, result.k, result.kind)
            if at == (answer.round_number, answer.picked, ResultKind.CANDIDATE):
                return result.character.removesuffix(", sure lesions only") or f"candidate {result.k}"
    return f"candidate {answer.picked}"


def _findings(context: Context, case: Case) -> Findings | None:
    path = _kept(context, case, FINDINGS_FILE)
    return load_findings(path) if path else None


def _agreement(context: Context, session: Session, cases: Sequence[Case]) -> Agreement:
    same, asked = 0, 0
    for case in cases:
        by_round: dict[int | None, dict[str, int | None]] = {}
        for answer in _answers(session, case, _ANSWERED):
            if answer.calling_ae and answer.round_number and (answer.picked or answer.verb == Verb.REJECT):
                by_round.setdefault(answer.round_number, {}).setdefault(answer.calling_ae, answer.picked)
        several = [set(said.values()) for said in by_round.values() if len(said) > 1]
        asked += len(several)
        same += sum(len(picks) == 1 for picks in several)
    liver, lesion = [], []
    for first, second in combinations(cases, 2):
        if first.series_instance_uid != second.series_instance_uid:
            continue
        a, b = _accepted(context, first), _accepted(context, second)
        if _reader(session, first) != _reader(session, second) and a is not None and b is not None:
            liver.append(_dice(a > 0, b > 0))
            lesion.append(_dice(a > 1, b > 1))
    return Agreement(same, asked, tuple(liver), tuple(lesion))


def _reader(session: Session, case: Case) -> str:
    answers = _answers(session, case, (SelectionOutcome.EFFECTIVE,))
    return answers[-1].calling_ae if answers else ""


def _accepted(context: Context, case: Case) -> NDArray[np.uint8] | None:
    path = _kept(context, case, ACCEPTED_FILE)
    return load_candidates(path)[0].labels if path else None


def _kept(context: Context, case: Case, name: str) -> Path | None:
    """Return the path of a file of an accepted case; None if the file is not kept."""
    folder = case.current_round.final_folder if case.current_round else ""
    return context.store.fetch_if_kept(f"{folder}/{name}") if folder else None


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * float((a & b).sum()) / total if total else 1.0
