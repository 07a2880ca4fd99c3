"""Storage Commitment Push Model as SCU (PS3.4 J): send the request, and read the report.

`uair_node.delivery.commitment` applies a report to the deliveries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_config.errors import InputError, TransientError, UairError
from dicom_config.model import Destination
from uair_node.network.scu import aborted, associate

_REQUEST = 1
"""Action Type ID (PS3.4 Table J.3.2-1)."""

_SAME_ASSOCIATION_S = 1.0
"""Seconds for which the association stays open for a report. Most peers open a new association for it."""

_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115


@dataclass(frozen=True)
class Report:
    """A peer's report about a transaction of storage commitment.

    Attributes
    ----------
    committed
        SOP Instance UIDs that the peer committed to.
    failed
        SOP Instance UID of each failed instance -> Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


ReportHandler = Callable[[str, Report], None]
"""A function that gets the peer's AE title and report. It returns after the report is recorded."""


def request_commitment(
    destination: Destination,
    transaction_uid: str,
    instances: Sequence[tuple[str, str]],
    take_report: ReportHandler,
) -> bool:
    """Request storage commitment (N-ACTION) of instances. Return after a short wait for the report.

    Parameters
    ----------
    instances
        Pairs of SOP Class UID and SOP Instance UID.

    Returns
    -------
    bool
        False if the destination offers no storage commitment.

    Raises
    ------
    TransientError
        ``commitment-refused``, and the errors of `uair_node.network.scu.send`.
    """
    taken, answered = threading.Event(), threading.Event()

    def take(event: Event) -> tuple[int, None]:
        taken.set()
        return answer_report(event, destination.ae_title, take_report)

    def sent(_event: Event) -> None:
        if taken.is_set():  # after the report, the next PDU that we send is our answer
            answered.set()

    handlers = [(evt.EVT_N_EVENT_REPORT, take), (evt.EVT_PDU_SENT, sent)]
    association = associate(destination, [str(StorageCommitmentPushModel)], handlers)
    try:
        if StorageCommitmentPushModel not in {
            context.abstract_syntax for context in association.accepted_contexts
        }:
            return False
        _ask(association, destination, transaction_uid, instances)
        if taken.wait(_SAME_ASSOCIATION_S):
            answered.wait(destination.timeout_s)
        return True
    finally:
        if association.is_established:
            association.release()


def answer_report(event: Event, calling_ae: str, take_report: ReportHandler) -> tuple[int, None]:
    """Pass an N-EVENT-REPORT to `take_report`. Return the status of our response, and no event reply."""
    try:
        take_report(calling_ae, read_report(event.event_information))
    except InputError:
        return _INVALID_ARGUMENT, None
    except UairError:
        return _PROCESSING_FAILURE, None
    return _SUCCESS, None


def read_report(information: Dataset) -> Report:
    """Read the event information of an N-EVENT-REPORT (PS3.4 Table J.3.3-1).

    Raises
    ------
    InputError
        ``unreadable-report``: the report lacks a required attribute.
    """
    try:
        committed = [item.ReferencedSOPInstanceUID for item in _items(information, "ReferencedSOPSequence")]
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
            for item in _items(information, "FailedSOPSequence")
        }
        return Report(str(information.TransactionUID), frozenset(map(str, committed)), failed)
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            "unreadable-report",
            "A storage commitment report lacks a required attribute.",
            "Check the system that sent the report.",
        ) from None


def _items(information: Dataset, keyword: str) -> Sequence[Any]:
    return information.get(keyword) or ()


def _ask(
    association: Association,
    destination: Destination,
    transaction_uid: str,
    instances: Sequence[tuple[str, str]],
) -> None:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(*instance) for instance in instances]
    response, _ = association.send_n_action(
        request, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    if "Status" not in response:
        raise aborted(destination)
    if response.Status != _SUCCESS:
        raise TransientError(
            "commitment-refused",
            f"{destination.name} refuses our request for storage commitment (status {response.Status:04X}).",
            "See the log of the destination. Without commitment_timeout_s, the node requests no storage "
            "commitment.",
        )


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item
