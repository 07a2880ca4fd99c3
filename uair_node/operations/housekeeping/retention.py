"""Delete received files, artifacts and rows whose retention time is over.

A case is deleted only after it has ended. It is kept while its work or a delivery is open, or while another
case of its series continues. First, one transaction removes file names from rows. Then files without a row
are deleted. If a crash happens in between, then the files are deleted after `retention.loose_days`. Each
machine with its own data folder runs retention for that folder.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, false, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_config.operation import Retention, RetentionSection
from uair_node.cases import lifecycle
from uair_node.cases.clock import database_now
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    Case,
    CaseInstance,
    Delivery,
    DeliveryState,
    Instance,
    InstanceStatus,
    Observation,
    Result,
    Round,
    Selection,
    Transition,
    WorkItem,
)
from uair_node.context import Context
from uair_node.storage.folder_identity import require_same_folder

log = logging.getLogger(__name__)

_UNKNOWN_DAYS = 30
_YOUNG = timedelta(hours=1)
"""Files younger than this are not deleted. A file is on disk before the row that names it."""

_ENDED = (
    CaseState.ACCEPTED,
    CaseState.REJECTED,
    CaseState.EXPIRED,
    CaseState.SUPERSEDED,
    CaseState.FAILED,
)


@dataclass(frozen=True)
class Removal:
    """Files that one step deletes.

    `case` is 0 for files without a case. `shared` has the names of the files in the shared store.
    """

    what: str
    case: int
    state: str
    files: int
    bytes: int
    shared: tuple[str, ...] = ()


def apply_retention(context: Context, *, dry_run: bool, now: datetime | None = None) -> list[Removal]:
    """Delete all files and rows whose retention time is over. Return the removals.

    Parameters
    ----------
    dry_run
        Whether to return the removals without deleting files or rows.
    now
        The present time, in UTC without a time zone; None for the time of the database's clock.

    Raises
    ------
    ConfigError
        ``data-folder-other``: the rows' files are in another folder.
    """
    require_same_folder(context.database, context.store)
    found: list[Removal] = []
    released: set[str] = set()
    with context.database.reading() as session:
        moment = now or database_now(session)
        due = _due_cases(context.settings.retention, session, moment)
    for case_id in due:
        with context.database.transaction() as session:
            removals = list(_remove_case_data(context, session, case_id, moment, dry_run, released))
        if not dry_run:
            for removal in removals:
                _unshare(context, removal)
        found += removals
    with context.database.transaction() as session:
        found += _remove_loose_instances(context, session, moment, dry_run, released)
        found += _remove_old_accesses(context, session, moment, dry_run)
    if not dry_run:
        _sweep(context, moment, released)
    return found


def _due_cases(section: RetentionSection, session: Session, now: datetime) -> Sequence[int]:
    """Return the numbers of ended cases with data whose retention time is over."""
    over = []
    for state in _ENDED:
        kept = _retention(section, state)
        if kept.files_days is None:
            continue
        files = (Case.state == state) & (Case.updated_at < now - timedelta(days=kept.files_days))
        over.append(files & _has_files())
        if kept.rows_days is not None:
            over.append(files & (Case.updated_at < now - timedelta(days=kept.rows_days)))
    return session.scalars(select(Case.id).where(or_(false(), *over)).order_by(Case.id)).all()


def _has_files() -> ColumnElement[bool]:
    """Return the SQL condition that rows still name files of a case."""
    slices = exists().where(CaseInstance.case_id == Case.id)
    artifacts = exists().where(Round.case_id == Case.id, Round.artifacts != "")
    results = exists().where(Round.case_id == Case.id, Result.round_id == Round.id, Result.path != "")
    return or_(
        slices, artifacts, results, exists().where(*_unsealed(Case.series_instance_uid, Case.updated_at))
    )


def _unsealed(series_uid: Any, until: Any) -> tuple[ColumnElement[bool], ...]:
    """Return SQL conditions for instances of a series that arrived before `until` and belong to no case."""
    return (
        Instance.series_instance_uid == series_uid,
        Instance.status == InstanceStatus.STORED,
        Instance.received_at <= until,
        ~exists().where(CaseInstance.instance_id == Instance.id),
    )


def _remove_case_data(
    context: Context, session: Session, case_id: int, now: datetime, dry_run: bool, released: set[str]
) -> Iterator[Removal]:
    case = lock_case(session, case_id)
    kept = _retention(context.settings.retention, case.state)
    _lock_instances(session, case)
    if case.state not in _ENDED or _needed(session, case):
        return
    state = str(case.state)
    if _over(kept.files_days, case.updated_at, now):
        paths = _paths(context, session, case)
        if paths:
            shared = tuple(instance.path for instance in _instances(session, case))
            yield Removal("files", case.id, state, len(paths), _size(paths), shared)
            if not dry_run:
                released |= _forget_files(session, case)
        has_files = False
    else:
        has_files = True
    if not has_files and _over(kept.rows_days, case.updated_at, now) and not _remembered(session, case):
        yield Removal("rows", case.id, state, 0, 0)
        if not dry_run:
            _delete_rows(session, case)


def _lock_instances(session: Session, case: Case) -> None:
    """Lock the rows of the series' instances. So retention waits for instances that the node is receiving.

    A new instance may have opened a new case, which needs the files.
    """
    ids = select(Instance.id).where(Instance.series_instance_uid == case.series_instance_uid)
    session.execute(ids.order_by(Instance.id).with_for_update())


def _retention(section: RetentionSection, state: CaseState) -> Retention:
    found: Retention = getattr(section, state.value.lower(), Retention())
    return found


def _over(days: float | None, since: datetime, now: datetime) -> bool:
    return days is not None and since < now - timedelta(days=days)


def _needed(session: Session, case: Case) -> bool:
    """Return whether a case's files are still needed, by this case or by another case of its series."""
    open_work = select(WorkItem.id).where(WorkItem.case_id == case.id, WorkItem.open)
    unconfirmed = (
        select(Delivery.id)
        .join(Delivery.result)
        .join(Result.round)
        .where(Round.case_id == case.id, Delivery.state != DeliveryState.CONFIRMED)
    )
    going_on = select(Case.id).where(
        Case.series_instance_uid == case.series_instance_uid, Case.state.not_in(_ENDED)
    )
    return any(session.scalar(query.limit(1)) is not None for query in (open_work, unconfirmed, going_on))


