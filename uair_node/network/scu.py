"""Send objects by C-STORE as SCU, over an association for each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import Verification

from dicom_config.contexts import SENT_TRANSFER_SYNTAXES
from dicom_config.errors import TransientError
from dicom_config.model import Destination
from uair_node.network.outgoing import (
    Announce,
    OutgoingInstance,
    SendResult,
    first_time,
    read_instance,
    result_of,
)
from uair_node.network.responses import KEEP_RESPONSES
from uair_node.network.statuses import DeliveryVerdict, judge
from uair_node.network.tls import client_context


def send(
    destination: Destination, instances: Sequence[OutgoingInstance], announce: Announce = first_time
) -> Iterator[SendResult]:
    """Send objects over a single association. Call `announce` before each object. Yield each result at once.

    Raises
    ------
    TransientError
        ``peer-unreachable``, ``peer-tls``, ``peer-rejects``, ``peer-aborted``. An object without an answer
        may have arrived.
    ConfigError
        ``tls-files``, ``crl-expired``, ``crl-unreadable``, see `uair_node.network.tls.client_context`.
    """
    association = associate(destination, sorted({instance.sop_class_uid for instance in instances}))
    try:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        for instance in instances:
            if instance.sop_class_uid in accepted:
                yield _store(association, destination, instance, announce)
            else:
                reason = "the peer accepts no presentation context for this SOP class"
                yield SendResult(instance.key, DeliveryVerdict.PARK, reason)
    finally:
        if association.is_established:
            association.release()


def echo(destination: Destination) -> None:
    """Verify a destination with C-ECHO (PS3.4 A).

    Raises
    ------
    TransientError, ConfigError
        The errors of `send`.
    """
    refused_classes(destination, ())


def refused_classes(destination: Destination, sop_classes: Sequence[str]) -> list[str]:
    """Verify a destination with C-ECHO. Return the names of the SOP classes that the peer refuses.

    Raises
    ------
    TransientError, ConfigError
        The errors of `send`.
    """
    association = associate(destination, sop_classes)
    try:
        if "Status" not in association.send_c_echo():
            raise aborted(destination)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
    finally:
        if association.is_established:
            association.release()
    return [UID(sop_class).name for sop_class in sop_classes if sop_class not in accepted]


def associate(
    destination: Destination,
    sop_classes: Sequence[str],
    handlers: Sequence[tuple[Any, ...]] = (),
    retrieved: Sequence[str] = (),
) -> Association:
    """Open an association for some SOP classes and Verification, with event handlers of pynetdicom.

    We have the role SCP for the `retrieved` SOP classes, which is needed for C-GET (PS3.7 D.3.3.4).

    Raises
    ------
    TransientError, ConfigError
        The errors of `send`.
    """
    entity = AE(destination.calling_ae)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = destination.timeout_s
    entity.network_timeout = destination.timeout_s
    # Every SCP supports Verification. So the association is accepted even if the peer refuses all other
    # classes. In this way, we can distinguish a refused SOP class from an unreachable peer.
    for sop_class in {*sop_classes, Verification}:
        entity.add_requested_context(sop_class, list(SENT_TRANSFER_SYNTAXES))
    for sop_class in retrieved:
        entity.add_requested_context(sop_class, list(SENT_TRANSFER_SYNTAXES))
    tls = destination.tls
    context = client_context(tls) if tls else None
    answers: list[Any] = []
    association = entity.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in retrieved],
        tls_args=(context, tls.server_name or destination.host) if context and tls else None,
        evt_handlers=[
            KEEP_RESPONSES,
            (evt.EVT_CONN_OPEN, _limit_reads, [destination.timeout_s]),
            (evt.EVT_PDU_RECV, _keep_first, [answers]),
            *handlers,
        ],
    )
    if association.is_established:
        return association
    if context is not None and context.failure:
        raise TransientError(
            "peer-tls",
            f"TLS with {destination.name} fails: {context.failure}.",
            "Check certificates, CA and server_name under `tls` of the destination. Check which certificates "
            "the peer trusts.",
        )
    # The association's own state is not reliable here. If the peer rejects the association and closes the
    # connection at once, then pynetdicom's thread reports an abort.
    if answers and isinstance(answers[0], A_ASSOCIATE_RJ):
        raise TransientError(
            "peer-rejects",
            f"{destination.name} rejects our association ({answers[0].reason_str.lower()}).",
            f"Register our AE title {destination.calling_ae} at the peer, and check the AE title "
            f"{destination.ae_title} of the destination.",
        )
    if answers:
        raise aborted(destination)
    raise TransientError(
        "peer-unreachable",
        f"{destination.name} does not answer at {destination.host}:{destination.port}.",
        "Check that the peer runs. Check the port, and the network between node and peer.",
    )


def _keep_first(event: Event, answers: list[Any]) -> None:
    """Append the first PDU of the peer to `answers`: its answer to the A-ASSOCIATE-RQ (PS3.8 9.3)."""
    if not answers:
        answers.append(event.pdu)


def _limit_reads(event: Event, timeout_s: float) -> None:
    """Limit the time of each read. Without a limit, a peer that stops within a PDU would block us."""
    event.assoc.dul.socket.socket.settimeout(timeout_s)


def _store(
    association: Association, destination: Destination, instance: OutgoingInstance, announce: Announce
) -> SendResult:
    if not association.is_established:
        raise aborted(destination)
    dataset = read_instance(instance)
    if isinstance(dataset, SendResult):
        return dataset
    sent_before = announce(instance)
    response = association.send_c_store(dataset)
    if "Status" not in response:
        raise aborted(destination)
    return result_of(instance, *judge(response.Status), sent_before=sent_before)


def aborted(destination: Destination) -> TransientError:
    """Return the error of an association that ended too early, or whose peer did not answer in time."""
    return TransientError(
        "peer-aborted",
        f"{destination.name} broke the association off or did not answer in time.",
        "Nothing is lost: the node tries again. If this happens often, see the peer's log.",
    )
