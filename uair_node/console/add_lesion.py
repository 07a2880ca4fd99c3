"""Add a lesion that no candidate has, where an operator clicks on a slice."""

from __future__ import annotations

import re

from starlette.responses import Response

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.console import audit
from uair_node.console.actions import seen
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.drawings import place_on
from uair_node.operations import reports
from uair_node.selection.changed_findings import Changes, InSpace, offered_findings, understand_changes
from uair_node.selection.marked_round import MarkedRound
from uair_node.selection.service import Evidence, select_by_number

_NUMBER = re.compile(r"\d{1,4}(\.\d+)?")


def ask_place(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a slice to click on; `?slice=57` chooses the slice."""
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        number, seen_now = _open_round(case), seen(case)
    view = console.views.view(case.id, number)
    console.note(request, "view segmentation", f"case {case.id}")
    shown = _whole(request.query.get("slice", ""), view.key_slice + 1)
    return console.page(
        "add_lesion.html",
        request,
        title=f"Add a lesion: case {case.id}",
        case=case,
        round=number,
        slice=min(max(1, shown), view.canonical.shape[0]),
        slices=view.canonical.shape[0],
        planes=view.planes,
        seen=seen_now,
    )


def add_lesion(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Add a lesion at the place that was clicked, and go back to the case."""
    case_id, subject = request.path["case_id"], f"case {request.path['case_id']}"
    try:
        marked = _understood(console, request)
        with console.context.database.transaction() as session:
            case = lock_case(session, case_id)
            _open_round(case)
            select_by_number(session, Evidence(Verb.PICK, "console"), case, None, marked)
            audit.record(session, request.session.name, request.address, "add-lesion", subject)
    except InputError as error:
        if error.code == "no-such-case":
            raise
        with console.context.database.transaction() as session:
            audit.record(session, request.session.name, request.address, "add-lesion", subject, error.code)
        where = f"/cases/{case_id}/add-lesion?slice={_whole(request.form.get('slice', ''), 1)}"
        return console.redirect_with_notice(
            request, where, f"Not done. {error.sentence} {error.remedy}", well=False
        )
    return console.redirect_with_notice(request, f"/cases/{case_id}", marked.remark)


def _understood(console: ConsoleApp, request: ConsoleRequest) -> MarkedRound:
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        number, findings = _open_round(case), offered_findings(case)
        if request.form.get("seen") != seen(case):
            sentence = f"Case {case.id} has changed since you saw it."
            raise InputError("case-changed", sentence, "Look at the case again, then decide.")
    view = console.views.view(case.id, number)
    x, y, size = (request.form.get(name, "").strip() for name in ("at.x", "at.y", "size"))
    if not all(_NUMBER.fullmatch(text) for text in (x, y, size or "0")):
        raise InputError("place-syntax", "No place was clicked.", "Click on the middle of the lesion.")
    n = min(max(1, _whole(request.form.get("slice", ""), 1)), view.canonical.shape[0]) - 1
    place = InSpace(place_on(view, n, float(x), float(y)), float(size or 0))
    return understand_changes(console.context, findings, Changes(added=[place]), Verb.PICK, None)


def _open_round(case: Case) -> int:
    """Return the number of a case's open round. Raise an InputError if the case awaits no answer."""
    round_ = case.offered_round
    if case.state != CaseState.AWAITING_SELECTION or round_ is None:
        raise InputError(
            "not-now",
            f"Case {case.id} is {case.state}; no lesion can be added now.",
            "The page of the case shows the possible actions.",
        )
    return round_.number


def _whole(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else otherwise
