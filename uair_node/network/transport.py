"""Incoming connections: TLS, and limits against peers that are slow, silent or send without end.

A handshake runs in the connection's own thread. Every read has a time limit. Every PDU and every instance has
a limit in bytes. This module does not use AE titles and does not interpret PDUs.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_config.model import NodeSection
from uair_node.network.listener_metrics import Refusal, RefusalReason
from uair_node.network.receive_budget import ReceiveBudget
from uair_node.network.repeated_warnings import RepeatedWarnings
from uair_node.network.tls import ListenerTls, hung_up, require_tls, why_sender_failed
from uair_node.network.wakeups import Wake, wait_instead_of_polling

log = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_PDU = 1 << 20
"""The largest PDU in bytes, and the maximum of `NodeSection.max_pdu_bytes`.

An A-ASSOCIATE-RQ is much shorter.
"""

_MOST_CONNECTIONS = 400
"""The most open connections, also waiting connections. `select` cannot watch file descriptors above 1023."""


_MOST_OF_AN_ADDRESS = 100
"""The most open connections from a single address, so that a peer cannot use all connections."""

_REQUEST_S = 10.0
"""The longest time in seconds for a peer's TLS handshake, and then for its association request."""


class GuardedSocket(AssociationSocket):
    """An association's socket with limits in time and in bytes for the peer.

    If the peer is silent too long, or sends too many bytes, then a read fails as if the connection were lost.
    """

    def __init__(self, association: Association, connection: socket.socket, settings: NodeSection) -> None:
        super().__init__(association, client_socket=connection)
        self._settings = settings
        self._deadline = time.monotonic() + request_time_s(settings)
        self._received = 0
        self._wake: Wake | None = None

    @property
    def ready(self) -> bool:
        """Whether bytes can be read now or within a moment; false after the peer's deadline."""
        if self._is_connected and time.monotonic() > self._deadline:
            log.warning("association ended: its time limit was reached")
            self.close()
        if self._wake is not None and self.socket is not None:
            self._wake.wait(self.socket)
        return bool(super().ready)

    def wait_for(self, wake: Wake) -> None:
        """From now on, wait for the peer and for `wake`. `close` then closes `wake`, too."""
        self._wake = wake

    def close(self) -> None:
        """Close the connection."""
        super().close()
        if self._wake is not None:
            self._wake.close()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes` bytes, or fewer bytes if the peer closed the connection.

        Raises
        ------
        OSError
            The peer was silent too long (TimeoutError), or sent more than the limit.
        """
        if nr_bytes > _LONGEST_PDU:
            raise OSError("PDU too long")
        data, filled = bytearray(nr_bytes), 0
        connection = cast(socket.socket, self.socket)
        with memoryview(data) as view:
            while filled < nr_bytes:
                if time.monotonic() > self._deadline:
                    raise TimeoutError("the association's time is over")
                read = connection.recv_into(view[filled:])
                if not read:
                    break
                filled += read
        del data[filled:]
        self._count(filled)
        return data

    def admitted(self) -> None:
        """Set the peer's deadline to the longest life of an association.

        Before, the peer had `request_time_s` seconds for the association request.
        """
        if self.socket is None:
            return  # the peer closed the connection while the peer waited
        cast(socket.socket, self.socket).settimeout(self._settings.idle_timeout_s)
        self._deadline = time.monotonic() + self._settings.association_timeout_s
        self.assoc.dul._idle_timer.restart()  # the peer was idle only because we let it wait for a place

    def waits(self) -> None:
        """Extend the peer's deadline by the time for which it can wait for a place."""
        self._deadline = time.monotonic() + self._settings.wait_s + self._settings.idle_timeout_s

    def instance_ended(self) -> None:
        """Start to count the bytes of the next instance."""
        self._received = 0

    def _count(self, size: int) -> None:
        self._received += size
        # An instance that is at most about twice the limit is read to its end, and refused with a status.
        if self._received > 2 * self._settings.max_instance_bytes + _LONGEST_PDU:
            raise OSError("instance far too large")


class _TlsRefusedError(Exception):
    """TLS with a peer failed. The failure is already logged."""


class _Handler(RequestHandler):
    """A handler that gives each association its `GuardedSocket`."""

    server: Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # "connected": the guarded socket repeats this event
        guarded_socket = GuardedSocket(association, self.request, self.server.settings)
        guarded_socket.wait_for(wait_instead_of_polling(association, self.server.budget))
        association.dul.socket = guarded_socket
        return association


class Server(ThreadedAssociationServer):
    """A server that accepts connections and starts an association for each connection.

    Parameters
    ----------
    settings
        The limits, allow rules and TLS files.
    refused
        The function for each connection that is closed before an association.

    Raises
    ------
    ConfigError
        ``tls-files``, see `uair_node.network.tls.server_context`.
    """

    request_queue_size = 128  # connections that can wait for the accepting thread after a burst of requests
    daemon_threads = True

    def __init__(
        self, *arguments: Any, settings: NodeSection, refused: Callable[[Refusal], None], **options: Any
    ) -> None:
        self.settings = settings
        self.budget = ReceiveBudget(settings.in_flight_bytes)
        self._refused = refused
        self._warnings = RepeatedWarnings(log)
        self._networks = [ipaddress.ip_network(net) for rule in settings.allow for net in rule.networks]
        self._tls = ListenerTls(settings.tls) if settings.tls else None
        self._starting: dict[int, tuple[str, int]] = {}  # accepted connections without an association
        super().__init__(*arguments, request_handler=_Handler, **options)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a connection is within the limits. The caller closes other connections."""
        address = plain_address(client_address[0])
        why = self._why_not(address, local=is_from_here(request, client_address[0]))
        if why is None:
            self._starting[id(request)] = client_address[:2]
            return True
        self._refused(Refusal.of(why, str(address)))
        self._warnings.tell(f"connection from {client_address[0]} closed: {why}")
        return False

    def _why_not(self, address: Address, *, local: bool) -> RefusalReason | None:
        # A connection from this machine is accepted here for `uair check`. The allow rules decide later.
        if not local and not any(address in network for network in self._networks):
            return RefusalReason.ADDRESS_NOT_ADMITTED
        # This is a set, because for a moment a connection is in both collections.
        opened = {(peer.address, peer.port) for peer in (each.requestor for each in self.active_associations)}
        opened |= set(self._starting.values())
        if len(opened) >= _MOST_CONNECTIONS:
            return RefusalReason.TOO_MANY_CONNECTIONS
        same = sum(plain_address(host) == address for host, _ in opened)
        return RefusalReason.TOO_MANY_OF_AN_ADDRESS if same >= _MOST_OF_AN_ADDRESS else None

    def service_actions(self) -> None:
        """Do regular work between connections. The accepting thread calls this twice a second."""
        super().service_actions()
        self._warnings.tell_repetitions()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake and start the association, in the connection's own thread."""
        number = id(request)
        request.settimeout(request_time_s(self.settings))
        try:
            if self._tls is not None:
                request = self._handshake(self._tls, request, client_address)
            super().finish_request(request, client_address)
        finally:
            self._starting.pop(number, None)

    def _handshake(self, tls: ListenerTls, request: Any, client_address: Any) -> Any:
        """Return the connection with TLS. Log a failure, unless this machine only tested the port."""
        local = is_from_here(request, client_address[0])
        try:
            require_tls(request)
            return tls.current().wrap_socket(request, server_side=True)
        except OSError as error:
            if not (local and hung_up(error)):
                why = why_sender_failed(error)
                reason = RefusalReason.TLS_FAILED
                self._refused(Refusal.of(reason, client_address[0], why=why))
                self._warnings.tell(f"connection from {client_address[0]} closed: {reason}, {why}")
            raise _TlsRefusedError from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the reason why a connection was not served."""
        self._starting.pop(id(request), None)
        error = sys.exception()
        if not isinstance(error, _TlsRefusedError):
            log.error("connection from %s not served: %s", client_address[0], type(error).__name__)


def request_time_s(settings: NodeSection) -> float:
    """Return the longest time in seconds that a peer may take to request an association."""
    return min(_REQUEST_S, settings.idle_timeout_s)


def is_from_here(connection: Any, address: str) -> bool:
    """Return whether a connection comes from this machine, so that both ends have the same address."""
    try:
        return plain_address(connection.getsockname()[0]) == plain_address(address)
    except (OSError, AttributeError):  # the connection is closed
        return False


def plain_address(text: str) -> Address:
    """Return the IP address of a text. An IPv4-mapped IPv6 address becomes an IPv4 address."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def guarded(association: Association) -> GuardedSocket:
    """Return an accepted association's socket."""
    return cast(GuardedSocket, association.dul.socket)
