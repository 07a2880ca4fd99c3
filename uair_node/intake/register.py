"""Add rows for instances on the store AE. Instances that arrive at the same time share a commit.

Each commit needs a sync of the disk, and SQLite permits only one writing transaction at a time. So the
threads of several associations share transactions. While a transaction commits, other instances gather. The
next transaction adds all of them. Each thread returns only after its own row is committed.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from dicom_config.errors import TransientError
from uair_node.cases import lifecycle
from uair_node.cases.clock import database_now
from uair_node.cases.states import HOLDING, CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance, InstanceStatus, Result
from uair_node.context import Context
from uair_node.storage.spool import SpooledFile

log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Identity:
    """The four UIDs by which an instance is filed."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class Arrival:
    """An instance whose bytes are on disk, and whose row does not exist yet."""

    identity: Identity
    file: SpooledFile
    calling_ae: str

    def row(self, context: Context, status: InstanceStatus) -> dict[str, Any]:
        """Return the column values of the instance's row."""
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


class GroupCommit(Generic[_Item]):
    """Passes the items of several threads to `take` in groups, so that a group shares a commit.

    The first thread that finds `take` idle passes all waiting items.

    Parameters
    ----------
    take
        A function that processes a group completely or raises an error. It is never called by two threads at
        the same time.
    """

    def __init__(self, take: Callable[[Sequence[_Item]], None]) -> None:
        self._take = take
        self._gathered: list[_Waiting[_Item]] = []
        self._gathering = threading.Lock()
        self._taking = threading.Lock()

    def add(self, item: _Item) -> None:
        """Pass `item` to `take`, and return when it is processed. Raise the error of `take`."""
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
            self._take([waiting.item for waiting in group])
            for waiting in group:
                waiting.error = None
        except Exception as error:
            if len(group) > 1 and not isinstance(error, TransientError):
                for waiting in group:  # each item alone, because a single item may cause the group's error
                    self._take_group([waiting])
                return
            for waiting in group:
                waiting.error = error
        finally:
            for waiting in group:
                waiting.done = True


def register(context: Context, arrivals: Sequence[Arrival]) -> None:
    """Add rows for stored instances in a single transaction, and count them for their series' cases.

    If an instance of the series has a known UID and other bytes, then it is a new version. It replaces the
    earlier version in the next case. An instance whose bytes were received before has no effect if an open or
    accepted case holds these bytes. Otherwise, the instance opens a case. Our own objects never open a case.

    Raises
    ------
    TransientError
        ``database-unavailable``. In this case, no row was added.
    """
    with context.database.transaction() as session:
        shelf = _Shelf(context, session, arrivals)
        for arrival in arrivals:
            shelf.put(arrival)
        shelf.write()


class _Shelf:
    """The known versions of each arriving instance, and the changes for a group of arrivals."""

    def __init__(self, context: Context, session: Session, arrivals: Sequence[Arrival]) -> None:
        self._context, self._session = context, session
        uids = sorted({arrival.identity.sop_instance_uid for arrival in arrivals})
        self._own = set(session.scalars(_OWN, {"uids": uids}))
        self._known: dict[str, dict[str, _Version]] = {uid: {} for uid in uids}
        for id_, uid, sha256, series, status, path in session.execute(_KNOWN, {"uids": uids}):
            self._known[uid][sha256] = _Version(series, status, id_, path=path)
        ids = sorted(version.id for shas in self._known.values() for version in shas.values() if version.id)
        self._held = set(session.scalars(_HELD, {"ids": ids})) if ids else set()
        all_series = sorted({arrival.identity.series_instance_uid for arrival in arrivals}) if ids else []
        self._receiving = (
            set(session.scalars(_RECEIVING_SERIES, {"series": all_series})) if all_series else set()
        )
        self._new: list[dict[str, Any]] = []
        self._stored: dict[str, list[Arrival]] = defaultdict(list)
        self._more: Counter[str] = Counter()

    def put(self, arrival: Arrival) -> None:
        """Decide how an arrival is recorded. `write` adds the rows."""
        uid, sha256 = arrival.identity.sop_instance_uid, arrival.file.sha256
        versions = self._known[uid]
        same = versions.get(sha256)
        if same is not None:
            self._name_present_file(same, arrival)
            if self._is_repetition(uid, same):
                return
        if uid in self._own:
            self._add(arrival, InstanceStatus.OWN)
            return
        series = arrival.identity.series_instance_uid
        earlier = [
            version
            for version in versions.values()
            if version.series == series and version.status == InstanceStatus.STORED
        ]
        for version in earlier:
            version.status = InstanceStatus.REPLACED
        if same is None:
            self._add(arrival, InstanceStatus.STORED)
        else:
            same.status, same.received_again = InstanceStatus.STORED, True
        self._stored[series].append(arrival)
        self._more[series] += not earlier
        self._receiving.add(series)

    def _name_present_file(self, same: _Version, arrival: Arrival) -> None:
        """If the file in the row of the same bytes is missing, then write the new file into the row.

        Earlier versions of the software gave files other names.
        """
        path = self._context.store.relative(arrival.file.path)
        if same.id is not None and path != same.path and not self._context.store.absolute(same.path).exists():
            same.new_path = path

    def _is_repetition(self, uid: str, version: _Version) -> bool:
        if uid in self._own:
            return version.status == InstanceStatus.OWN
        if version.series in self._receiving:  # the receiving case gets the newest version
            return version.status == InstanceStatus.STORED
        return version.id in self._held

    def _add(self, arrival: Arrival, status: InstanceStatus) -> None:
        identity = arrival.identity
        row = arrival.row(self._context, status)
        self._new.append(row)
        self._known[identity.sop_instance_uid][arrival.file.sha256] = _Version(
            identity.series_instance_uid, status, row=row
        )

    def write(self) -> None:
        """Write the rows and count the instances for their series' cases."""
        now = database_now(self._session)
        for versions in self._known.values():
            for version in versions.values():
                version.write_to(self._session, now)
        if self._new:
            self._session.execute(insert(Instance), self._new)
        for series in sorted(self._stored):
            _touch_case(self._session, self._stored[series], self._more[series], now)


