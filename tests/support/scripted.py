"""A Storage SCP whose answers a test sets: statuses in turn, an abort at instance k, silence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_config.model import Destination

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ABORT = -1
HANG = -2


@dataclass
class ScriptedPeer:
    """A peer that records its requests. It uses `answers` in turn, and then repeats the last answer.

    `commitments` are the answers to requests for storage commitment. A status other than 0 refuses the
    request. The status 0 accepts it, and then `report` sends the result.
    """

    answers: Sequence[int]
    commitments: Sequence[int] = (0x0000,)
    port: int = 0
    received: list[str] = field(default_factory=list)
    associations: int = 0
    requests: list[Dataset] = field(default_factory=list)
    report_at_once: dict[str, int] | None = None
    report_statuses: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def destination(self, timeout_s: float = 5.0, **more: object) -> Destination:
        """The peer as a configured destination."""
        values = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}
        return Destination(**values, timeout_s=timeout_s, **more)

    def report(self, request: Dataset, failed: dict[str, int], port: int, called: str = "UAIR") -> int:
        """Report on a request over a separate association; return the N-EVENT-REPORT's status.

        `failed` has the Failure Reason of each uncommitted object, by SOP Instance UID.
        """
        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", port, ae_title=called, ext_neg=[role])
        assert association.is_established
        try:
            return _report(association, request, failed)
        finally:
            association.release()

    def _store(self, event: Event) -> int:
        answer = self.answers[min(len(self.received), len(self.answers) - 1)]
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        if answer == ABORT:
            event.assoc.abort()
            return 0x0110
        if answer == HANG:
            self.over.wait(60)
            return 0x0110
        return answer

    def _action(self, event: Event) -> tuple[int, None]:
        status = self.commitments[min(len(self.requests), len(self.commitments) - 1)]
        request = event.action_information
        self.requests.append(request)
        if self.report_at_once is not None:
            threading.Timer(0.1, self._report_here, (event.assoc, request, self.report_at_once)).start()
        return status, None

    def _report_here(self, association: Association, request: Dataset, failed: dict[str, int]) -> None:
        self.report_statuses.append(_report(association, request, failed))

    def _accepted(self, _event: Event) -> None:
        self.associations += 1


def _report(association: Association, request: Dataset, failed: dict[str, int]) -> int:
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
    for item in request.ReferencedSOPSequence:
        reason = failed.get(item.ReferencedSOPInstanceUID)
        if reason is None:
            report.ReferencedSOPSequence.append(item)
        else:
            item.FailureReason = reason
            report.FailedSOPSequence.append(item)
    status, _ = association.send_n_event_report(
        report, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


@contextmanager
def scripted_peer(
    answers: Sequence[int],
    sop_classes: Sequence[str] = (SEGMENTATION,),
    commitments: Sequence[int] | None = None,
) -> Iterator[ScriptedPeer]:
    """Run a scripted peer on a free port. It offers storage commitment if `commitments` has answers."""
    peer = ScriptedPeer(answers, commitments or ())
    entity = AE("PACS")
    entity.acse_timeout = 5
    for sop_class in (*sop_classes, "1.2.840.10008.1.1"):
        entity.add_supported_context(sop_class)
    if commitments:
        entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_C_STORE, peer._store),
        (evt.EVT_N_ACTION, peer._action),
        (evt.EVT_ACCEPTED, peer._accepted),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        peer.over.set()
        server.shutdown()


@contextmanager
def answering(pdu: bytes) -> Iterator[int]:
    """Answer each association request with these bytes and close the connection. Yield the port to call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer, args=(server, pdu), daemon=True).start()
        yield server.getsockname()[1]


def _answer(server: socket.socket, pdu: bytes) -> None:
    with suppress(OSError):
        while True:
            with server.accept()[0] as client:
                client.recv(1 << 16)
                client.sendall(pdu)


@dataclass
class Stalling:
    """The port to call, and the number of connections that it has accepted."""

    port: int
    connections: int = 0


@contextmanager
def stalling(port: int, after_bytes: int) -> Iterator[Stalling]:
    """Run a proxy of a peer that holds the peer's answers back after `after_bytes` bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Stalling(server.getsockname()[1])
        threading.Thread(target=_stall, args=(server, made, port, after_bytes), daemon=True).start()
        yield made


def _stall(server: socket.socket, made: Stalling, port: int, after_bytes: int) -> None:
    with suppress(OSError):
        while True:
            client = server.accept()[0]
            made.connections += 1
            peer = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pass_on, args=(client, peer, 1 << 62), daemon=True).start()
            threading.Thread(target=_pass_on, args=(peer, client, after_bytes), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, budget: int) -> None:
    with suppress(OSError):
        while data := source.recv(4096):
            sink.sendall(data[:budget])
            budget -= min(budget, len(data))
        sink.close()
