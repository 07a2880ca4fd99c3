"""What the listener counts: associations and instances, by what became of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Tally:
    """Counters of one listener, in a registry of their own.

    Attributes
    ----------
    registry
        For `uair_node.signals.server.SignalServer`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._associations = Counter(
            "uair_associations", "Associations that were asked for.", ["outcome"], registry=self.registry
        )
        self._instances = Counter(
            "uair_instances", "C-STORE requests, by status.", ["verb", "status"], registry=self.registry
        )

    def association(self, outcome: str) -> None:
        """Count an association: ``accepted``, or why it was rejected."""
        self._associations.labels(outcome).inc()

    def instance(self, verb: str, status: int) -> None:
        """Count an answered C-STORE."""
        self._instances.labels(verb, f"{status:04X}").inc()