@dataclass
class _Version:
    """A version of an instance, with its own bytes: an existing row, or a row that will be added (`row`)."""

    series: str
    status: InstanceStatus
    id: int | None = None
    row: dict[str, Any] | None = None
    received_again: bool = False
    path: str = ""
    new_path: str = ""

    def __post_init__(self) -> None:
        self._before = self.status

    def write_to(self, session: Session, now: datetime) -> None:
        """Write the decision to the row."""
        if self.row is not None:
            self.row |= {"status": self.status, "received_at": now}
        elif self.received_again or self.new_path or self.status != self._before:
            values: dict[str, Any] = {"status": self.status}
            if self.new_path:
                values["path"] = self.new_path
            if self.received_again:
                values["received_at"] = now
            session.execute(update(Instance).where(Instance.id == self.id).values(**values))


# The statement is built once, because building it takes longer than a look-up by index. The row lock is
# against retention. With the lock, retention either deletes a row before the same bytes arrive again, or it
# sees that these bytes have a new case.
_KNOWN = (
    select(
        Instance.id,
        Instance.sop_instance_uid,
        Instance.sha256,
        Instance.series_instance_uid,
        Instance.status,
        Instance.path,
    )
    .where(Instance.sop_instance_uid.in_(bindparam("uids", expanding=True)))
    .order_by(Instance.id)
    .with_for_update()
)
_OWN = select(Result.sop_instance_uid).where(Result.sop_instance_uid.in_(bindparam("uids", expanding=True)))
_HELD = (
    select(CaseInstance.instance_id)
    .join(Case, Case.id == CaseInstance.case_id)
    .where(CaseInstance.instance_id.in_(bindparam("ids", expanding=True)), Case.state.in_(HOLDING))
)
_RECEIVING_SERIES = select(Case.series_instance_uid).where(
    Case.series_instance_uid.in_(bindparam("series", expanding=True)), Case.state == CaseState.RECEIVING
)
_RECEIVING = (
    select(Case.id)
    .where(Case.series_instance_uid == bindparam("series"), Case.state == CaseState.RECEIVING)
    .with_for_update()
)
_COUNT = (
    update(Case)
    .where(Case.id == bindparam("case"))
    .values(
        instance_count=Case.instance_count + bindparam("more"),
        last_instance_at=bindparam("now"),
        study_instance_uid=bindparam("study"),
    )
    .execution_options(synchronize_session=False)
)


def _touch_case(session: Session, arrivals: Sequence[Arrival], more: int, now: datetime) -> None:
    """Count `more` instances of a series in its receiving case. Open a case if there is none."""
    newest = arrivals[-1].identity
    case_id = session.scalar(_RECEIVING, {"series": newest.series_instance_uid})
    if case_id is not None:
        # The newest study UID counts, because a study may have been merged into another study.
        counted = {"case": case_id, "more": more, "now": now, "study": newest.study_instance_uid}
        session.connection().execute(_COUNT, counted)
        return
    case = lifecycle.open_case(
        session,
        series_uid=newest.series_instance_uid,
        study_uid=newest.study_instance_uid,
        calling_ae=arrivals[0].calling_ae,
    )
    # A new case gets the newest version of every instance, also of instances in earlier cases. They are
    # counted here once.
    stored = select(func.count(Instance.id)).where(
        Instance.series_instance_uid == newest.series_instance_uid, Instance.status == InstanceStatus.STORED
    )
    case.instance_count = session.scalar(stored) or 0
