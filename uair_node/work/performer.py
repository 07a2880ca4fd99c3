"""Perform a work item: claim it, hold it by a lease, and write its outcome in a single transaction.

A job does its long part outside of any transaction and returns a function that writes its outcome. If the
lease was lost meanwhile (a stopped clock, a superseded case), then the outcome is not written. So each effect
happens once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError, UairError
from uair_node.cases import lifecycle, work_items
from uair_node.cases.codes import CaseCode
from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.logs import bound
from uair_node.work.topology import RULES

log = logging.getLogger(__name__)

_FAILED = CaseCode.WORK_FAILED.value
"""Code of a failed case if the error itself has no code."""

Commit = Callable[[Session, WorkItem], None]
"""A function that writes a job's outcome, and closes or postpones its item."""


@dataclass(frozen=True)
class Claim:
    """A claimed work item, readable without a database session. `lost` is set when the lease is lost."""

    item_id: int
    kind: WorkKind
    subject: str
    case_id: int | None
    round_number: int | None
    attempt: int
    owner: str
    lost: threading.Event = field(default_factory=threading.Event, compare=False)

    @property
    def token(self) -> str:
        """A name for the files of this claim. Other claims of the same item have other names."""
        return self.owner.rpartition(":")[2]

    def check(self) -> None:
        """Stop the job if its outcome can no longer be written.

        Raises
        ------
        TransientError
            ``lease-lost``: the lease of this claim was lost.
        """
        if self.lost.is_set():
            raise no_longer_due()


def no_longer_due() -> TransientError:
    """Return the error of a job whose work item became unnecessary after the claim."""
    return TransientError(
        "lease-lost",
        "This work item is no longer due.",
        "No action needed. The newer work item continues.",
    )


Job = Callable[[Claim], Commit]


def perform(context: Context, item_id: int, job: Job, *, kind: WorkKind | None = None) -> bool:
    """Perform a work item. Return False if the item cannot be claimed. Errors are recorded by their type.

    Parameters
    ----------
    kind
        The kind of work in the message; None: any kind. If the item has another kind, then the database was
        restored after the message was sent. Then the item is not performed.
    """
    claim = _claim(context, item_id, kind)
    if claim is None:
        return False
    with bound(case=claim.case_id, round=claim.round_number, work=claim.kind.value):
        _perform(context, claim, job)
    return True


def _perform(context: Context, claim: Claim, job: Job) -> None:
    log.info("start %s %s, attempt %d", claim.kind, claim.subject, claim.attempt)
    try:
        with _kept_lease(context, claim):
            commit = job(claim)
    except InputError as error:
        commit = _refusal(context, claim, error)
    except Exception as error:
        cause = describe_error(error)
        log.error("%s %s failed: %s", claim.kind, claim.subject, error_line(error))
        commit = _setback(context, claim, cause, error.code if isinstance(error, UairError) else _FAILED)
    _write(context, claim, commit)


def describe_error(error: Exception) -> str:
    """Return a description of an error. For a library's exception, it has only type and place.

    The text of a library's exception may quote a DICOM header.
    """
    if isinstance(error, UairError):
        return str(error)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}."


def error_line(error: Exception) -> str:
    """Return a description of an error for the log. For our own errors, it begins with the code."""
    return error.log_line if isinstance(error, UairError) else describe_error(error)


def _claim(context: Context, item_id: int, kind: WorkKind | None) -> Claim | None:
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    settings = context.settings.work
    with context.database.transaction() as session:
        named = session.get(WorkItem, item_id)
        if named is not None and kind not in (None, named.kind):
            words = "a message for %s names a work item of another kind, %s %s: ignored"
            log.warning(words, kind, named.kind, named.subject)
            return None
        item = work_items.claim(session, item_id, owner, settings.lease_s)
        if item is None:
            return None
        died = item.cause or "The worker died before the work was done."
        claim = Claim(
            item.id,
            WorkKind(item.kind),
            item.subject,
            item.case_id,
            item.round_number,
            item.attempts,
            owner,
        )
    if claim.case_id is None or claim.attempt <= settings.max_attempts:
        return claim
    _write(context, claim, lambda session, item: _give_up(session, item, died, times=claim.attempt - 1))
    return None


def _write(context: Context, claim: Claim, commit: Commit) -> None:
    with context.database.transaction() as session:
        if claim.case_id is not None:
            lock_case(session, claim.case_id)  # always locked before the item: the same order everywhere
        item = work_items.hold(session, claim.item_id, claim.owner)
        if item is None:
            log.warning("%s %s: lease lost, its outcome is dropped", claim.kind, claim.subject)
            return
        commit(session, item)


def _refusal(context: Context, claim: Claim, error: InputError) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        if RULES[item.kind].dispensable:
            _do_without(item, str(error))
            return
        if item.case_id is None:  # the work of a destination has no case that could be refused
            _setback(context, claim, str(error))(session, item)
            return
        case = session.get_one(Case, item.case_id)
        if case.state == CaseState.SEGMENTING:
            lifecycle.reject_input(session, case, error, actor="worker")
        else:
            lifecycle.fail(session, case, code=error.code, cause=error.sentence, remedy=error.remedy)
        work_items.close(item)

    return commit


def _setback(context: Context, claim: Claim, cause: str, code: str = _FAILED) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        if item.case_id is not None and item.attempts >= context.settings.work.max_attempts:
            _give_up(session, item, cause, times=item.attempts, code=code)
        else:
            work_items.postpone(
                session, item, work_items.back_off(context.settings.delivery, claim.attempt), cause
            )

    return commit


def _give_up(session: Session, item: WorkItem, cause: str, *, times: int, code: str = _FAILED) -> None:
    case = session.get_one(Case, item.case_id)
    if RULES[item.kind].dispensable:
        _do_without(item, cause)
        return
    log.error("case %d failed after %d attempts", case.id, times)
    lifecycle.fail(
        session,
        case,
        code=code,
        cause=f"{item.kind} failed {times} times. {cause}",
        remedy=f"Correct the cause, then `uair case retry {case.id}`.",
    )
    work_items.close(item)


def _do_without(item: WorkItem, cause: str) -> None:
    """Close an item of dispensable work, such as pictures. The reader can still pick a candidate."""
    log.error("%s %s given up: %s", item.kind, item.subject, cause)
    work_items.close(item)
    item.cause = cause


@contextmanager
def _kept_lease(context: Context, claim: Claim) -> Iterator[None]:
    """Renew the lease in a thread while the block runs."""
    lease_s = context.settings.work.lease_s
    done = threading.Event()

    def keep() -> None:
        while not done.wait(lease_s / 3):
            try:
                with context.database.transaction() as session:
                    if not work_items.renew(session, claim.item_id, claim.owner, lease_s):
                        claim.lost.set()
                        return
            except TransientError:
                log.warning(
                    "the lease of %s %s is not renewed, because the database does not answer",
                    claim.kind,
                    claim.subject,
                )

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
