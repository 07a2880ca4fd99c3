"""Actions on several cases at once: ticked in the list, or all that the list finds.

Each case is its own transaction: a case that moved on, or that does not fit, stops no other.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session
from starlette.responses import Response

from dicom_config.errors import InputError
from uair_node.cases.tables import Case
from uair_node.console.actions import ACTIONS, Action, act_on, seen
from uair_node.console.case_query import CaseQuery, case_query
from uair_node.console.desk import Ask, Desk
from uair_node.operations.case_list import CaseFilter, find_cases

SEVERAL = tuple(ACTIONS[name] for name in ("retry", "resend", "expire"))
"""What makes sense without a look at each case."""

_MOST = 300
_MOST_REASONS = 3
_TICKED = "case-"


def confirm_several(desk: Desk, ask: Ask) -> Response:
    """Answer with the question whether an action is to be done to the chosen cases."""
    action, query = _action(ask), case_query(ask.session, ask.query)
    with desk.context.database.reading() as session:
        chosen = _chosen(session, ask, query)
        fitting = [case for case in chosen if action.fits(desk.context.settings, case)]
        if not fitting:
            why = "No case is ticked." if not chosen else f"'{action.title}' fits none of these cases now."
            raise InputError("not-now", why, "Tick others; the page of a case shows what is possible.")
        return desk.page(
            "several.html",
            ask,
            title=f"{action.title}: several cases",
            action=action,
            query=query,
            fitting=fitting,
            others=[case for case in chosen if case not in fitting],
            seen=" ".join(f"{case.id}={seen(case)}" for case in fitting),
            destinations=desk.context.destinations,
        )


def act_on_several(desk: Desk, ask: Ask) -> Response:
    """Do what was confirmed, case by case, and go back to the list."""
    action = _action(ask)
    done, reasons = 0, []
    for entry in ask.form.get("seen", "").split()[:_MOST]:
        number, _, was = entry.partition("=")
        if not number.isdecimal() or len(number) > len(str(1 << 31)):
            continue
        try:
            act_on(desk, ask, int(number), action.name, was)
            done += 1
        except InputError as error:
            reasons.append(error.sentence)
    where = case_query(ask.session, ask.form).address
    return desk.done(ask, where, _told(action, done, reasons), well=not reasons)


def _told(action: Action, done: int, reasons: Sequence[str]) -> str:
    words = f"{action.title}: done for {done} {'case' if done == 1 else 'cases'}."
    if not reasons:
        return words
    more = f" And {len(reasons) - _MOST_REASONS} more." if len(reasons) > _MOST_REASONS else ""
    return f"{words} Not done for {len(reasons)}: {' '.join(reasons[:_MOST_REASONS])}{more}"


def _action(ask: Ask) -> Action:
    for action in SEVERAL:
        if action.name == ask.path["action"]:
            return action
    raise InputError("no-such-page", "There is no such action.", "Open it from the list of cases.")


def _chosen(session: Session, ask: Ask, query: CaseQuery) -> Sequence[Case]:
    if "all" in ask.query:
        return find_cases(session, query.wanted, sort=query.sort, limit=_MOST)
    ticked = [name.removeprefix(_TICKED) for name in ask.query if name.startswith(_TICKED)]
    numbers = [int(number) for number in ticked if number.isdecimal() and len(number) < 10]
    return find_cases(session, CaseFilter(among=numbers), sort=query.sort, limit=_MOST)
