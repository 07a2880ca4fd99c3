"""Match a restored database with a data folder that is newer than the database.

Received images without a row are registered with the present time as their time of arrival. Answers of
readers are only listed, because their files do not contain the called AE title. If rows name images whose
files are missing, then these images are listed, too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from sqlalchemy import select

from dicom_config.contexts import SELECTION_SOP_CLASSES
from dicom_config.errors import InputError
from uair_node.cases.states import HOLDING, CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance, InstanceStatus
from uair_node.context import Context
from uair_node.intake.received_data import read_identity
from uair_node.intake.register import Arrival, register
from uair_node.storage.spool import SpooledFile

CALLING_AE = "UAIR_RECOVER"
"""Calling AE title of images that are registered again. Their files do not contain the original sender."""

_TOGETHER = 100
"""Number of images that are registered in one transaction."""


@dataclass(frozen=True)
class UnknownAnswer:
    """A reader's answer without a row: its file, its study, and its time of arrival (Unix time, seconds)."""

    path: str
    study_instance_uid: str
    received_at: float


@dataclass
class Recovery:
    """The actions of `recover`, and the faults that it found.

    Attributes
    ----------
    images
        Number of images that were registered again.
    answers
        Answers that readers have to send again.
    unreadable
        Paths of files that are no DICOM instances, relative to the data folder.
    missing
        Case number -> number of the case's images that are missing.
    """

    images: int = 0
    answers: list[UnknownAnswer] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    missing: dict[int, int] = field(default_factory=dict)


def recover(context: Context) -> Recovery:
    """Register received files that have no row in the database. No node may run at the same time.

    An interrupted recovery can be started again. Files that are already registered are skipped.
    """
    done = Recovery()
    images: list[Arrival] = []
    for path in _unknown(context):
        arrival = _arrival(path)
        if arrival is None:
            done.unreadable.append(context.store.relative(path))
        elif _is_known(context, arrival):
            continue
        elif arrival.identity.sop_class_uid in SELECTION_SOP_CLASSES:
            done.answers.append(_keep_answer(context, arrival))
        else:
            images.append(arrival)
    for start in range(0, len(images), _TOGETHER):
        register(context, images[start : start + _TOGETHER])
    done.images = len(images)
    done.missing = _missing(context)
    return done


def _unknown(context: Context) -> list[Path]:
    """Return received files without a row, the oldest first. So the newest version of an instance wins."""
    with context.database.reading() as session:
        known = set(session.scalars(select(Instance.path)))
    found = [path for path in context.store.spool.rglob("*.dcm") if context.store.relative(path) not in known]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))


def _arrival(path: Path) -> Arrival | None:
    """Return a file as an arrival at the present time; None if the file is no DICOM instance."""
    data = path.read_bytes()
    try:
        identity = read_identity(data)
    except InputError:
        return None
    return Arrival(identity, SpooledFile(path, sha256(data).hexdigest(), len(data)), CALLING_AE)


def _is_known(context: Context, arrival: Arrival) -> bool:
    """Return whether a row has the same bytes under another path.

    If the file of that row is missing, then the row gets this path.
    """
    same = select(Instance).where(
        Instance.sop_instance_uid == arrival.identity.sop_instance_uid,
        Instance.sha256 == arrival.file.sha256,
    )
    with context.database.transaction() as session:
        row = session.scalars(same).one_or_none()
        if row is not None and not context.store.absolute(row.path).exists():
            row.path = context.store.relative(arrival.file.path)
        return row is not None


def _keep_answer(context: Context, arrival: Arrival) -> UnknownAnswer:
    """Add a row for an answer, so that its file is kept. The answer has no effect."""
    with context.database.transaction() as session:
        session.add(Instance(**arrival.row(context, InstanceStatus.SELECTION)))
    path = arrival.file.path
    return UnknownAnswer(
        context.store.relative(path), arrival.identity.study_instance_uid, path.stat().st_mtime
    )


def _missing(context: Context) -> dict[int, int]:
    """Return the number of missing images of each open case.

    The result is empty with an object store, because checking it would take too long.
    """
    if context.store.remote is not None:
        return {}
    sealed = (
        select(CaseInstance.case_id, Instance.path)
        .join(Instance, Instance.id == CaseInstance.instance_id)
        .join(Case, Case.id == CaseInstance.case_id)
        .where(Case.state.in_(HOLDING), Case.state != CaseState.ACCEPTED)
    )
    receiving = (
        select(Case.id, Instance.path)
        .join(Instance, Instance.series_instance_uid == Case.series_instance_uid)
        .where(Case.state == CaseState.RECEIVING, Instance.status == InstanceStatus.STORED)
    )
    with context.database.reading() as session:
        named = [(row[0], row[1]) for query in (sealed, receiving) for row in session.execute(query)]
    return dict(Counter(case_id for case_id, path in named if not context.store.absolute(path).exists()))
