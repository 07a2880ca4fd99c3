"""A Storage SCP that answers as a test tells it: statuses in turn, an abort at instance k, silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pynetdicom import AE, evt
from pynetdicom.events import Event

from dicom_config.model import Destination

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ABORT = -1


@dataclass
class ScriptedPeer:
    """What the peer heard; `answers` are used in turn, the last one for all that follows."""

    answers: Sequence[int]
    port: int = 0
    received: list[str] = field(default_factory=list)
    associations: int = 0

    def destination(self, timeout_s: float = 5.0) -> Destination:
        """The peer as a configured destination."""
        return Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port, timeout_s=timeout_s
        )

    def _store(self, event: Event) -> int:
        answer = self.answers[min(len(self.received), len(self.answers) - 1)]
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        if answer == ABORT:
            event.assoc.abort()
            return 0x0110
        return answer

    def _accepted(self, _event: Event) -> None:
        self.associations += 1


@contextmanager
def scripted_peer(
    answers: Sequence[int], sop_classes: Sequence[str] = (SEGMENTATION,)
) -> Iterator[ScriptedPeer]:
    """Run a scripted peer on a free port."""
    peer = ScriptedPeer(answers)
    entity = AE("PACS")
    for sop_class in (*sop_classes, "1.2.840.10008.1.1"):
        entity.add_supported_context(sop_class)
    handlers = [(evt.EVT_C_STORE, peer._store), (evt.EVT_ACCEPTED, peer._accepted)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()
