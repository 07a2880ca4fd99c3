"""The history of a case as one list: transitions, answers, rounds, deliveries, actions; oldest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, Round, Selection, Transition
from uair_node.console.actions import ACTIONS
from uair_node.console.audit import ALLOWED

_WHERE = {
    DeliveryState.PENDING: "due at",
    DeliveryState.STORED: "stored, not yet committed, by",
    DeliveryState.CONFIRMED: "delivered to",
    DeliveryState.PARKED: "parked: refused by",
}
_TONES = {DeliveryState.CONFIRMED: "good", DeliveryState.PARKED: "bad"}


@dataclass(frozen=True)
class Event:
    """A line of the history: time, kind, event, actor, reason or outcome.

    `tone` is ``good``, ``bad`` or ``plain``. The tone only repeats the meaning of the words.
    """

    at: datetime
    kind: str
    what: str
    actor: str = ""
    why: str = ""
    tone: str = "plain"


def timeline(session: Session, case: Case) -> list[Event]:
    """Return all events of a case."""
    events = [
        *map(_transition, case.transitions),
        *(event for round_ in case.rounds for event in _round(round_)),
        *map(_selection, session.scalars(select(Selection).where(Selection.case_id == case.id))),
        *_deliveries(deliveries(session, case)),
        *map(_deed, _actions(session, case)),
    ]
    return sorted(events, key=lambda event: event.at)


def deliveries(session: Session, case: Case) -> list[Delivery]:
    """Return the deliveries of a case in the order of sending, with results and rounds."""
    query = (
        select(Delivery)
        .join(Delivery.result)
        .join(Result.round)
        .where(Round.case_id == case.id)
        .order_by(Delivery.id)
        .options(joinedload(Delivery.result).joinedload(Result.round))
    )
    return list(session.scalars(query))


def _actions(session: Session, case: Case) -> Iterable[AccessRecord]:
    return session.scalars(
        select(AccessRecord).where(
            AccessRecord.at >= case.created_at,
            AccessRecord.subject == f"case {case.id}",
            AccessRecord.action.in_(ACTIONS),
        )
    )


def _deed(access: AccessRecord) -> Event:
    what = f"{ACTIONS[access.action].title} in the console"
    return Event(
        access.at,
        "deed",
        what,
        access.actor,
        "" if access.outcome == ALLOWED else f"refused: {access.outcome}",
    )


def _transition(transition: Transition) -> Event:
    tone = {"FAILED": "bad", "REJECTED": "bad", "ACCEPTED": "good"}.get(transition.state, "plain")
    what = f"{transition.origin} → {transition.state}" if transition.origin else str(transition.state)
    return Event(transition.at, "state", what, transition.actor, transition.reason, tone)


def _round(turn: Round) -> Iterator[Event]:
    if turn.computed_at is not None:
        took = f"in {turn.compute_seconds:.0f} s" if turn.compute_seconds is not None else ""
        yield Event(turn.computed_at, "round", f"Round {turn.number} computed", turn.model_name, took)


def _selection(selection: Selection) -> Event:
    round_ = f"round {selection.round_number}" if selection.round_number else "no known round"
    said = f", {selection.words}" if selection.picked is not None else ""
    actor = selection.calling_ae or selection.mechanism
    outcome = ": ".join(
        filter(
            None, (str(selection.outcome), selection.code, f"{selection.sentence} {selection.remedy}".strip())
        )
    )
    tone = {"refused": "bad", "effective": "good"}.get(selection.outcome, "plain")
    return Event(
        selection.received_at,
        "answer",
        f"{selection.verb}{said} ({round_}, {selection.mechanism})",
        actor,
        outcome,
        tone,
    )


def _deliveries(rows: list[Delivery]) -> Iterator[Event]:
    """Yield a line for each group of a round's objects that had the same outcome at a destination."""
    groups: dict[tuple[str, int, DeliveryState, str], list[Delivery]] = defaultdict(list)
    for row in rows:
        confirmed = row.state == DeliveryState.CONFIRMED
        reason = "" if confirmed else row.reason
        groups[row.destination, row.result.round.number, row.state, reason].append(row)
    for (destination, number, state, reason), group in groups.items():
        at = max(row.confirmed_at or row.created_at for row in group)
        objects = "object" if len(group) == 1 else "objects"
        what = f"{len(group)} {objects} of round {number} {_WHERE[state]} {destination}"
        yield Event(at, "delivery", what, why=reason, tone=_TONES.get(state, "plain"))
