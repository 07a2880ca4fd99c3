"""What a peer's C-STORE status means for us (PS3.4 B.2.3, PS3.7 C), as data."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What to do after an answer."""

    CONFIRMED = "confirmed"
    RETRY = "retry"
    PARK = "park"


_BY_STATUS: dict[int, tuple[Verdict, str]] = {
    0x0000: (Verdict.CONFIRMED, "stored"),
    0x0110: (Verdict.RETRY, "processing failure at the peer"),
    0x0111: (Verdict.CONFIRMED, "the peer already has this instance"),
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


def judge(status: int) -> tuple[Verdict, str]:
    """Return what a status means; an unknown one is tried again."""
    if status in _BY_STATUS:
        verdict, words = _BY_STATUS[status]
    else:
        verdict, words = next(
            ((v, w) for codes, v, w in _BY_CLASS if status in codes), (Verdict.RETRY, "an unknown status")
        )
    return verdict, f"{words} (status {status:04X})"
