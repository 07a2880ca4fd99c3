"""Read identity, words and elements of a received data set. Every failure is an InputError."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.structure import require_bounded
from uair_node.intake.register import Identity
from uair_node.network.scp import ReceivedInstance

_IDENTITY = ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"]
_TAGGED = ["SeriesDescription", "ContentLabel", "StructureSetLabel"]


def read_identity(data: bytes) -> Identity:
    """Return the identity by which an instance is filed.

    Raises
    ------
    InputError
        ``unreadable-instance``, ``instance-too-complex``.
    """
    require_bounded(data)
    try:
        dataset: Dataset = dcmread(BytesIO(data), specific_tags=_IDENTITY, stop_before_pixels=True)
        uids = [str(dataset[keyword].value) for keyword in _IDENTITY]
    except Exception as error:
        # With damaged data sets, pydicom raises exceptions of many types. Their texts may quote patient data.
        raise _unreadable(f"its four UIDs cannot be read ({type(error).__name__})") from None
    if not all(uids):
        raise _unreadable("one of its four UIDs is empty")
    return Identity(*uids)


def identify(received: ReceivedInstance) -> Identity:
    """Return the identity of a received instance, and compare it with the C-STORE request.

    Raises
    ------
    InputError
        ``sop-class-mismatch``, and the errors of `read_identity`.
    """
    identity = read_identity(received.data)
    if (identity.sop_class_uid, identity.sop_instance_uid) != (
        received.sop_class_uid,
        received.sop_instance_uid,
    ):
        raise InputError(
            "sop-class-mismatch",
            "The data set's SOP class or instance UID differs from that of its C-STORE request.",
            "Check the sending system; it mixes objects up.",
        )
    return identity


def parse(data: bytes) -> Dataset:
    """Return a received data set. It raises the InputError ``unreadable-instance``."""
    try:
        dataset: Dataset = dcmread(BytesIO(data))
    except Exception as error:
        raise _unreadable(f"its data set is damaged ({type(error).__name__})") from None
    return dataset


def _unreadable(why: str) -> InputError:
    return InputError(
        "unreadable-instance",
        f"The instance cannot be registered: {why}.",
        "Check the sending system; the object is not valid DICOM.",
    )


def tagged_words(file: BytesIO | Path) -> str:
    """Return the words of an object that may contain a tag; empty if they cannot be read."""
    try:
        dataset = dcmread(file, specific_tags=_TAGGED, stop_before_pixels=True)
        return " / ".join(str(dataset.get(keyword) or "").strip() for keyword in _TAGGED)
    except Exception:  # unreadable data raises exceptions of many types; the later full reading reports them
        return ""
