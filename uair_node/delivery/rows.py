"""Change a delivery's row according to the peer's response. All kinds of destination use this module."""

from __future__ import annotations

from dicom_config.model import DeliverySection
from uair_node.cases.clock import present
from uair_node.cases.tables import Delivery, DeliveryState
from uair_node.network.statuses import DeliveryVerdict

_STATE_AFTER = {
    DeliveryVerdict.CONFIRMED: DeliveryState.CONFIRMED,
    DeliveryVerdict.RETRY: DeliveryState.PENDING,
    DeliveryVerdict.PARK: DeliveryState.PARKED,
    DeliveryVerdict.DUPLICATE: DeliveryState.PARKED,
}


def apply_verdict(row: Delivery, verdict: DeliveryVerdict, reason: str) -> None:
    """Record a verdict and its reason in a delivery's row."""
    row.state, row.reason = _STATE_AFTER[verdict], reason
    if verdict == DeliveryVerdict.CONFIRMED:
        row.confirmed_at = present()
    if verdict == DeliveryVerdict.DUPLICATE:
        row.sent_at = None  # the peer did not keep our object


def mark_sent(row: Delivery) -> bool:
    """Record that a delivery's object is about to be sent. Return whether it was sent before."""
    sent_before = row.sent_at is not None
    row.sent_at = row.sent_at or present()
    return sent_before


def count_attempt(row: Delivery, section: DeliverySection) -> None:
    """Count an attempt. After `max_attempts` temporary refusals, park the delivery."""
    row.attempts += 1
    if row.state == DeliveryState.PENDING and row.attempts >= section.max_attempts:
        row.state = DeliveryState.PARKED
