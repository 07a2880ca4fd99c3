"""What is sent and what comes of it, whatever the way out."""

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
from uair_node.network.statuses import Verdict


@dataclass(frozen=True)
class Parcel:
    """One object to be sent."""

    key: int
    sop_class_uid: str
    path: Path


@dataclass(frozen=True)
class Answer:
    """What the peer said about one parcel."""

    key: int
    verdict: Verdict
    reason: str


Announce = Callable[[Parcel], bool]
"""Marks durably that a parcel is about to be sent, and tells whether it was sent before."""


def first_time(_parcel: Parcel) -> bool:
    """Announce what no delivery's row stands for: it counts as never sent before."""
    return False


def answer_of(parcel: Parcel, verdict: Verdict, reason: str, *, sent_before: bool) -> Answer:
    """Return what an answer means for a parcel: a duplicate is ours only if the parcel was sent before."""
    if verdict != Verdict.DUPLICATE:
        return Answer(parcel.key, verdict, reason)
    if sent_before:
        return Answer(parcel.key, Verdict.CONFIRMED, reason)
    return Answer(parcel.key, Verdict.DUPLICATE, reason_of(duplicate_uid()))


def read_parcel(parcel: Parcel) -> Dataset | Answer:
    """Read the object to be sent; return what becomes of its delivery where that fails.

    A file that is cut off or damaged parks its delivery. A disk that fails is tried again.
    """
    try:
        file = parcel.path.read_bytes()
        dataset: Dataset = dcmread(BytesIO(file))
        if is_whole(file):
            return dataset
        return _parked(parcel, result_unreadable("its end is missing"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return _parked(parcel, result_unreadable("it is not there"))
    except OSError as error:
        reason = result_unreadable(os.strerror(error.errno) if error.errno else "damaged")
        return Answer(parcel.key, Verdict.RETRY if error.errno else Verdict.PARK, reason_of(reason))
    except Exception as error:
        # Damaged files make pydicom raise nearly anything.
        return _parked(parcel, result_unreadable(type(error).__name__))


def result_unreadable(why: str) -> InputError:
    """Return the error of an object whose file cannot be sent."""
    return InputError(
        "result-unreadable",
        f"The object's file cannot be read here ({why}).",
        "Restore the file from a backup into the data folder or the object store, then send it again.",
    )


def result_deleted() -> InputError:
    """Return the error of an object whose file retention has deleted."""
    return InputError(
        "result-deleted",
        "Retention has deleted the object's file.",
        "Restore the data folder and the database from a backup; or take the object from another archive.",
    )


def duplicate_uid() -> InputError:
    """Return the error of an object whose UID the peer holds already, though we never sent it there."""
    return InputError(
        "duplicate-uid",
        "The destination holds an object of this UID that this delivery never sent (status 0111).",
        "Delete that object at the destination, then send this one again.",
    )


def reason_of(error: InputError) -> str:
    """Return what a parked delivery shows: code, sentence, remedy."""
    return f"{error.code}: {error.sentence} {error.mend}"


def _parked(parcel: Parcel, error: InputError) -> Answer:
    return Answer(parcel.key, Verdict.PARK, reason_of(error))
