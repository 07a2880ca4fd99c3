"""Filter and sort the list of cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case as sql_case
from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance, InstanceStatus, Round

NEWEST_FIRST = "-case"

_LIFE = sql_case({state: number for number, state in enumerate(CaseState)}, value=Case.state)
_NEWEST_ROUND = (
    select(func.coalesce(func.max(Round.number), 0)).where(Round.case_id == Case.id).scalar_subquery()
)
_COLUMNS: Mapping[str, Sequence[Any]] = {
    "case": (),
    "state": (_LIFE, Case.updated_at),
    "age": (Case.created_at,),
    "accession": (Case.accession_number,),
    "series": (Case.series_instance_uid,),
    "slices": (Case.instance_count,),
    "round": (_NEWEST_ROUND,),
    "why": (Case.code,),
}
"""Name of an order -> the SQL columns that are compared first. Equal cases are sorted by case number."""


@dataclass(frozen=True)
class CaseFilter:
    """The filter of a list of cases.

    Attributes
    ----------
    state
        Name of a state, in upper or lower case; empty for all states.
    search
        A part of an accession number, or the end of a series UID or study UID; empty for all cases.
    among
        Case numbers; None for all cases.
    """

    state: str = ""
    search: str = ""
    among: Sequence[int] | None = None

    @property
    def conditions(self) -> list[Any]:
        """Return the filter as SQL conditions."""
        conditions: list[Any] = []
        if self.state:
            conditions.append(Case.state == self.state.upper())
        if self.search:
            # Each part of the union reads one index. A single OR condition would read all rows.
            columns = Case.series_instance_uid, Case.study_instance_uid
            parts = [
                select(Case.id).where(column.endswith(self.search, autoescape=True)) for column in columns
            ]
            number = select(Case.id).where(Case.accession_number.icontains(self.search, autoescape=True))
            conditions.append(Case.id.in_(union(number, *parts)))
        if self.among is not None:
            conditions.append(Case.id.in_(self.among))
        return conditions


ALL_CASES = CaseFilter()


def is_order(sort: str) -> bool:
    """Return whether `sort` names an order of cases: a column, with ``-`` before it for descending order."""
    return sort.removeprefix("-") in _COLUMNS


def find_cases(
    session: Session,
    wanted: CaseFilter = ALL_CASES,
    *,
    sort: str = NEWEST_FIRST,
    limit: int = 100,
    offset: int = 0,
) -> Sequence[Case]:
    """Return the cases that match a filter. `sort` is an order that `is_order` accepts."""
    down = sort.startswith("-")
    columns = [*_COLUMNS[sort.removeprefix("-")], Case.id]
    query = select(Case).where(*wanted.conditions)
    query = query.order_by(*(column.desc() if down else column for column in columns))
    return session.scalars(query.limit(limit).offset(offset)).all()


def count_cases(session: Session, wanted: CaseFilter = ALL_CASES) -> int:
    """Return the number of cases that `find_cases` finds without a limit."""
    return session.scalar(select(func.count(Case.id)).where(*wanted.conditions)) or 0


def first_slices(session: Session, case_ids: Iterable[int]) -> dict[int, str]:
    """Return case number -> path of one slice, in the form that rows store.

    If a case has no instances yet, then the slice is any stored slice of its series.
    """
    wanted = list(case_ids)
    linked = (
        select(CaseInstance.case_id, func.min(CaseInstance.instance_id).label("first"))
        .where(CaseInstance.case_id.in_(wanted))
        .group_by(CaseInstance.case_id)
        .subquery()
    )
    query = select(linked.c.case_id, Instance.path).join(Instance, Instance.id == linked.c.first)
    found = _paths(session, query)
    unsealed = (
        select(Case.id, func.min(Instance.id).label("first"))
        .join(Instance, Instance.series_instance_uid == Case.series_instance_uid)
        .where(Case.id.in_(set(wanted) - set(found)), Instance.status == InstanceStatus.STORED)
        .group_by(Case.id)
        .subquery()
    )
    query = select(unsealed.c.id, Instance.path).join(Instance, Instance.id == unsealed.c.first)
    return found | _paths(session, query)


def _paths(session: Session, query: Any) -> dict[int, str]:
    return {case_id: path for case_id, path in session.execute(query)}  # noqa: C416 - rows are no pairs to dict
