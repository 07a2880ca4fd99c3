"""Counters of the listener: associations by outcome, instances by verb and status, and refused peers."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter

ACCEPTED = "accepted"

_MOST_PEERS = 100
"""The most refused peers that are counted separately between two sweeps.

With this limit, a port scan cannot fill the memory.
"""
_LONGEST_WHY = 120
_LONGEST_TITLE = 16


class RefusalReason(StrEnum):
    """The reason of a refused connection or association, as in the metric ``uair_associations``."""

    ADDRESS_NOT_ADMITTED = "address_not_admitted"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_OF_AN_ADDRESS = "too_many_of_an_address"
    TLS_FAILED = "tls_failed"
    APPLICATION_CONTEXT_NOT_SUPPORTED = "application_context_not_supported"
    CALLING_AE_NOT_RECOGNISED = "calling_ae_not_recognised"
    CALLED_AE_NOT_RECOGNISED = "called_ae_not_recognised"
    LOCAL_LIMIT_EXCEEDED = "local_limit_exceeded"


@dataclass(frozen=True, order=True)
class Refusal:
    """A refused peer.

    Attributes
    ----------
    address
        The peer's IP address; empty if there are too many refused peers to count them separately.
    calling_ae, called_ae
        The AE titles; empty if the connection was closed before an association request came.
    why
        A sentence with details.
    """

    reason: RefusalReason
    address: str = ""
    calling_ae: str = ""
    called_ae: str = ""
    why: str = ""

    @classmethod
    def of(
        cls, reason: RefusalReason, address: str, calling_ae: str = "", called_ae: str = "", why: str = ""
    ) -> Refusal:
        """Return the refusal of a peer. The AE titles come from the peer and may contain any characters."""
        calling, called = (_printable(title)[:_LONGEST_TITLE] for title in (calling_ae, called_ae))
        return cls(reason, address, calling, called, _printable(why)[:_LONGEST_WHY])


class ListenerMetrics:
    """The counters of a listener, in a separate registry.

    Attributes
    ----------
    registry
        The registry for `uair_node.operations.monitoring.server.MonitoringServer`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._associations = Counter(
            "uair_associations", "Requested associations.", ["outcome"], registry=self.registry
        )
        for outcome in (ACCEPTED, *RefusalReason):
            self._associations.labels(outcome)  # begins at 0, because an alert also needs the first increment
        self._refusals: collections.Counter[Refusal] = collections.Counter()
        self._lock = threading.Lock()
        self._instances = Counter(
            "uair_instances", "C-STORE requests, by status.", ["verb", "status"], registry=self.registry
        )

    def accepted(self) -> None:
        """Count an accepted association."""
        self._associations.labels(ACCEPTED).inc()

    def refused(self, refusal: Refusal) -> None:
        """Count a refused connection or association."""
        self._associations.labels(refusal.reason).inc()
        self._add({refusal: 1})

    def take_refusals(self) -> Mapping[Refusal, int]:
        """Return the number of refusals of each peer since the last call, and reset the counts."""
        with self._lock:
            taken, self._refusals = self._refusals, collections.Counter()
        return taken

    def give_back(self, counts: Mapping[Refusal, int]) -> None:
        """Add counts of `take_refusals` again, after they could not be recorded."""
        self._add(counts)

    def instance(self, verb: str, status: int) -> None:
        """Count an answered C-STORE."""
        self._instances.labels(verb, f"{status:04X}").inc()

    def _add(self, counts: Mapping[Refusal, int]) -> None:
        with self._lock:
            for refusal, count in counts.items():
                known = refusal in self._refusals or len(self._refusals) < _MOST_PEERS
                self._refusals[refusal if known else Refusal(refusal.reason)] += count


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
