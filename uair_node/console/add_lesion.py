"""A lesion that nobody offered is added where an operator clicks on a slice."""

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
from uair_node.console.desk import Ask, Desk
from uair_node.console.drawings import place_on
from uair_node.operations import reports
from uair_node.selection.changed_findings import Changes, InSpace, offered_findings, understand_changes
from uair_node.selection.marked_round import MarkedRound
from uair_node.selection.service import Evidence, select_by_number

_NUMBER = re.compile(r"\d{1,4}(\.\d+)?")


def ask_place(desk: Desk, ask: Ask) -> Response:
    """Answer with a slice to click on; `?slice=57` chooses it."""
    with desk.context.database.reading() as session:
        case = reports.get_case(session, ask.path["case_id"])
        number, seen_now = _open_round(case), seen(case)
    view = desk.views.view(case.id, number)
    desk.note(ask, "view segmentation", f"case {case.id}")
    shown = _whole(ask.query.get("slice", ""), view.key_slice + 1)
    return desk.page(
        "add_lesion.html",
        ask,
        title=f"Add a lesion: case {case.id}",
        case=case,
        round=number,
        slice=min(max(1, shown), view.canonical.shape[0]),
        slices=view.canonical.shape[0],
        planes=view.planes,
        seen=seen_now,
    )


def add_lesion(desk: Desk, ask: Ask) -> Response:
    """Add a lesion at the place that was clicked, and go back to the case."""
    case_id, subject = ask.path["case_id"], f"case {ask.path['case_id']}"
    try:
        marked = _understood(desk, ask)
        with desk.context.database.transaction() as session:
            case = lock_case(session, case_id)
            _open_round(case)
            select_by_number(session, Evidence(Verb.PICK, "console"), case, None, marked)
            audit.record(session, ask.session.name, ask.address, "add-lesion", subject)
    except InputError as error:
        if error.code == "no-such-case":
            raise
        with desk.context.database.transaction() as session:
            audit.record(session, ask.session.name, ask.address, "add-lesion", subject, error.code)
        where = f"/cases/{case_id}/add-lesion?slice={_whole(ask.form.get('slice', ''), 1)}"
        return desk.done(ask, where, f"Not done. {error.sentence} {error.mend}", well=False)
    return desk.done(ask, f"/cases/{case_id}", marked.remark)


def _understood(desk: Desk, ask: Ask) -> MarkedRound:
    with desk.context.database.reading() as session:
        case = reports.get_case(session, ask.path["case_id"])
        number, findings = _open_round(case), offered_findings(case)
        if ask.form.get("seen") != seen(case):
            sentence = f"Case {case.id} has changed since."
            raise InputError("case-changed", sentence, "Look at it again, then decide.")
    view = desk.views.view(case.id, number)
    x, y, size = (ask.form.get(name, "").strip() for name in ("at.x", "at.y", "size"))
    if not all(_NUMBER.fullmatch(text) for text in (x, y, size or "0")):
        raise InputError("place-syntax", "No place was clicked.", "Click on the middle of the lesion.")
    n = min(max(1, _whole(ask.form.get("slice", ""), 1)), view.canonical.shape[0]) - 1
    place = InSpace(place_on(view, n, float(x), float(y)), float(size or 0))
    return understand_changes(desk.context, findings, Changes(added=[place]), Verb.PICK, None)


def _open_round(case: Case) -> int:
    """Return the round that a reader sees; raises InputError where the case awaits no answer."""
    round_ = case.offered_round
    if case.state != CaseState.AWAITING_SELECTION or round_ is None:
        raise InputError(
            "not-now",
            f"Case {case.id} is {case.state}; no lesion can be added now.",
            "Its page shows what is.",
        )
    return round_.number


def _whole(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else otherwise
