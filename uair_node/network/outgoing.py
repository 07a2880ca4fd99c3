"""An object for a destination, and the result of its sending, for C-STORE and STOW-RS."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.structure import is_whole
from uair_node.network.statuses import DeliveryVerdict


@dataclass(frozen=True)
class OutgoingInstance:
    """An object for a destination. `key` is the id of its delivery."""

    key: int
    sop_class_uid: str
    path: Path


@dataclass(frozen=True)
class SendResult:
    """The result of sending an object: the verdict for its delivery, and a reason."""

    key: int
    verdict: DeliveryVerdict
    reason: str


Announce = Callable[[OutgoingInstance], bool]
"""A function that records durably that an object is about to be sent.

It returns whether the object was sent before.
"""


def first_time(_instance: OutgoingInstance) -> bool:
    """Return False: without an outbox, every object counts as sent for the first time."""
    return False


def result_of(
    instance: OutgoingInstance, verdict: DeliveryVerdict, reason: str, *, sent_before: bool
) -> SendResult:
    """Return the result for a verdict. A duplicate counts as confirmed if the object was sent before."""
    if verdict != DeliveryVerdict.DUPLICATE:
        return SendResult(instance.key, verdict, reason)
    if sent_before:
        return SendResult(instance.key, DeliveryVerdict.CONFIRMED, reason)
    return SendResult(instance.key, DeliveryVerdict.DUPLICATE, reason_of(duplicate_uid()))


def read_instance(instance: OutgoingInstance) -> Dataset | SendResult:
    """Read an object before it is sent. If the reading fails, then return the result for its delivery.

    If the file is truncated or damaged, then the delivery is parked. After a disk error, the delivery is
    tried again.
    """
    try:
        file = instance.path.read_bytes()
        dataset: Dataset = dcmread(BytesIO(file))
        if is_whole(file):
            return dataset
        return _parked(instance, result_unreadable("the end of the file is missing"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return _parked(instance, result_unreadable("the file does not exist"))
    except OSError as error:
        reason = result_unreadable(os.strerror(error.errno) if error.errno else "damaged")
        return SendResult(
            instance.key, DeliveryVerdict.RETRY if error.errno else DeliveryVerdict.PARK, reason_of(reason)
        )
    except Exception as error:
        # With damaged files, pydicom raises exceptions of many types.
        return _parked(instance, result_unreadable(type(error).__name__))


def result_unreadable(why: str) -> InputError:
    """Return the error of an object whose file cannot be sent."""
    return InputError(
        "result-unreadable",
        f"The object's file cannot be read here ({why}).",
        "Restore the file from a backup into the data folder or the object store, then send it again.",
    )


def result_deleted() -> InputError:
    """Return the error of an object if retention has deleted its file."""
    return InputError(
        "result-deleted",
        "Retention has deleted the object's file.",
        "Restore the data folder and the database from a backup; or take the object from another archive.",
    )


def duplicate_uid() -> InputError:
    """Return the error of an object whose UID the peer already has, although this delivery never sent it."""
    return InputError(
        "duplicate-uid",
        "The destination holds an object of this UID that this delivery never sent (status 0111).",
        "Delete that object at the destination, then send this one again.",
    )


def reason_of(error: InputError) -> str:
    """Return the reason for a parked delivery: code, sentence and remedy."""
    return f"{error.code}: {error.sentence} {error.remedy}"


def _parked(instance: OutgoingInstance, error: InputError) -> SendResult:
    return SendResult(instance.key, DeliveryVerdict.PARK, reason_of(error))