def _shared(session: Session, case: Case) -> set[int]:
    """Return the row ids of instances that also belong to another case whose files are kept."""
    own = select(CaseInstance.instance_id).where(CaseInstance.case_id == case.id)
    others = select(CaseInstance.instance_id).where(
        CaseInstance.case_id != case.id, CaseInstance.instance_id.in_(own)
    )
    return set(session.scalars(others))


def _instances(session: Session, case: Case) -> list[Instance]:
    """Return the instances that belong only to this case.

    If the case never became READY, then these are the instances of its series.
    """
    shared = _shared(session, case)
    if case.instances:
        return [instance for instance in case.instances if instance.id not in shared]
    unsealed = _unsealed(case.series_instance_uid, case.updated_at)
    return list(session.scalars(select(Instance).where(*unsealed)))


def _paths(context: Context, session: Session, case: Case) -> list[Path]:
    named = [context.store.absolute(instance.path) for instance in _instances(session, case)]
    if any(round_.artifacts for round_ in case.rounds) or _has_results(session, case):
        named += [path for path in context.store.case_folder(case.id).rglob("*") if path.is_file()]
    return named


def _has_results(session: Session, case: Case) -> bool:
    """Return whether results have files. A rejection note may be written after other files are deleted."""
    kept = select(Result.id).join(Result.round).where(Round.case_id == case.id, Result.path != "")
    return session.scalar(kept.limit(1)) is not None


def _size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def _unshare(context: Context, removal: Removal) -> None:
    """Delete a case's files in the shared store, outside of any transaction.

    If this fails, then the machine that shared a file still has the file. The next run on that machine finds
    that no row names the file.
    """
    if context.store.remote is None or removal.what != "files":
        return
    context.store.remote.remove(removal.shared)
    # Delete the whole folder, because workers that lost their lease left files there without a row.
    context.store.remote.remove_folder(context.store.relative(context.store.case_folder(removal.case)))


def _forget_files(session: Session, case: Case) -> set[str]:
    """Remove the names of a case's files from its rows. Return the paths of its files in the spool."""
    if case.state == CaseState.FAILED:
        reason = "the retention time of its files is over"
        lifecycle.advance(session, case, CaseState.EXPIRED, actor="tidy", reason=reason)
    received = {instance.id: instance.path for instance in _instances(session, case)}
    session.execute(delete(CaseInstance).where(CaseInstance.case_id == case.id))
    session.execute(delete(Instance).where(Instance.id.in_(received)))
    rounds = select(Round.id).where(Round.case_id == case.id)
    session.execute(update(Result).where(Result.round_id.in_(rounds)).values(path=""))
    session.execute(update(Selection).where(Selection.case_id == case.id).values(artifact=""))
    session.execute(update(Round).where(Round.case_id == case.id).values(artifacts=""))
    session.expire_all()
    return set(received.values())


def _remembered(session: Session, case: Case) -> bool:
    """Return whether the stored preferences use this case."""
    return session.scalar(select(Observation.id).where(Observation.case_id == case.id).limit(1)) is not None


def _delete_rows(session: Session, case: Case) -> None:
    rounds = select(Round.id).where(Round.case_id == case.id)
    results = select(Result.id).where(Result.round_id.in_(rounds))
    session.execute(delete(Delivery).where(Delivery.result_id.in_(results)))
    session.execute(delete(Result).where(Result.round_id.in_(rounds)))
    session.execute(update(Round).where(Round.case_id == case.id).values(selection_id=None))
    for table in (Selection, Transition, WorkItem, Round, CaseInstance):
        session.execute(delete(table).where(table.case_id == case.id))
    session.execute(delete(Case).where(Case.id == case.id))
    session.expire_all()


