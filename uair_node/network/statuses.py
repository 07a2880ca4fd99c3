"""The meaning of a peer's answer, as data: C-STORE statuses (PS3.4 B.2.3, PS3.7 C), failure reasons."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """The next step after an answer."""

    CONFIRMED = "confirmed"
    RETRY = "retry"
    PARK = "park"
    # The peer has an object of this UID; `outgoing.result_of` tells whether it is ours.
    DUPLICATE = "duplicate"


_BY_STATUS: dict[int, tuple[Verdict, str]] = {
    0x0000: (Verdict.CONFIRMED, "stored"),
    0x0110: (Verdict.RETRY, "processing failure at the peer"),
    0x0111: (Verdict.DUPLICATE, "the peer already has this instance"),
    0x0112: (Verdict.RETRY, "the peer does not know the instance"),
    0x0122: (Verdict.PARK, "the peer does not support this SOP class"),
    0x0124: (Verdict.PARK, "the peer does not allow us to store"),
    0x0210: (Verdict.RETRY, "duplicate invocation"),
    0x0212: (Verdict.PARK, "mistyped argument"),
}

_BY_CLASS: tuple[tuple[range, Verdict, str], ...] = (
    (range(0xA700, 0xA800), Verdict.RETRY, "the peer is out of resources"),
    (range(0xA900, 0xAA00), Verdict.PARK, "the peer says the data set does not match its SOP class"),
    (range(0xB000, 0xC000), Verdict.CONFIRMED, "stored with a warning"),
    (range(0xC000, 0xD000), Verdict.PARK, "the peer cannot understand the object"),
)


# Failure Reason (0008,1197) of storage commitment (PS3.3 C.14.1.1).
_BY_FAILURE_REASON: dict[int, tuple[Verdict, str]] = {
    0x0110: (Verdict.RETRY, "processing failure at the peer"),
    0x0112: (Verdict.RETRY, "the peer does not have the instance any more"),
    0x0119: (Verdict.PARK, "the peer knows the instance under another SOP class"),
    0x0122: (Verdict.PARK, "the peer does not commit to this SOP class"),
    0x0131: (Verdict.RETRY, "the peer knows the transaction already"),
    0x0213: (Verdict.RETRY, "the peer is out of resources"),
}


def judge_commitment(failure_reason: int) -> tuple[Verdict, str]:
    """Return what a failed commitment means; RETRY is to send the instance again."""
    verdict, words = _BY_FAILURE_REASON.get(failure_reason, (Verdict.RETRY, "not committed"))
    return verdict, f"{words} (failure reason {failure_reason:04X})"


def judge(status: int) -> tuple[Verdict, str]:
    """Return what a status means; an unknown one is tried again."""
    if status in _BY_STATUS:
        verdict, words = _BY_STATUS[status]
    else:
        verdict, words = next(
            ((v, w) for codes, v, w in _BY_CLASS if status in codes), (Verdict.RETRY, "an unknown status")
        )
    return verdict, f"{words} (status {status:04X})"
