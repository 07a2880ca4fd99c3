"""Send objects again at an administrator's request, after an archive has lost or refused them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.cases import work_items
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, Round, WorkKind
from uair_node.network.outgoing import result_deleted


def resend(session: Session, case: Case, destination: str, *, everything: bool) -> int:
    """Make deliveries of a case to a destination due again, in their order. Return their number.

    If retention has deleted the file of a delivery, then the delivery is unchanged.

    Parameters
    ----------
    everything
        Whether to send stored and confirmed objects again, in addition to parked and pending objects.

    Raises
    ------
    InputError
        ``nothing-to-send``: the case has no object to send to this destination. ``result-deleted``: retention
        has deleted all the files.
    """
    rows = session.scalars(
        select(Delivery)
        .join(Delivery.result)
        .join(Result.round)
        .where(Round.case_id == case.id, Delivery.destination == destination)
        .order_by(Delivery.id)
    ).all()
    settled = () if everything else (DeliveryState.CONFIRMED, DeliveryState.STORED)
    again = [row for row in rows if row.state not in settled]
    if not again:
        raise InputError(
            "nothing-to-send",
            f"Case {case.id} has nothing {'' if everything else 'unconfirmed '}for {destination}.",
            f"See its deliveries with `uair case show {case.id}`.",
        )
    kept = [row for row in again if row.result.path]
    if not kept:
        raise result_deleted()
    for row in kept:
        row.state, row.attempts, row.reason, row.confirmed_at = DeliveryState.PENDING, 0, "", None
        row.transaction_uid, row.commitment_asked_at = "", None
    work_items.make_due_now(
        session, work_items.require_work(session, WorkKind.DELIVER, case=None, key=destination)
    )
    return len(kept)
