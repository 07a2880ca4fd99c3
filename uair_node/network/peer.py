"""The peer of an association, and the allow rule that admits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pynetdicom.association import Association

from dicom_config.model import AllowRule, Verb
from uair_node.network.tls import certificate_names
from uair_node.network.transport import guarded, is_from_here, plain_address

CHECK_TITLE = "UAIR_CHECK"
"""The calling AE title of `uair check` when it tests the node's own port."""

_NEAREST_MISS = {
    "verbs": "no allow rule for the called AE title",
    "calling_ae": "no allow rule for the calling AE title",
    "networks": "no allow rule for its network",
    "certificates": "no allow rule for its certificate",
}
"""The reason of a refusal, by the first field that does not match in the nearest allow rule."""


def association_name(association: Association) -> str:
    """Return the name of an association, as in `ReceivedInstance.association`."""
    return f"{association.name}:{association.requestor.port}"


@dataclass(frozen=True)
class Peer:
    """The peer of an association, the called AE title, and the names in the peer's certificate.

    `local` is true if the peer is on this machine.
    """

    calling_ae: str
    called_ae: str
    address: str
    certificate: frozenset[str]
    local: bool = False

    @classmethod
    def of(cls, association: Association) -> Peer:
        """Return the requestor of an association."""
        request = association.requestor.primitive
        address = plain_address(association.requestor.address)
        connection = guarded(association).socket
        return cls(
            request.calling_ae_title.strip(),
            request.called_ae_title.strip(),
            str(address),
            certificate_names(connection),
            is_from_here(connection, association.requestor.address),
        )

    @property
    def is_check(self) -> bool:
        """Whether the peer is `uair check` on this machine. It only tests whether a node answers."""
        return self.calling_ae == CHECK_TITLE and self.local

    def __str__(self) -> str:
        # `repr` prevents a hostile title from forging a log line.
        return f"{self.calling_ae!r} at {self.address} to {self.called_ae!r}"


def nearest_miss(rules: Sequence[AllowRule], verb: Verb, peer: Peer) -> str | None:
    """Return the reason why no rule admits the peer; None if a rule admits it."""
    misses = {rule.mismatch(verb, peer.calling_ae, peer.address, peer.certificate) for rule in rules}
    if None in misses:
        return None
    return next((words for field, words in reversed(_NEAREST_MISS.items()) if field in misses), "no rules")
