"""Apply rejection notes about source images (IHE RAD TF-2, 4.66), so that the images are not segmented.

A note may come before the images. If a note rejects only some images of a series, then the node decides again
about the other images. A note is valid for the versions of images that are known when the note comes. Other
bytes with the same UID count as another object.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.cases import lifecycle
from uair_node.cases.codes import CaseCode
from uair_node.cases.lock import lock_case
from uair_node.cases.states import HOLDING, CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance, InstanceStatus, RejectedInstance, Result

log = logging.getLogger(__name__)

RETENTION_EXPIRED = "113039"
_WHY = {
    "113001": "for quality reasons",
    "113037": "for patient safety",
    "113038": "because they were filed under a wrong worklist entry",
    RETENTION_EXPIRED: "because their retention time has ended",
}
_DONE = (CaseState.ACCEPTED, CaseState.EXPIRED)
_STOPPED = (
    CaseState.READY,
    CaseState.SEGMENTING,
    CaseState.AWAITING_SELECTION,
    CaseState.REFINING,
    CaseState.FAILED,
)
_CHUNK = 5000  # databases limit the parameters of a statement


def reject_sources(session: Session, note_uid: str, title: str, references: Sequence[str]) -> None:
    """Record the images that a note rejects, stop their cases, and open cases for the series' other images.

    References to our own results have no effect here. If an archive rejects images because their retention
    has ended, then an ended case is unchanged, because its results stay valid.
    """
    for start in range(0, len(references), _CHUNK):
        uids = references[start : start + _CHUNK]
        own = set(session.scalars(select(Result.sop_instance_uid).where(Result.sop_instance_uid.in_(uids))))
        sources = [uid for uid in uids if uid not in own]
        _remember(session, note_uid, title, sources)
        _stop_cases(session, title, sources)


def not_rejected() -> ColumnElement[bool]:
    """Return the SQL condition that no rejection note rejects an instance with its present content."""
    return ~exists().where(
        RejectedInstance.sop_instance_uid == Instance.sop_instance_uid,
        or_(RejectedInstance.sha256 == Instance.sha256, RejectedInstance.sha256 == ""),
    )


def source_rejected(title: str = "") -> InputError:
    """Return the error of a series whose images were rejected."""
    return InputError(
        CaseCode.SOURCE_REJECTED,
        " ".join(filter(None, ["The archive rejected source images of this series", _WHY.get(title)])) + ".",
        "Send the corrected images. Images with other content open a new case.",
    )


def _remember(session: Session, note_uid: str, title: str, uids: Sequence[str]) -> None:
    images = Instance.status.in_([InstanceStatus.STORED, InstanceStatus.REPLACED])
    stored = select(Instance.sop_instance_uid, Instance.sha256).where(
        Instance.sop_instance_uid.in_(uids), images
    )
    known = {(uid, sha256) for uid, sha256 in session.execute(stored)}
    unseen = set(uids) - {uid for uid, _ in known}
    earlier = select(RejectedInstance.sop_instance_uid, RejectedInstance.sha256).where(
        RejectedInstance.sop_instance_uid.in_(uids)
    )
    said = {(uid, sha256) for uid, sha256 in session.execute(earlier)}
    for uid, sha256 in sorted((known | {(uid, "") for uid in unseen}) - said):
        session.add(RejectedInstance(sop_instance_uid=uid, sha256=sha256, title=title, note_uid=note_uid))
    session.flush()


def _stop_cases(session: Session, title: str, uids: Sequence[str]) -> None:
    made_of = (
        select(CaseInstance.case_id)
        .join(Instance, Instance.id == CaseInstance.instance_id)
        .where(Instance.sop_instance_uid.in_(uids), ~not_rejected())
    )
    states = _STOPPED if title == RETENTION_EXPIRED else (*_STOPPED, *_DONE)
    ids = session.scalars(select(Case.id).where(Case.id.in_(made_of)).order_by(Case.id)).all()
    for case_id in ids:
        case = lock_case(session, case_id)
        if case.state not in states or case.code == CaseCode.SOURCE_REJECTED:
            continue
        log.warning("case %d: its source images were rejected (%s)", case.id, title)
        going_on = case.state in _STOPPED
        lifecycle.reject_source(session, case, source_rejected(title))
        if going_on and _is_left(session, case) and not _is_receiving(session, case):
            rest = lifecycle.open_case(
                session,
                series_uid=case.series_instance_uid,
                study_uid=case.study_instance_uid,
                calling_ae=case.calling_ae,
            )
            rest.instance_count = _is_left(session, case)


def _is_left(session: Session, case: Case) -> int:
    """Count the images of a case's series that are neither rejected nor in an open or accepted case."""
    held = select(CaseInstance.instance_id).join(Case, Case.id == CaseInstance.case_id)
    held = held.where(Case.series_instance_uid == case.series_instance_uid, Case.state.in_(HOLDING))
    left = select(func.count(Instance.id)).where(
        Instance.series_instance_uid == case.series_instance_uid,
        Instance.status == InstanceStatus.STORED,
        not_rejected(),
        Instance.id.not_in(held),
    )
    return session.scalar(left) or 0


def _is_receiving(session: Session, case: Case) -> bool:
    receiving = select(Case.id).where(
        Case.series_instance_uid == case.series_instance_uid, Case.state == CaseState.RECEIVING
    )
    return session.scalar(receiving.limit(1)) is not None
