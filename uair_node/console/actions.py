"""An operator's actions on a case. The operator confirms each action on a separate page before it is done.

The form of the confirmation contains the state and round that the page showed. If the case has changed since
then, the action is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.responses import Response

from dicom_config.errors import InputError
from dicom_config.model import Settings, Verb
from uair_node.cases import lifecycle
from uair_node.cases.lock import lock_case
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.findings import changes_in, listed_findings
from uair_node.console.parts import choice_in, questions_of
from uair_node.delivery.outstanding import final_outstanding
from uair_node.delivery.resend import resend
from uair_node.operations import reports
from uair_node.selection.service import Evidence, select_by_number

Form = Mapping[str, str]
Apply = Callable[[Session, Case, Form, str], str]


@dataclass(frozen=True)
class Action:
    """An action on a case.

    Parameters
    ----------
    name, title, explanation
        Texts for the address, for the button, and for the confirmation.
    fits
        A function that returns whether the action is possible for a case.
    apply
        A function that does the action and returns a sentence about the effect. The page shows the function's
        errors.
    asks
        Names of the fields that the confirmation shows: ``destination``, ``candidate``, ``round`` of the
        candidate, ``drops`` (findings to drop with the candidate), ``findings``.
    grave
        Whether the action ends a case or a computation.
    """

    name: str
    title: str
    explanation: str
    fits: Callable[[Settings, Case], bool]
    apply: Apply
    asks: tuple[str, ...] = ()
    grave: bool = False


def actions_for(settings: Settings, case: Case) -> Sequence[Action]:
    """Return the actions that are possible for a case in its present state."""
    return [action for action in ACTIONS.values() if action.fits(settings, case)]


def confirm(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the confirmation of an action."""
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        action = _action(console, request.path["action"], case)
        number = request.query.get("round", "")
        chosen = [turn for turn in case.rounds if str(turn.number) == number and turn.candidates]
        round_ = chosen[0] if chosen and "round" in action.asks else case.current_round
        return console.page(
            "confirm.html",
            request,
            title=f"{action.title}: case {case.id}",
            case=case,
            action=action,
            missing=final_outstanding(session, [case]).get(case.id, ""),
            seen=seen(case),
            destinations=console.context.destinations,
            round=round_,
            rounds=[turn.number for turn in case.rounds if turn.candidates],
            candidates=round_.candidates if round_ else [],
            questions=questions_of(round_) if round_ else [],
            findings=listed_findings(round_) if round_ is case.current_round else [],
        )


