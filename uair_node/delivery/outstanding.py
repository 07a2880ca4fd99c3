"""Find accepted cases with undelivered final objects. An accepted case is complete after their delivery."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    Delivery,
    DeliveryState,
    Result,
    ResultKind,
    Round,
    WorkItem,
    WorkKind,
)

FINAL_KINDS = (ResultKind.FINAL, ResultKind.REPORT, ResultKind.FINAL_PAGE, ResultKind.STRUCTURES)
NOT_WRITTEN, NOT_DELIVERED, REFUSED = "final not written", "final not delivered", "final refused"


def final_words(session: Session, case: Case) -> str:
    """Return a sentence that says where the final segmentation of an accepted case is.

    A notice contains the sentence, so a temporary state is in the past tense.
    """
    missing = final_outstanding(session, [case]).get(case.id)
    if missing == REFUSED:
        return "The archive refused the final segmentation of this case."
    if missing:
        return (
            "The final segmentation of this case was still on its way to the archive when this answer came."
        )
    delivered = (
        select(Delivery.id)
        .join(Delivery.result)
        .join(Result.round)
        .where(Round.case_id == case.id, Result.kind.in_(FINAL_KINDS))
    )
    if session.scalar(delivered.limit(1)) is None:
        return "The node keeps the final segmentation of this case, because no destination is configured."
    return "The final segmentation of this case is in the archive."


def final_outstanding(session: Session, cases: Sequence[Case]) -> dict[int, str]:
    """Return case id -> words for the missing delivery, for each accepted case that is not complete."""
    accepted = [case.id for case in cases if case.state == CaseState.ACCEPTED]
    writing = select(WorkItem.case_id).where(
        WorkItem.kind == WorkKind.FINISH, WorkItem.open, WorkItem.case_id.in_(accepted)
    )
    found = {case_id: NOT_WRITTEN for case_id in session.scalars(writing) if case_id is not None}
    waiting = (
        select(Round.case_id, Delivery.state)
        .join(Delivery.result)
        .join(Result.round)
        .where(
            Round.case_id.in_(accepted),
            Result.kind.in_(FINAL_KINDS),
            Delivery.state != DeliveryState.CONFIRMED,
        )
        .distinct()
    )
    for case_id, state in session.execute(waiting):
        if state == DeliveryState.PARKED or found.get(case_id) != REFUSED:
            found[case_id] = REFUSED if state == DeliveryState.PARKED else NOT_DELIVERED
    return found
