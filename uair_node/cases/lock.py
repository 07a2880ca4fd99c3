"""Lock a case's row and read it again before its state is changed.

A function that checks a case's state and then writes must get the case from `lock_case`. So two events that
come at the same time are handled in sequence, on every database. Examples are two answers, an answer
and an expiry, or a worker's outcome and a late slice.

Lock the case's row first, then its work items. SQLite takes its write lock when a transaction begins.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.cases.tables import Case


def lock_case(session: Session, case_id: int) -> Case:
    """Lock a case's row until the transaction ends. Return the case with its present values.

    All objects of the session expire. So rounds, results and selections are read again, too.

    Raises
    ------
    InputError
        ``no-such-case``: no case has this id.
    """
    session.flush()
    session.expire_all()
    locked = select(Case).where(Case.id == case_id).with_for_update()
    case = session.scalars(locked.execution_options(populate_existing=True)).one_or_none()
    if case is None:
        raise InputError("no-such-case", f"There is no case {case_id}.", "`uair cases` lists them.")
    return case
