"""What the listener counts: associations and instances, by what became of them."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

ACCEPTED = "accepted"


class Tally:
    """Counters of one listener, in a registry of their own.

    Attributes
    ----------
    registry
        For `uair_node.operations.signals.server.SignalServer`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._associations = Counter(
            "uair_associations", "Associations that were asked for.", ["outcome"], registry=self.registry
        )
        self._refusals: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._instances = Counter(
            "uair_instances", "C-STORE requests, by status.", ["verb", "status"], registry=self.registry
        )

    def association(self, outcome: str) -> None:
        """Count an association: `ACCEPTED`, or why it, or its connection, was refused."""
        self._associations.labels(outcome).inc()
        if outcome != ACCEPTED:
            with self._lock:
                self._refusals[outcome] += 1

    def take_refusals(self) -> Mapping[str, int]:
        """Return how many associations were rejected since the last call, by reason."""
        with self._lock:
            taken, self._refusals = self._refusals, collections.Counter()
        return taken

    def give_back(self, counts: Mapping[str, int]) -> None:
        """Count again what `take_refusals` returned and nobody kept."""
        with self._lock:
            self._refusals.update(counts)

    def instance(self, verb: str, status: int) -> None:
        """Count an answered C-STORE."""
        self._instances.labels(verb, f"{status:04X}").inc()
