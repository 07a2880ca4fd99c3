"""The page of a case, which consists of sections. A new section needs a line in `SECTIONS` and a template.

The page refreshes itself by replacing all sections. An element that is slow to draw, such as a picture, has
``hx-preserve`` and an id. The id changes with the content, so the browser keeps an unchanged element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from uair_node.cases.queue import places
from uair_node.cases.tables import Case, Result, ResultKind, Round, WorkItem
from uair_node.console.actions import actions_for
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.timeline import deliveries, timeline
from uair_node.delivery.outstanding import final_outstanding
from uair_node.operations import reports
from uair_node.results.reader_words import CHANGE_SINCE

PICTURED = (ResultKind.PAGE, ResultKind.FINDING, ResultKind.FINAL_PAGE, ResultKind.NOTICE)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A section of the page: its anchor, its heading, its template, and the values for the template."""

    anchor: str
    title: str
    template: str
    collect: Callable[[ConsoleApp, Session, Case], Values]


def show_case(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the page of a case."""
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        sections = [(section, section.collect(console, session, case)) for section in SECTIONS]
        page = console.page(
            "case.html",
            request,
            title=f"Case {case.id}",
            case=case,
            sections=sections,
            missing=final_outstanding(session, [case]).get(case.id, ""),
            actions=actions_for(console.context.settings, case) if request.operates else (),
        )
    console.note(request, "view case", f"case {case.id}")
    return page


def _summary(console: ConsoleApp, session: Session, case: Case) -> Values:
    due = session.scalars(select(WorkItem).where(WorkItem.case_id == case.id, WorkItem.open)).all()
    return {"place": places(session, worker_gone=console.gpu_worker_gone()).get(case.id), "due": due}


def _segmentation(_console: ConsoleApp, _session: Session, case: Case) -> Values:
    return {"rounds": [round_.number for round_ in case.rounds if round_.computed_at and round_.artifacts]}


def picture_words(result: Result) -> str:
    """Return the caption of a picture. A heading that starts with "Round" is the caption unchanged."""
    said = result.character or result.kind
    if said.startswith("Round "):
        return said
    if result.kind == ResultKind.FINDING:
        said = f"drop lesion {result.k}?"
    if result.kind == ResultKind.PAGE and result.k:
        said = f"{said} (candidate {result.k})"
    if result.kind == ResultKind.FINAL_PAGE and not said.startswith(CHANGE_SINCE):
        said = f"result, {said} (candidate {result.k})"
    return f"Round {result.round.number}: {said}"


def _pictures(_console: ConsoleApp, session: Session, case: Case) -> Values:
    query = (
        select(Result)
        .join(Result.round)
        .where(Round.case_id == case.id, Result.kind.in_(PICTURED))
        .order_by(Round.number.desc(), Result.kind.desc(), Result.k)
    )
    return {"pictures": [(result, picture_words(result)) for result in session.scalars(query)]}


def _rounds(_console: ConsoleApp, session: Session, case: Case) -> Values:
    return {"rounds": reports.detail(session, case)["rounds"]}


def _timeline(_console: ConsoleApp, session: Session, case: Case) -> Values:
    return {"events": timeline(session, case)}


def _deliveries(_console: ConsoleApp, session: Session, case: Case) -> Values:
    return {"rows": [(row, row.result, row.result.round) for row in deliveries(session, case)]}


def _nothing(_console: ConsoleApp, _session: Session, _case: Case) -> Values:
    return {}


SECTIONS = (
    Section("summary", "Summary", "case/summary.html", _summary),
    Section("segmentation", "Segmentation", "case/segmentation.html", _segmentation),
    Section("pictures", "Pictures", "case/pictures.html", _pictures),
    Section("rounds", "Rounds", "case/rounds.html", _rounds),
    Section("timeline", "Timeline", "case/timeline.html", _timeline),
    Section("deliveries", "Deliveries", "case/deliveries.html", _deliveries),
    Section("patient", "Patient and series", "case/patient.html", _nothing),
)
