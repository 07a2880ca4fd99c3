"""Recently refused peers, with the meaning and the remedy of each reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.cases.clock import database_now
from uair_node.cases.installation_tables import RefusedPeer
from uair_node.network.listener_metrics import RefusalReason


@dataclass(frozen=True)
class Explanation:
    """The meaning of the reason for a refusal, and a remedy."""

    sentence: str
    remedy: str

    def of(self, peer: RefusedPeer) -> str:
        """Return the text of the meaning for a refused peer."""
        return f"{self.sentence.rstrip('.')}: {peer.why}." if peer.why else self.sentence


_REASON = RefusalReason
EXPLANATIONS: Mapping[str, Explanation] = {
    _REASON.CALLED_AE_NOT_RECOGNISED: Explanation(
        "The peer calls an AE title that is not ours.",
        "Correct the AE title at the peer, or node.ae_titles here.",
    ),
    _REASON.CALLING_AE_NOT_RECOGNISED: Explanation(
        "No allow rule admits the peer's AE title, address or certificate for this verb.",
        "Correct node.allow if this peer should be admitted.",
    ),
    _REASON.ADDRESS_NOT_ADMITTED: Explanation(
        "No allow rule names the peer's address.",
        "Add this address to node.allow if the peer should be admitted.",
    ),
    _REASON.TLS_FAILED: Explanation(
        "TLS fails.",
        "If the sender uses no TLS, configure it to use TLS. If the sender sends no certificate, configure "
        "it to send one. Renew an expired certificate. If this node does not know the sender's CA, add that "
        "CA to the file of node.tls.ca. If the sender does not know this node's CA, add that CA to the CAs "
        "that the sender trusts.",
    ),
    _REASON.TOO_MANY_CONNECTIONS: Explanation(
        "400 connections are open, and the node accepts no more.", "Find out which program opens them."
    ),
    _REASON.TOO_MANY_OF_AN_ADDRESS: Explanation(
        "The peer has 100 open connections, and the node refuses more.",
        "Configure the peer to close its associations.",
    ),
    _REASON.APPLICATION_CONTEXT_NOT_SUPPORTED: Explanation(
        "The peer asks for an application context that is not DICOM's.",
        "Find out which program connects. This program does not use DICOM's application context.",
    ),
    _REASON.LOCAL_LIMIT_EXCEEDED: Explanation(
        "node.max_associations associations are open, and none ended while the peer waited.",
        "Raise node.max_associations, or let senders use fewer associations.",
    ),
}
_UNKNOWN = Explanation("The peer was refused.", "The node's log says why.")


def explain(outcome: str) -> Explanation:
    """Return the meaning of a reason. If this version does not know the reason, the text is general."""
    return EXPLANATIONS.get(outcome, _UNKNOWN)


def newest_refused(session: Session, *, limit: int, within: timedelta | None = None) -> Sequence[RefusedPeer]:
    """Return at most `limit` refused peers, the newest first.

    The last refusal of each peer is not older than `within`. None for `within` means any time.
    """
    query = select(RefusedPeer).order_by(RefusedPeer.last_at.desc(), RefusedPeer.id.desc()).limit(limit)
    if within is not None:
        query = query.where(RefusedPeer.last_at > database_now(session) - within)
    return session.scalars(query).all()


def describe_refusals(peer: RefusedPeer, now: datetime) -> str:
    """Return a text with the refused peer, the reason, the number of refusals and the last time."""
    who = f"{peer.calling_ae or 'a sender'} at {peer.address}"
    whom = f", which calls {peer.called_ae}," if peer.called_ae else ""
    times = "once" if peer.count == 1 else f"{peer.count} times"
    minutes = max(0, round((now - peer.last_at).total_seconds() / 60))
    last = f"{minutes // 60} h ago" if minutes >= 60 else f"{minutes} min ago" if minutes else "just now"
    times += f", {last}" if peer.count == 1 else f", last {last}"
    return f"{who}{whom} was refused {times}. {explain(peer.outcome).of(peer)}"
