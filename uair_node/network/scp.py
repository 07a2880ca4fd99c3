"""The DICOM listener: it admits associations, receives instances by C-STORE, and answers them.

This module has the association policy (PS3.8 7.1.1). Statuses are in `store_status`, presentation contexts in
`presentation`, allow rules in `peer`. The caller's handler processes each instance.

This module does not decode instances. The handler gets the received bytes. Each association has its own
thread, and the handler runs in this thread. So the handler must be thread-safe.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_config.errors import ConfigError, InputError, ResourceError
from dicom_config.model import NodeSection, Verb
from uair_node.dicom.structure import MOST_INFLATED_BYTES, inflated_size
from uair_node.network.commitment_scu import Report, ReportHandler, answer_report
from uair_node.network.listener_metrics import ListenerMetrics, Refusal, RefusalReason
from uair_node.network.peer import Peer, association_name, nearest_miss
from uair_node.network.presentation import reporting_context, serve_as_storage, supported_contexts
from uair_node.network.receive_budget import IncomingDataSet
from uair_node.network.store_status import StoreStatus, refusal, response_of
from uair_node.network.transport import Server, guarded, request_time_s

log = logging.getLogger(__name__)

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The only DICOM application context name (PS3.7 A.2.1)."""

_NO_LIMIT = 1 << 30
"""Value for pynetdicom's own limit of associations, which also counts waiting associations.

Our limit is in `_Places`.
"""

_TIMES_IN_MEMORY = 2
"""Copies of an inflated data set in memory while it is stored: the data set, and the read values."""

_STOP_GRACE_S = 5.0
"""Seconds for which `DicomListener.stop` waits until associations end by themselves."""


class Rejection(Enum):
    """Values of A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
    CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
    CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True)
class ReceivedInstance:
    """An instance that was received by C-STORE.

    Attributes
    ----------
    verb
        The verb of the AE title that the sender called.
    calling_ae, address, certificate
        The sender: AE title, IP address, and typed names in its certificate. The names are empty without TLS.
    sop_class_uid, sop_instance_uid
        The UIDs in the C-STORE request. The UIDs in the data set may differ.
    transfer_syntax_uid
        The transfer syntax of the presentation context, and so of `data`.
    data
        A complete DICOM file (PS3.10): preamble, file meta information, and the data set with unchanged
        bytes.
    association
        The name of the association. Instances of different associations have different names.
    """

    verb: Verb
    calling_ae: str
    address: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes = field(repr=False)
    certificate: frozenset[str] = frozenset()
    association: str = ""


Handler = Callable[[ReceivedInstance], StoreStatus | None]
"""A function that keeps an instance. It returns None after the bytes are durable.

The listener then answers C-STORE with 0000. If the function returns a status, then the response has this
status. If the function raises an error, then `store_status` has the status of the response.
"""


EndHandler = Callable[[str, bool], None]
"""A function that is called at the end of an association.

