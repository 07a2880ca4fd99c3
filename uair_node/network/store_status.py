"""The statuses of C-STORE responses, and the table that maps errors to statuses (PS3.4 B.2.3)."""

from __future__ import annotations

import logging
import traceback
from enum import IntEnum

from pydicom.dataset import Dataset
from pynetdicom.events import Event

from dicom_config.errors import InputError, ResourceError, TransientError, UairError

log = logging.getLogger(__name__)


class StoreStatus(IntEnum):
    """The statuses of our C-STORE responses (PS3.4 Table B.2-1, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    ELEMENTS_DISCARDED = 0xB006
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    SOP_CLASS_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    INTERNAL_ERROR = 0xC001


_STATUS_OF_CODE = {"sop-class-mismatch": StoreStatus.SOP_CLASS_MISMATCH}


_STATUS_OF_TYPE: tuple[tuple[type[Exception], StoreStatus], ...] = (
    (InputError, StoreStatus.CANNOT_UNDERSTAND),
    (ResourceError, StoreStatus.OUT_OF_RESOURCES),
    (TransientError, StoreStatus.PROCESSING_FAILURE),
    (MemoryError, StoreStatus.OUT_OF_RESOURCES),
    (Exception, StoreStatus.INTERNAL_ERROR),
)


def store_status(error: Exception) -> StoreStatus:
    """Return the status of the response to a handler's error. This status is never success."""
    if isinstance(error, UairError) and error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    return next(status for kind, status in _STATUS_OF_TYPE if isinstance(error, kind))


def refusal(event: Event, error: Exception) -> Dataset:
    """Log a handler's error, and return the C-STORE response.

    Texts of libraries' exceptions are left out, because they may quote patient data.
    """
    status = store_status(error)
    uid = str(event.request.AffectedSOPInstanceUID)[-8:]
    if isinstance(error, UairError):
        code = error.code
        log.warning("instance …%s answered %04X: %s", uid, status, error.log_line)
    else:
        code = "internal-error"
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {at.filename}:{at.lineno}"
        log.error("instance …%s answered %04X: %s: %s", uid, status, code, where)
    return response_of(status, code)


def response_of(status: StoreStatus, comment: str = "") -> Dataset:
    """Return a C-STORE response. `comment` is the reason for the sender."""
    response = Dataset()
    response.Status = int(status)
    if comment:
        # The sender's log shows Error Comment (0000,0902), at most 64 characters.
        response.ErrorComment = comment[:64]
    return response
