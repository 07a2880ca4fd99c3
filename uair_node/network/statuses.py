"""The meaning of a peer's answer, as tables: C-STORE statuses (PS3.4 B.2.3, PS3.7 C) and failure reasons."""

from __future__ import annotations

from enum import StrEnum


class DeliveryVerdict(StrEnum):
    """The next step after a peer's answer."""

    CONFIRMED = "confirmed"
    RETRY = "retry"
    PARK = "park"
    # The peer has an object with this UID. `outgoing.result_of` decides whether it is our object.
    DUPLICATE = "duplicate"


_BY_STATUS: dict[int, tuple[DeliveryVerdict, str]] = {
    0x0000: (DeliveryVerdict.CONFIRMED, "stored"),
    0x0110: (DeliveryVerdict.RETRY, "processing failure at the peer"),
    0x0111: (DeliveryVerdict.DUPLICATE, "the peer already has this instance"),
    0x0112: (DeliveryVerdict.RETRY, "the peer does not know the instance"),
    0x0122: (DeliveryVerdict.PARK, "the peer does not support this SOP class"),
    0x0124: (DeliveryVerdict.PARK, "the peer does not allow us to store"),
    0x0210: (DeliveryVerdict.RETRY, "duplicate invocation"),
    0x0212: (DeliveryVerdict.PARK, "mistyped argument"),
}

_BY_CLASS: tuple[tuple[range, DeliveryVerdict, str], ...] = (
    (range(0xA700, 0xA800), DeliveryVerdict.RETRY, "the peer is out of resources"),
    (range(0xA900, 0xAA00), DeliveryVerdict.PARK, "the peer says the data set does not match its SOP class"),
    (range(0xB000, 0xC000), DeliveryVerdict.CONFIRMED, "stored with a warning"),
    (range(0xC000, 0xD000), DeliveryVerdict.PARK, "the peer cannot understand the object"),
)


# Failure Reason (0008,1197) of storage commitment (PS3.3 C.14.1.1).
_BY_FAILURE_REASON: dict[int, tuple[DeliveryVerdict, str]] = {
    0x0110: (DeliveryVerdict.RETRY, "processing failure at the peer"),
    0x0112: (DeliveryVerdict.RETRY, "the peer does not have the instance any more"),
    0x0119: (DeliveryVerdict.PARK, "the peer knows the instance under another SOP class"),
    0x0122: (DeliveryVerdict.PARK, "the peer does not commit to this SOP class"),
    0x0131: (DeliveryVerdict.RETRY, "the peer knows the transaction already"),
    0x0213: (DeliveryVerdict.RETRY, "the peer is out of resources"),
}


def judge_commitment(failure_reason: int) -> tuple[DeliveryVerdict, str]:
    """Return verdict and reason of a failed commitment. After RETRY, the instance is sent again."""
    verdict, words = _BY_FAILURE_REASON.get(failure_reason, (DeliveryVerdict.RETRY, "not committed"))
    return verdict, f"{words} (failure reason {failure_reason:04X})"


def judge(status: int) -> tuple[DeliveryVerdict, str]:
    """Return verdict and reason of a C-STORE status. After an unknown status, the object is sent again."""
    if status in _BY_STATUS:
        verdict, words = _BY_STATUS[status]
    else:
        verdict, words = next(
            ((v, w) for codes, v, w in _BY_CLASS if status in codes),
            (DeliveryVerdict.RETRY, "an unknown status"),
        )
    return verdict, f"{words} (status {status:04X})"
