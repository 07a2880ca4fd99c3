"""How a delivery's row changes with what a peer said; shared by all ways out."""

from __future__ import annotations

from dicom_config.model import DeliverySection
from uair_node.cases.clock import present
from uair_node.cases.tables import Delivery, DeliveryState
from uair_node.network.statuses import Verdict

_STATE_AFTER = {
    Verdict.CONFIRMED: DeliveryState.CONFIRMED,
    Verdict.RETRY: DeliveryState.PENDING,
    Verdict.PARK: DeliveryState.PARKED,
    Verdict.DUPLICATE: DeliveryState.PARKED,
}


def apply_verdict(row: Delivery, verdict: Verdict, reason: str) -> None:
    """Write what became of a delivery."""
    row.state, row.reason = _STATE_AFTER[verdict], reason
    if verdict == Verdict.CONFIRMED:
        row.confirmed_at = present()
    if verdict == Verdict.DUPLICATE:
        row.sent_at = None  # the peer kept nothing of it


def mark_sent(row: Delivery) -> bool:
    """Note that a delivery's object is about to be sent; return whether it was sent before."""
    sent_before = row.sent_at is not None
    row.sent_at = row.sent_at or present()
    return sent_before


def count_attempt(row: Delivery, section: DeliverySection) -> None:
    """Count one more answer; too many refusals for now are one for good."""
    row.attempts += 1
    if row.state == DeliveryState.PENDING and row.attempts >= section.max_attempts:
        row.state = DeliveryState.PARKED
