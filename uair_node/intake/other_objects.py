"""Objects of SOP classes that no case can use and that are no answer: documents, private ones.

They are taken so that nobody who pushes a whole study stops at them. This module decides whether their bytes
are kept, and that all of them together stay within a budget of disk space.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import func, select

from dicom_config.contexts import SELECTION_SOP_CLASSES
from dicom_config.modalities import PROFILES
from uair_node.cases.tables import Instance
from uair_node.context import Context

log = logging.getLogger(__name__)

_USED = frozenset(SELECTION_SOP_CLASSES).union(*(profile.sop_classes for profile in PROFILES.values()))


def is_other(sop_class_uid: str) -> bool:
    """Return whether neither a case nor an answer can use instances of a SOP class."""
    return sop_class_uid not in _USED


class OtherObjects:
    """Counts what is kept of such objects; safe for any number of threads.

    Parameters
    ----------
    context
        `intake.other_objects` and `intake.other_objects_bytes` of its settings decide.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._kept: int | None = None

    def admit(self, size: int) -> bool:
        """Return whether `size` more bytes may be kept; if so, count them."""
        intake = self._context.settings.intake
        if intake.other_objects == "drop":
            return False
        with self._lock:
            if self._kept is None or self._kept + size > intake.other_objects_bytes:
                self._kept = self._on_disk()  # housekeeping may have made room
            if self._kept + size > intake.other_objects_bytes:
                log.warning("object of another class left out: intake.other_objects_bytes are used up")
                return False
            self._kept += size
            return True

    def _on_disk(self) -> int:
        with self._context.database.reading() as session:
            kept = select(func.sum(Instance.size)).where(Instance.sop_class_uid.not_in(_USED))
            return int(session.scalar(kept) or 0)
