"""What was not segmented, by code, and answers of readers that belong to no case."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import select
from starlette.responses import Response

from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.console.desk import Ask, Desk

_MOST_CASES = 20
_MOST_ANSWERS = 50


@dataclass(frozen=True)
class Group:
    """All refused series of one code: what the newest was told, how many there are, the newest of them."""

    code: str
    sentence: str
    mend: str
    count: int
    cases: list[Case]


def show_refused(desk: Desk, ask: Ask) -> Response:
    """Answer with the groups, the largest first."""
    with desk.context.database.transaction() as session:
        rejected = session.scalars(
            select(Case).where(Case.state == CaseState.REJECTED).order_by(Case.id.desc())
        )
        by_code: dict[str, list[Case]] = defaultdict(list)
        for case in rejected:
            by_code[case.code].append(case)
        groups = [
            Group(code, cases[0].sentence, cases[0].mend, len(cases), cases[:_MOST_CASES])
            for code, cases in sorted(by_code.items(), key=lambda item: -len(item[1]))
        ]
        answers = session.scalars(
            select(Selection)
            .where(Selection.outcome == SelectionOutcome.REFUSED)
            .order_by(Selection.id.desc())
            .limit(_MOST_ANSWERS)
        ).all()
        return desk.page("refused.html", ask, title="Refused", groups=groups, answers=answers)
