"""Find the older cases of a series that a newer case replaces.

Cases of different acquisitions of a series do not replace each other.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance


def replaced_by(session: Session, case: Case) -> list[Case]:
    """Return the other cases of the same acquisition that are neither RECEIVING nor SUPERSEDED.

    Each returned case is locked and read again.
    """
    ids = session.scalars(
        select(Case.id)
        .where(
            Case.series_instance_uid == case.series_instance_uid,
            Case.id != case.id,
            Case.state != CaseState.RECEIVING,
        )
        .order_by(Case.id)
    ).all()
    locked = [lock_case(session, case_id) for case_id in ids]
    return [
        older
        for older in locked
        if older.state != CaseState.SUPERSEDED and _holds_the_same(session, case, older)
    ]


def _holds_the_same(session: Session, case: Case, older: Case) -> bool:
    """Return whether two cases contain the same acquisition.

    Different acquisitions have no SOP Instance UID in common. If one of the two cases has no slices, or no
    longer has slices, then the names of the acquisitions decide.
    """
    uids = [_slices(session, sibling) for sibling in (case, older)]
    if all(uids):
        return not uids[0].isdisjoint(uids[1])
    return older.acquisition == case.acquisition or not (older.acquisition and case.acquisition)


def _slices(session: Session, case: Case) -> set[str]:
    """Return the SOP Instance UIDs of a case's slices."""
    uids = select(Instance.sop_instance_uid).join(CaseInstance, CaseInstance.instance_id == Instance.id)
    return set(session.scalars(uids.where(CaseInstance.case_id == case.id)))
