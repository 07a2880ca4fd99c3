"""What is sent and what comes of it, whatever the way out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uair_node.delivery.statuses import Verdict


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
