"""Rows of the instances that the store AE takes: those that arrive together are committed together.

A commit costs a sync of the disk however little it holds, and SQLite lets one transaction write at a time.
So the threads of several associations share transactions: while one commits, the others' instances gather,
and the next commit takes them all. Each thread still returns only when its own row is committed (DESIGN
invariant 1).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from dicom_config.errors import TransientError
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, Result, utc_now
from uair_node.context import Context
from uair_node.intake.spool import SpooledFile

log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Identity:
    """What files an instance: its four UIDs."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class Arrival:
    """An instance whose bytes are on disk and that has no row yet."""

    identity: Identity
    file: SpooledFile
    calling_ae: str

    def row(self, context: Context, status: InstanceStatus) -> dict[str, Any]:
        """Return the values of its row."""
        return {
            **vars(self.identity),
            "sha256": self.file.sha256,
            "path": context.store.relative(self.file.path),
            "size": self.file.size,
            "status": status,
            "calling_ae": self.calling_ae,
        }


@dataclass
class _Waiting(Generic[_Item]):
    item: _Item
    done: bool = False
    error: Exception | None = field(default_factory=lambda: RuntimeError("it was not taken"))


class Together(Generic[_Item]):
    """Hands items of several threads to `take` in groups; a thread that finds nobody at it takes the group.

    Parameters
    ----------
    take
        Treats a group as a whole: if it raises, it has done nothing for any item. Called by one thread at a
        time.
    """

    def __init__(self, take: Callable[[Sequence[_Item]], None]) -> None:
        self._take = take
        self._gathered: list[_Waiting[_Item]] = []
        self._gathering = threading.Lock()
        self._taking = threading.Lock()

    def add(self, item: _Item) -> None:
        """Return when `take` has done its work for `item`; raise what it raised for it."""
        waiting = _Waiting(item)
        with self._gathering:
            self._gathered.append(waiting)
        with self._taking:
            if not waiting.done:
                with self._gathering:
                    group, self._gathered = self._gathered, []
                self._take_group(group)
        if waiting.error is not None:
            raise waiting.error

    def _take_group(self, group: Sequence[_Waiting[_Item]]) -> None:
        try:
            self._take([one.item for one in group])
            for one in group:
                one.error = None
        except Exception as error:
            if len(group) > 1 and not isinstance(error, TransientError):
                for one in group:  # one of them may be what spoils it for all
                    self._take_group([one])
                return
            for one in group:
                one.error = error
        finally:
            for one in group:
                one.done = True


def register(context: Context, arrivals: Sequence[Arrival]) -> None:
    """Add rows for stored instances in one transaction, and count them for their series' cases.

    The very bytes of before change nothing; other bytes under a known UID are quarantined, what we sent
    ourselves starts nothing.

    Raises
    ------
    TransientError
        ``database-unavailable``; there is no row of any of them then.
    """
    with context.database.transaction() as session:
        uids = sorted({one.identity.sop_instance_uid for one in arrivals})
        known, own = _known(session, uids), set(session.scalars(_OWN, {"uids": uids}))
        rows: list[dict[str, Any]] = []
        stored: dict[str, list[Arrival]] = defaultdict(list)
        for one in arrivals:
            uid = one.identity.sop_instance_uid
            if one.file.sha256 in known[uid]:
                continue
            if uid in own:
                status = InstanceStatus.OWN
            elif known[uid]:
                log.warning("instance …%s came again with other bytes: quarantined", uid[-8:])
                status = InstanceStatus.QUARANTINED
            else:
                status = InstanceStatus.STORED
                stored[one.identity.series_instance_uid].append(one)
            known[uid].add(one.file.sha256)
            rows.append(one.row(context, status))
        if rows:
            session.execute(insert(Instance), rows)
        for series in sorted(stored):
            _touch_case(session, stored[series])


# Built once: putting a statement together costs more than a look-up by index.
_KNOWN = select(Instance.sop_instance_uid, Instance.sha256).where(
    Instance.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_OWN = select(Result.sop_instance_uid).where(Result.sop_instance_uid.in_(bindparam("uids", expanding=True)))
_RECEIVING = (
    select(Case.id)
    .where(Case.series_instance_uid == bindparam("series"), Case.state == CaseState.RECEIVING)
    .with_for_update()
)
_COUNT = (
    update(Case)
    .where(Case.id == bindparam("case"))
    .values(instance_count=Case.instance_count + bindparam("more"), last_instance_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)


def _known(session: Session, uids: Sequence[str]) -> dict[str, set[str]]:
    """Return the digests that are known under each UID."""
    known: dict[str, set[str]] = {uid: set() for uid in uids}
    for uid, sha256 in session.execute(_KNOWN, {"uids": uids}):
        known[uid].add(sha256)
    return known


def _touch_case(session: Session, arrivals: Sequence[Arrival]) -> None:
    """Count instances of one series for its receiving case, opening one if there is none."""
    first = arrivals[0]
    series_uid = first.identity.series_instance_uid
    case_id = session.scalar(_RECEIVING, {"series": series_uid})
    if case_id is not None:
        counted = {"case": case_id, "more": len(arrivals), "now": utc_now()}
        session.connection().execute(_COUNT, counted)
        return
    case = lifecycle.open_case(
        session,
        series_uid=series_uid,
        study_uid=first.identity.study_instance_uid,
        calling_ae=first.calling_ae,
    )
    # A late slice opens a case to which all earlier ones belong too; counted here once, not with each slice.
    stored = select(func.count(Instance.id)).where(
        Instance.series_instance_uid == series_uid, Instance.status == InstanceStatus.STORED
    )
    case.instance_count = session.scalar(stored) or 0
