"""A series among the others of its study: waited for, scored, chosen or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.intake.choice import (
    Candidate,
    read_facts,
    refusal_by_rivals,
    refusal_by_score,
    score_series,
)
from uair_node.intake.gate import inspect_series
from uair_node.intake.headers import SliceHeader, read_headers

_UNDECIDED_OR_REFUSED = (CaseState.RECEIVING, CaseState.REJECTED, CaseState.SUPERSEDED)


@dataclass(frozen=True)
class Choice:
    """Whether a series that the gate lets pass is segmented.

    Attributes
    ----------
    reason
        The rules that match, empty without rules.
    refusal
        Why it is not; None if it is, or if it `waits`.
    waits
        Whether other series of the study have to be complete first.
    """

    reason: str = ""
    refusal: InputError | None = None
    waits: bool = False


@dataclass(frozen=True)
class _Rival:
    series_instance_uid: str
    last_instance_at: datetime
    paths: list[Path]


def choose(context: Context, case_id: int, headers: Sequence[SliceHeader], now: datetime) -> Choice:
    """Decide by the site's rules; `headers` are those of the case's series."""
    rules = context.settings.rules
    own = _candidate(context, headers)
    reason = own.score.reason if rules.series else ""
    refusal = refusal_by_score(own.score, rules)
    if refusal is not None or rules.per_study is None:
        return Choice(reason, refusal)
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        rivals, taken = _rivals(context, session, case), _taken(session, case)
    candidates = []
    for rival in rivals:
        found = _inspect(context, rival, now)
        if found is None:
            return Choice(reason, waits=True)
        candidates += found
    return Choice(reason, refusal_by_rivals(own, candidates, taken, rules))


def _candidate(context: Context, headers: Sequence[SliceHeader]) -> Candidate:
    facts = read_facts(headers)
    return Candidate(headers[0].series_instance_uid, facts, score_series(facts, context.settings.rules))


def _inspect(context: Context, rival: _Rival, now: datetime) -> list[Candidate] | None:
    """Return the rival if it could be segmented, nothing if it never can, None if that is not known yet."""
    intake = context.settings.intake
    quiet = now - rival.last_instance_at
    if quiet < timedelta(seconds=intake.quiet_s):
        return None
    try:
        headers = read_headers(rival.paths)
    except InputError:
        return []
    verdict = inspect_series(headers, context.settings.gate, intake.modalities)
    if verdict.refusal is not None:
        return None if verdict.may_complete and quiet < timedelta(seconds=intake.max_wait_s) else []
    candidate = _candidate(context, headers)
    return [] if refusal_by_score(candidate.score, context.settings.rules) else [candidate]


def _rivals(context: Context, session: Session, case: Case) -> list[_Rival]:
    undecided = select(Case).where(
        Case.study_instance_uid == case.study_instance_uid,
        Case.series_instance_uid != case.series_instance_uid,
        Case.state == CaseState.RECEIVING,
    )
    return [
        _Rival(one.series_instance_uid, one.last_instance_at, _paths(context, session, one))
        for one in session.scalars(undecided)
    ]


def _paths(context: Context, session: Session, case: Case) -> list[Path]:
    stored = select(Instance.path).where(
        Instance.series_instance_uid == case.series_instance_uid, Instance.status == InstanceStatus.STORED
    )
    return [context.store.absolute(path) for path in session.scalars(stored)]


def _taken(session: Session, case: Case) -> int:
    """Count the study's other series that were chosen before."""
    return (
        session.scalar(
            select(func.count(func.distinct(Case.series_instance_uid))).where(
                Case.study_instance_uid == case.study_instance_uid,
                Case.series_instance_uid != case.series_instance_uid,
                Case.state.not_in(_UNDECIDED_OR_REFUSED),
            )
        )
        or 0
    )