def act(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Do the confirmed action, and go back to the case."""
    case_id, name = request.path["case_id"], request.path["action"]
    where = f"/cases/{case_id}"
    try:
        said = act_on(console, request, case_id, name, request.form.get("seen", ""))
    except InputError as error:
        if error.code == "no-such-case":
            raise
        return console.redirect_with_notice(
            request, where, f"Not done. {error.sentence} {error.remedy}", well=False
        )
    return console.redirect_with_notice(request, where, said)


def act_on(console: ConsoleApp, request: ConsoleRequest, case_id: int, name: str, seen_before: str) -> str:
    """Do an action on a case, and return a sentence about the effect. Action and audit are one transaction.

    Parameters
    ----------
    seen_before
        The value of `seen` when the confirmation was shown.

    Raises
    ------
    InputError
        The action is not possible. The audit records the refusal, too.
    """
    try:
        with console.context.database.transaction() as session:
            # Two operators, or an operator and a reader, may decide at the same time.
            case = lock_case(session, case_id)
            action = _action(console, name, case)
            if seen_before != seen(case):
                remedy = "Look at the case again, then decide."
                raise InputError("case-changed", f"Case {case.id} has changed since you saw it.", remedy)
            said = action.apply(session, case, request.form, request.actor)
            audit.record(session, request.session.name, request.address, name, f"case {case.id}")
            return said
    except InputError as error:
        with console.context.database.transaction() as session:
            audit.record(session, request.session.name, request.address, name, f"case {case_id}", error.code)
        raise


def _action(console: ConsoleApp, name: str, case: Case) -> Action:
    action = ACTIONS.get(name)
    if action is None:
        raise InputError("no-such-page", "There is no such action.", "Start the action from the case's page.")
    if not action.fits(console.context.settings, case):
        raise InputError(
            "not-now",
            f"Case {case.id} is {case.state}; '{action.title}' is not possible now.",
            "The page of the case shows the possible actions.",
        )
    return action


def seen(case: Case) -> str:
    """Return a value that changes when the case's state or round changes."""
    round_ = case.current_round
    return f"{case.state}/{round_.number if round_ else 0}"


def _retry(session: Session, case: Case, _form: Form, actor: str) -> str:
    lifecycle.retry(session, case, actor=actor)
    return f"Case {case.id} continues."


def _cancel(session: Session, case: Case, _form: Form, actor: str) -> str:
    lifecycle.cancel(session, case, actor=actor)
    return f"Case {case.id} is cancelled. Retry continues the case."


def _expire(session: Session, case: Case, _form: Form, actor: str) -> str:
    lifecycle.expire(session, case, actor=actor, reason="closed in the console")
    return f"Case {case.id} is expired."


def _resend(session: Session, case: Case, form: Form, _actor: str) -> str:
    destination = form.get("destination", "")
    number = resend(session, case, destination, everything=form.get("what") == "everything")
    return f"{number} objects will be sent to {destination} again."


def _answer(verb: Verb) -> Apply:
    def apply(session: Session, case: Case, form: Form, actor: str) -> str:
        text, number = form.get("candidate", ""), form.get("round", "")
        if verb != Verb.REJECT and not (text.isdecimal() and len(text) == 1):
            raise InputError(
                "no-such-candidate", "No candidate was chosen.", "Choose one of the four candidates."
            )
        answer = ReaderChoice(None) if verb == Verb.REJECT else choice_in(form, int(text))
        of_round = int(number) if number.isdecimal() and len(number) < 4 else None
        newest = case.offered_round is None or of_round in (None, case.offered_round.number)
        marked = changes_in(session, case, form, verb, answer) if newest and verb != Verb.REJECT else None
        evidence = Evidence(verb, "console", calling_ae="")
        row = select_by_number(session, evidence, case, answer, marked, of_round=of_round)
        older = "" if newest else f" of round {of_round}"
        said = f"{verb}, {answer.words}{older}. {row.sentence}".strip()
        return f"Round {row.round_number} of case {case.id} is answered: {said}"

    return apply


def _change_findings(session: Session, case: Case, form: Form, actor: str) -> str:
    marked = changes_in(session, case, form, Verb.PICK, None)
    row = select_by_number(session, Evidence(Verb.PICK, "console"), case, None, marked)
    return f"Round {row.round_number} of case {case.id} is answered: {row.sentence}"


def _awaits(_settings: Settings, case: Case) -> bool:
    return case.state == CaseState.AWAITING_SELECTION


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "retry",
            "Retry",
            "The case continues from the step at which it failed. Correct the cause first. Otherwise it "
            "fails again.",
            lambda _settings, case: lifecycle.can_be_retried(case),
            _retry,
        ),
        Action(
            "resend",
            "Re-send",
            "All objects of the case are sent to a destination again, in their order. The objects keep their "
            "UIDs. An archive that still has an object replaces or ignores it.",
            lambda settings, case: (
                bool(settings.destinations) and any(round_.results for round_ in case.rounds)
            ),
            _resend,
            asks=("destination",),
        ),
        Action(
            "pick",
            "Pick for the reader",
            "The next round starts from this candidate, as if the reader had picked it. Use this action "
            "for tests, or if the reader cannot send a pick.",
            _awaits,
            _answer(Verb.PICK),
            asks=("candidate", "round", "drops"),
        ),
        Action(
            "accept",
            "Accept for the reader",
            "The case ends with this candidate: final segmentation and report go to the destinations. "
            "You cannot undo this action.",
            _awaits,
            _answer(Verb.ACCEPT),
            asks=("candidate", "round", "drops"),
            grave=True,
        ),
        Action(
            "findings",
            "Drop or keep findings",
            "A dropped lesion is in no candidate of the next rounds. A kept lesion is in all of the next "
            "four candidates. Other findings stay as they were offered.",
            _awaits,
            _change_findings,
            asks=("findings",),
        ),
        Action(
            "none-fits",
            "None fits, for the reader",
            "The next round offers candidates that differ from these four.",
            _awaits,
            _answer(Verb.REJECT),
        ),
        Action(
            "cancel",
            "Cancel",
            "The running computation stops, and the case becomes FAILED. Retry continues the case.",
            lambda _settings, case: case.state in lifecycle.COMPUTING,
            _cancel,
            grave=True,
        ),
        Action(
            "expire",
            "Expire",
            "The case is closed without an answer. You cannot undo this action, but the series can be sent "
            "again.",
            lambda _settings, case: case.state in lifecycle.EXPIRABLE,
            _expire,
            grave=True,
        ),
    )
}
