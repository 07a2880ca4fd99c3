"""Connections in: TLS, and the bounds that keep a slow, silent or endless peer from holding the node.

A handshake runs in the connection's own thread; every read has a limit in time, every PDU and every instance
one in bytes. It must not know AE titles or what a PDU means.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_config.model import NodeSection
from uair_node.reactor import Wake, wait_instead_of_polling
from uair_node.tls import server_context, tls_reason

log = logging.getLogger(__name__)

_LONGEST_PDU = 1 << 20
"""Bytes of one PDU; `NodeSection.max_pdu_bytes` is at most this, an A-ASSOCIATE-RQ far shorter."""

_MOST_CONNECTIONS = 400
"""Open at a time, served or not: `select` cannot watch file descriptors beyond 1023."""


class GuardedSocket(AssociationSocket):
    """An association's socket whose peer has a limit in time and in bytes.

    Silence beyond the idle time and a PDU or an instance beyond all bounds read as a lost connection.
    """

    def __init__(self, association: Association, connection: socket.socket, settings: NodeSection) -> None:
        super().__init__(association, client_socket=connection)
        self._settings = settings
        self._deadline = time.monotonic() + settings.idle_timeout_s
        self._received = 0
        self._wake: Wake | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to read now or in a moment; False once the time is over."""
        if self._is_connected and time.monotonic() > self._deadline:
            log.warning("association ended: its time is over")
            self.close()
        if self._wake is not None and self.socket is not None:
            self._wake.wait(self.socket)
        return bool(super().ready)

    def wait_for(self, wake: Wake) -> None:
        """Wait for the peer and for `wake` from now on, and close both together."""
        self._wake = wake

    def close(self) -> None:
        """Close the connection."""
        super().close()
        if self._wake is not None:
            self._wake.close()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`, fewer only if the peer closed.

        Raises
        ------
        OSError
            The peer was silent too long (TimeoutError), or sends more than it may.
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
        """Give the peer the time of an association; until then it has the idle time to ask for one."""
        self._deadline = time.monotonic() + self._settings.association_timeout_s
        self.assoc.dul._idle_timer.restart()  # it was us who kept the peer waiting for a place

    def waits(self) -> None:
        """Let the peer wait for a place."""
        self._deadline = time.monotonic() + self._settings.wait_s + self._settings.idle_timeout_s

    def instance_ended(self) -> None:
        """Begin to count the next instance."""
        self._received = 0

    def _count(self, size: int) -> None:
        self._received += size
        # What is only somewhat too large is read to its end, and refused with a status.
        if self._received > 2 * self._settings.max_instance_bytes + _LONGEST_PDU:
            raise OSError("instance too large by far")


class _Handler(RequestHandler):
    """Gives each association its guarded socket."""

    server: Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # "connected", which the guarded socket says again
        guarded_socket = GuardedSocket(association, self.request, self.server.settings)
        guarded_socket.wait_for(wait_instead_of_polling(association))
        association.dul.socket = guarded_socket
        return association


class Server(ThreadedAssociationServer):
    """Accepts connections and hands each to an association of its own.

    Parameters
    ----------
    settings
        Limits and TLS.

    Raises
    ------
    ConfigError
        ``tls-files``, see `uair_node.tls.server_context`.
    """

    request_queue_size = 128  # connections that wait for the accepting thread, a burst of senders
    daemon_threads = True

    def __init__(self, *arguments: Any, settings: NodeSection, **options: Any) -> None:
        self.settings = settings
        self._tls = server_context(settings.tls) if settings.tls else None
        self._handshakes: set[int] = set()
        super().__init__(*arguments, request_handler=_Handler, **options)

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Tell whether there is room for one more connection; it is closed otherwise."""
        if len(self.active_associations) + len(self._handshakes) < _MOST_CONNECTIONS:
            return True
        log.warning("connection from %s closed: %d are open", client_address[0], _MOST_CONNECTIONS)
        return False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake and start the association; runs in a thread of its own."""
        request.settimeout(self.settings.idle_timeout_s)
        if self._tls is not None:
            number = request.fileno()
            self._handshakes.add(number)
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            finally:
                self._handshakes.discard(number)
        super().finish_request(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log why a connection was not served."""
        error = sys.exception()
        if isinstance(error, OSError):
            log.warning("TLS refused: peer at %s, %s", client_address[0], tls_reason(error))
        else:
            log.error("connection from %s not served: %s", client_address[0], type(error).__name__)


def guarded(association: Association) -> GuardedSocket:
    """Return an accepted association's socket."""
    return cast(GuardedSocket, association.dul.socket)