Its arguments are `ReceivedInstance.association`, and true if the association ended without a release.
"""


def _tell_nobody(_association: str, _aborted: bool) -> None:
    """Do nothing at the end of an association."""


def _asked_nobody(_calling_ae: str, _report: Report) -> None:
    """Ignore reports of storage commitment that were not requested."""


class DicomListener:
    """Storage and Verification SCP, with an AE title for each verb.

    The listener rejects an association with reason 7 if the called AE title is not ours. The reason is 3 if
    no allow rule admits the calling AE title, address and certificate for the verb. If there are too many
    associations for too long, then the rejection is transient. With `NodeSection.tls`, the listener closes a
    connection without TLS before an association.

    Parameters
    ----------
    settings
        The address, AE titles, allow rules and limits.
    handler
        The function for each instance. It runs in the association's thread.
    report_handler
        The function for each report of storage commitment about our objects.
    metrics
        The counters for associations and instances. By default, the listener makes new counters.
    end_handler
        The function for the end of each association.
    """

    def __init__(
        self,
        settings: NodeSection,
        handler: Handler,
        report_handler: ReportHandler = _asked_nobody,
        metrics: ListenerMetrics | None = None,
        end_handler: EndHandler = _tell_nobody,
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._report_handler = report_handler
        self._end_handler = end_handler
        self._metrics = metrics or ListenerMetrics()
        self._verbs = settings.ae_titles.by_title()
        self._places = _Places(settings.max_associations, settings.wait_s)
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The TCP port. If 0 is configured, then the system chooses the port at the start."""
        if self._server is None:
            return self._settings.port
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Open the port.

        Raises
        ------
        ConfigError
            ``port-unavailable``: another program uses the port, or this machine does not have the address.
            ``tls-files``: see `uair_node.network.tls.server_context`.
        """
        # pynetdicom's log lines contain full UIDs. Our log lines have the same information without UIDs.
        logging.getLogger("pynetdicom").setLevel(logging.ERROR)
        entity = AE(ae_title=self._settings.ae_titles.store)
        entity.maximum_associations = _NO_LIMIT
        entity.maximum_pdu_size = self._settings.max_pdu_bytes
        entity.network_timeout = self._settings.idle_timeout_s
        # If a connection ends before an association request, then its thread stays for this time.
        entity.acse_timeout = request_time_s(self._settings)
        entity.dimse_timeout = self._settings.idle_timeout_s
        try:
            self._server = entity.make_server(
                (self._settings.host, self._settings.port),
                server_class=Server,
                settings=self._settings,
                refused=self._metrics.refused,
                # Each association gets its own contexts later. If that fails, it cannot store instances.
                contexts=[build_context(Verification)],
                evt_handlers=[
                    (evt.EVT_REQUESTED, self._on_requested),
                    (evt.EVT_ACCEPTED, self._on_accepted),
                    (evt.EVT_C_STORE, self._on_store),
                    (evt.EVT_RELEASED, self._on_ended),
                    (evt.EVT_ABORTED, self._on_ended),
                    (evt.EVT_N_EVENT_REPORT, self._on_report),
                ],
            )
        except OSError as error:
            raise ConfigError(
                "port-unavailable",
                f"The node cannot listen at {self._settings.host}:{self._settings.port} ({error.strerror}).",
                "Set node.host and node.port to a free port of this machine.",
            ) from error
        entity._servers.append(self._server)  # `Server.shutdown` removes it
        threading.Thread(target=self._server.serve_forever, name="listener", daemon=True).start()

    def stop(self) -> None:
        """Close the port, wait a few seconds until associations end, and abort the remaining associations.

        It may be called twice.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        deadline = time.monotonic() + _STOP_GRACE_S
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in server.active_associations:
            association.abort()

    def _on_requested(self, event: Event) -> None:
        peer = Peer.of(event.assoc)
        verb = self._verbs.get(peer.called_ae)
        if str(event.assoc.requestor.primitive.application_context_name) != _APPLICATION_CONTEXT:
            self._reject(event.assoc, peer, Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED)
        elif verb is None:
            self._reject(event.assoc, peer, Rejection.CALLED_AE_NOT_RECOGNISED)
        elif miss := nearest_miss(self._settings.allow, verb, peer):
            self._reject(event.assoc, peer, Rejection.CALLING_AE_NOT_RECOGNISED, miss)
        elif not self._find_place(event.assoc):
            self._reject(event.assoc, peer, Rejection.LOCAL_LIMIT_EXCEEDED)
        else:
            guarded(event.assoc).admitted()
            event.assoc.acceptor.supported_contexts = supported_contexts(
                event.assoc.requestor.requested_contexts
            )
            role = event.assoc.requestor.role_selection.get(StorageCommitmentPushModel)
            if role is not None and role.scp_role:
                event.assoc.acceptor.supported_contexts += [reporting_context()]

    def _reject(self, association: Association, peer: Peer, rejection: Rejection, why: str = "") -> None:
        if not peer.is_check:
            self._note(peer, rejection, why)
        association.acse.send_reject(*rejection.value)
        association.kill()  # waits until the rejection is sent

    def _note(self, peer: Peer, rejection: Rejection, why: str) -> None:
        reason = RefusalReason(rejection.name.lower())
        self._metrics.refused(Refusal.of(reason, peer.address, peer.calling_ae, peer.called_ae, why))
        words = f"{reason}, {why}" if why else reason
        log.warning("association rejected: %s, %s", peer, words)

    def _find_place(self, association: Association) -> bool:
        guarded(association).waits()
        return self._places.take(association)

    def _on_accepted(self, event: Event) -> None:
        self._metrics.accepted()
        serve_as_storage(event.assoc)
        refused = len(event.assoc.rejected_contexts)
        more = f", {refused} presentation contexts refused" if refused else ""
        log.info("association accepted: %s%s", Peer.of(event.assoc), more)

    def _on_store(self, event: Event) -> Dataset:
        guarded(event.assoc).instance_ended()
        try:
            status = self._handler(self._received(event))
            answer = response_of(StoreStatus.SUCCESS if status is None else status)
        except Exception as error:
            answer = refusal(event, error)
        verb = self._verbs[Peer.of(event.assoc).called_ae]
        self._metrics.instance(verb, answer.Status)
        return answer

    def _on_ended(self, event: Event) -> None:
        self._end_handler(association_name(event.assoc), event.event == evt.EVT_ABORTED)

    def _on_report(self, event: Event) -> tuple[int, None]:
        return answer_report(event, Peer.of(event.assoc).calling_ae, self._report_handler)

    def _received(self, event: Event) -> ReceivedInstance:
        incoming: IncomingDataSet = event.request.DataSet
        limit = self._settings.max_instance_bytes
        inflated = 0 if incoming.dropped else _inflated_size(event, limit)
        if incoming.dropped or not incoming.take_more(_TIMES_IN_MEMORY * inflated):
            raise ResourceError(
                "receive-budget",
                "The instances that are being received at this moment fill node.in_flight_bytes.",
                "Send the instance again; raise node.in_flight_bytes if it happens often.",
            )
        if max(incoming.getbuffer().nbytes, inflated) > limit:
            raise InputError(
                "instance-too-large",
                f"The instance has more than {limit} bytes.",
                "Raise node.max_instance_bytes if instances of this size are wanted.",
            )
        peer = Peer.of(event.assoc)
        return ReceivedInstance(
            verb=self._verbs[peer.called_ae],
            calling_ae=peer.calling_ae,
            address=peer.address,
            certificate=peer.certificate,
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            data=event.encoded_dataset(),
            association=association_name(event.assoc),
        )


def _inflated_size(event: Event, limit: int) -> int:
    """Return the size in bytes of a deflated data set (PS3.5 A.5) after inflation.

    The result is 0 if the data set cannot be inflated.
    """
    data = event.request.DataSet.getbuffer()
    if data.nbytes > limit or event.context.transfer_syntax != DeflatedExplicitVRLittleEndian:
        return 0
    try:
        return inflated_size(data, min(limit, MOST_INFLATED_BYTES))
    except zlib.error:
        return 0  # the handler reports the damage


class _Places:
    """The limit of associations that are served at the same time.

    Further associations wait for a place, up to `wait_s` seconds.
    """

    def __init__(self, places: int, wait_s: float) -> None:
        self._places = places
        self._wait_s = wait_s
        self._served: set[Association] = set()
        self._lock = threading.Lock()

    def take(self, association: Association) -> bool:
        """Wait for a place. The association keeps the place until its thread ends.

        Return False if no place became free in time.
        """
        deadline = time.monotonic() + self._wait_s
        while not self._take(association):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _take(self, association: Association) -> bool:
        with self._lock:
            self._served = {association for association in self._served if association.is_alive()}
            if len(self._served) >= self._places:
                return False
            self._served.add(association)
            return True
