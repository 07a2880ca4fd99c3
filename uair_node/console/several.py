"""Do an action on several cases: the ticked cases of the list, or all cases that the list finds.

Each case has its own transaction. If a case has changed or does not permit the action, then the action is
still done on the other cases.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session
from starlette.responses import Response

from dicom_config.errors import InputError
from uair_node.cases.tables import Case
from uair_node.console.actions import ACTIONS, Action, act_on, seen
from uair_node.console.case_query import CaseQuery, case_query
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.operations.case_list import CaseFilter, find_cases

SEVERAL = tuple(ACTIONS[name] for name in ("retry", "resend", "expire"))
"""Actions for which a person need not look at each case."""

_MOST = 300
_MOST_REASONS = 3
_TICKED = "case-"


def confirm_several(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the confirmation of an action on the chosen cases."""
    action, query = _action(request), case_query(request.session, request.query)
    with console.context.database.reading() as session:
        chosen = _chosen(session, request, query)
        fitting = [case for case in chosen if action.fits(console.context.settings, case)]
        if not fitting:
            why = "No case is ticked." if not chosen else f"'{action.title}' fits none of these cases now."
            raise InputError(
                "not-now", why, "Tick other cases. The page of a case shows its possible actions."
            )
        return console.page(
            "several.html",
            request,
            title=f"{action.title}: several cases",
            action=action,
            query=query,
            fitting=fitting,
            others=[case for case in chosen if case not in fitting],
            seen=" ".join(f"{case.id}={seen(case)}" for case in fitting),
            destinations=console.context.destinations,
        )


def act_on_several(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Do the confirmed action, case by case, and go back to the list."""
    action = _action(request)
    done, reasons = 0, []
    for entry in request.form.get("seen", "").split()[:_MOST]:
        number, _, was = entry.partition("=")
        if not number.isdecimal() or len(number) > len(str(1 << 31)):
            continue
        try:
            act_on(console, request, int(number), action.name, was)
            done += 1
        except InputError as error:
            reasons.append(error.sentence)
    where = case_query(request.session, request.form).address
    return console.redirect_with_notice(request, where, _outcome(action, done, reasons), well=not reasons)


def _outcome(action: Action, done: int, reasons: Sequence[str]) -> str:
    words = f"{action.title}: done for {done} {'case' if done == 1 else 'cases'}."
    if not reasons:
        return words
    more = f" And {len(reasons) - _MOST_REASONS} more." if len(reasons) > _MOST_REASONS else ""
    return f"{words} Not done for {len(reasons)}: {' '.join(reasons[:_MOST_REASONS])}{more}"


def _action(request: ConsoleRequest) -> Action:
    for action in SEVERAL:
        if action.name == request.path["action"]:
            return action
    raise InputError("no-such-page", "There is no such action.", "Open it from the list of cases.")


def _chosen(session: Session, request: ConsoleRequest, query: CaseQuery) -> Sequence[Case]:
    if "all" in request.query:
        return find_cases(session, query.wanted, sort=query.sort, limit=_MOST)
    ticked = [name.removeprefix(_TICKED) for name in request.query if name.startswith(_TICKED)]
    numbers = [int(number) for number in ticked if number.isdecimal() and len(number) < 10]
    return find_cases(session, CaseFilter(among=numbers), sort=query.sort, limit=_MOST)