def _remove_loose_instances(
    context: Context, session: Session, now: datetime, dry_run: bool, released: set[str]
) -> Iterator[Removal]:
    days = context.settings.retention.loose_days
    if days is None:
        return
    evidence_of_living = exists().where(
        Selection.evidence_uid == Instance.sop_instance_uid,
        Case.id == Selection.case_id,
        Case.state.not_in(_ENDED),
    )
    rows = session.scalars(
        select(Instance).where(
            Instance.is_loose(),
            Instance.received_at < now - timedelta(days=days),
            ~evidence_of_living,
            ~exists().where(CaseInstance.instance_id == Instance.id),
        )
    ).all()
    if rows:
        paths = [context.store.absolute(row.path) for row in rows]
        yield Removal("files", 0, "loose", len(paths), _size(paths))
    of_none = Selection.case_id.is_(None) & (Selection.received_at < now - timedelta(days=days))
    if count := session.scalar(select(func.count(Selection.id)).where(of_none)):
        yield Removal(f"{count} refused answers", 0, "", 0, 0)
    if not dry_run:
        session.execute(delete(Selection).where(of_none))
        session.execute(delete(Instance).where(Instance.id.in_([row.id for row in rows])))
        released |= {row.path for row in rows}


def _remove_old_accesses(
    context: Context, session: Session, now: datetime, dry_run: bool
) -> Iterator[Removal]:
    days = context.settings.retention.accesses_days
    if days is None:
        return
    old = AccessRecord.at < now - timedelta(days=days)
    if count := session.scalar(select(func.count(AccessRecord.id)).where(old)):
        yield Removal(f"{count} accesses", 0, "", 0, 0)
    if not dry_run:
        session.execute(delete(AccessRecord).where(old))


def _sweep(context: Context, now: datetime, released: set[str]) -> None:
    """Delete files without a row.

    A received file that is not in `released` may be newer than a restored database. It stays for
    `retention.loose_days`, so that `uair recover` can register it.
    """
    with context.database.reading() as session:
        received = set(session.scalars(select(Instance.path)))
        artifacts = exists().where(Round.case_id == Case.id, Round.artifacts != "")
        results = exists().where(Round.case_id == Case.id, Result.round_id == Round.id, Result.path != "")
        kept = select(Case.id).where(or_(Case.state.not_in(_ENDED), artifacts, results))
        living = set(session.scalars(kept))
        at_work = set(session.scalars(select(WorkItem.case_id).where(WorkItem.open)))
        of_claims = _named_folders(session, kept)
    before = (now - _YOUNG).timestamp()
    days = context.settings.retention.loose_days or _UNKNOWN_DAYS
    long_before = (now - timedelta(days=days)).timestamp()
    unknown = 0
    for path in context.store.spool.rglob("*.dcm"):
        name, modified = context.store.relative(path), path.stat().st_mtime
        if name in received or modified >= before:
            continue
        if name in released or modified < long_before:
            if context.store.remote is not None:
                context.store.remote.remove([name])
            path.unlink(missing_ok=True)
        else:
            unknown += 1
    if unknown:
        log.warning("%d received files have no row: `uair recover` registers them", unknown)
    for folder in context.store.spool.glob("*"):
        if folder.is_dir() and not any(folder.iterdir()) and folder.stat().st_mtime < before:
            folder.rmdir()
    needed = {context.store.case_folder(case_id) for case_id in living}
    for folder in context.store.case_folders():
        if folder not in needed and folder.stat().st_mtime < before:
            _remove_folder(context, folder, context.store.relative(folder))
    for case_id in living - at_work:
        for folder in context.store.case_folder(case_id).glob("*"):
            name = context.store.relative(folder)
            if name not in of_claims and folder.stat().st_mtime < before:
                _remove_folder(context, folder, name)


def _named_folders(session: Session, cases: Select[int]) -> set[str]:
    """Return the folders that rows of `cases` name, or that contain a file that these rows name."""
    of_rounds = Round.case_id.in_(cases)
    folders = set(session.scalars(select(Round.artifacts).where(Round.artifacts != "", of_rounds)))
    results = select(Result.path).join(Result.round).where(Result.path != "", of_rounds)
    edits = select(Selection.artifact).where(Selection.artifact != "", Selection.case_id.in_(cases))
    for files in (results, edits):
        folders |= {path.rpartition("/")[0] for path in session.scalars(files)}
    return folders


def _remove_folder(context: Context, folder: Path, name: str) -> None:
    """Delete a folder without a row, first in the shared store.

    If this fails, then the next run finds the folder again.
    """
    if context.store.remote is not None:
        context.store.remote.remove_folder(name)
    shutil.rmtree(folder, ignore_errors=True)
