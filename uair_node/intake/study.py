"""Choose among the series of a study: wait until all series are complete, and compare their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.dicom.headers import read_headers
from uair_node.intake.choice import (
    SeriesCandidate,
    read_facts,
    refusal_by_rivals,
    refusal_by_score,
    score_series,
)
from uair_node.intake.series_parts import SeriesPart, inspect_parts

_UNDECIDED_OR_REFUSED = (CaseState.RECEIVING, CaseState.REJECTED, CaseState.SUPERSEDED)


@dataclass(frozen=True)
class SeriesDecision:
    """The decision about a part of a series that passed the gate.

    Attributes
    ----------
    reason
        The matching rules; empty without rules.
    refusal
        The error if the part is not segmented; None if the part is segmented or `waits`.
    waits
        Whether the decision must wait until other series of the study are complete.
    """

    reason: str = ""
    refusal: InputError | None = None
    waits: bool = False


@dataclass(frozen=True)
class _Rival:
    series_instance_uid: str
    last_instance_at: datetime
    paths: list[Path]


def choose(
    context: Context, case_id: int, parts: Sequence[SeriesPart], held: int, now: datetime
) -> list[SeriesDecision]:
    """Return the decision about each of `parts`, by the site's rules.

    Parameters
    ----------
    parts
        The parts of the case's series that passed the gate.
    held
        Number of other parts of the series that already have a case.
    """
    rules = context.settings.rules
    own = [_candidate(context, part) for part in parts]
    reasons = [candidate.score.reason if rules.series else "" for candidate in own]
    refusals = [refusal_by_score(candidate.score, rules) for candidate in own]
    if rules.per_study is None or all(refusals):
        return [SeriesDecision(*pair) for pair in zip(reasons, refusals, strict=True)]
    with context.database.reading() as session:
        case = session.get_one(Case, case_id)
        rivals, taken = _rivals(context, session, case), held + _taken(session, case)
    candidates = [candidate for candidate, refusal in zip(own, refusals, strict=True) if refusal is None]
    for rival in rivals:
        found = _inspect(context, rival, now)
        if found is None:
            return [SeriesDecision(reason, waits=True) for reason in reasons]
        candidates += found
    return [
        SeriesDecision(reason, refusal or refusal_by_rivals(candidate, candidates, taken, rules))
        for candidate, reason, refusal in zip(own, reasons, refusals, strict=True)
    ]


def _candidate(context: Context, part: SeriesPart) -> SeriesCandidate:
    facts = read_facts(part.headers)
    score = score_series(facts, context.settings.rules)
    return SeriesCandidate(part.headers[0].series_instance_uid, facts, score, part.acquisition)


def _inspect(context: Context, rival: _Rival, now: datetime) -> list[SeriesCandidate] | None:
    """Return the parts of another series that could be segmented; None if the series may be incomplete."""
    intake = context.settings.intake
    quiet = now - rival.last_instance_at
    if quiet < timedelta(seconds=intake.quiet_s):
        return None
    try:
        headers = read_headers(rival.paths)
    except InputError:
        return []
    if not headers:
        return []
    parts = inspect_parts(headers, context.settings)
    if any(part.verdict.may_complete for part in parts) and quiet < timedelta(seconds=intake.max_wait_s):
        return None
    candidates = [_candidate(context, part) for part in parts if part.verdict.refusal is None]
    return [
        candidate
        for candidate in candidates
        if refusal_by_score(candidate.score, context.settings.rules) is None
    ]


def _rivals(context: Context, session: Session, case: Case) -> list[_Rival]:
    undecided = select(Case).where(
        Case.study_instance_uid == case.study_instance_uid,
        Case.series_instance_uid != case.series_instance_uid,
        Case.state == CaseState.RECEIVING,
    )
    return [
        _Rival(case.series_instance_uid, case.last_instance_at, _paths(context, session, case))
        for case in session.scalars(undecided)
    ]


def _paths(context: Context, session: Session, case: Case) -> list[Path]:
    stored = select(Instance.path).where(
        Instance.series_instance_uid == case.series_instance_uid, Instance.status == InstanceStatus.STORED
    )
    return [context.store.absolute(path) for path in session.scalars(stored)]


def _taken(session: Session, case: Case) -> int:
    """Return the number of chosen acquisitions in the study's other series."""
    chosen = select(Case.series_instance_uid, Case.acquisition).where(
        Case.study_instance_uid == case.study_instance_uid,
        Case.series_instance_uid != case.series_instance_uid,
        Case.state.not_in(_UNDECIDED_OR_REFUSED),
    )
    return len(session.execute(chosen.distinct()).all())
