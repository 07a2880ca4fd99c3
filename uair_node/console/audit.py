"""The audit: who viewed which data, and who did which action. Rows are written before the page or action.

Typed text is not kept, since it may be a patient's name. Rows name the cases that were shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from uair_node.cases.installation_tables import AccessRecord

ALLOWED, REFUSED = "done", "refused"
REPEAT_S = 600.0
"""The least time in seconds between two rows for the same view of a session.

Pages refresh themselves, so the same view repeats.
"""

_LONGEST_SUBJECT = 500


def record(
    session: Session, actor: str, address: str, action: str, subject: str = "", outcome: str = ALLOWED
) -> None:
    """Add a row; the caller commits."""
    session.add(
        AccessRecord(
            actor=actor[:64],
            address=address[:64],
            action=action[:32],
            subject=subject[:_LONGEST_SUBJECT],
            outcome=outcome[:64],
        )
    )


def newest(session: Session, *, limit: int, offset: int) -> Sequence[AccessRecord]:
    """Return access records, newest first."""
    query = select(AccessRecord).order_by(AccessRecord.id.desc()).limit(limit).offset(offset)
    return session.scalars(query).all()


def count(session: Session) -> int:
    """Return the number of rows."""
    return session.scalar(select(func.count(AccessRecord.id))) or 0
