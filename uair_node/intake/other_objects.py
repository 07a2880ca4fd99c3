"""Keep objects that are of no use for a case or an answer, such as documents and private objects.

The node accepts these objects, because some senders stop a whole study at a refused object. This module
decides whether their bytes are kept. All such objects together have a budget of disk space.
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
    """Return whether instances of a SOP class are of no use for a case or an answer."""
    return sop_class_uid not in _USED


class OtherObjects:
    """The byte count of kept objects. It is thread-safe.

    Parameters
    ----------
    context
        The context. Its settings `intake.other_objects` and `intake.other_objects_bytes` are used.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._kept: int | None = None

    def admit(self, size: int) -> bool:
        """Return whether settings and budget permit to keep an object of `size` bytes. Count kept objects."""
        intake = self._context.settings.intake
        if intake.other_objects == "drop":
            return False
        with self._lock:
            if self._kept is None or self._kept + size > intake.other_objects_bytes:
                self._kept = self._on_disk()  # counted again, because housekeeping may have deleted objects
            if self._kept + size > intake.other_objects_bytes:
                log.warning("object of another class not kept: intake.other_objects_bytes are used up")
                return False
            self._kept += size
            return True

    def _on_disk(self) -> int:
        with self._context.database.reading() as session:
            kept = select(func.sum(Instance.size)).where(Instance.sop_class_uid.not_in(_USED))
            return int(session.scalar(kept) or 0)
