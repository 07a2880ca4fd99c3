"""Let the two threads of a pynetdicom association wait for events instead of polling.

One thread moves PDUs, and the other thread serves DIMSE messages. In pynetdicom, each thread polls the other
thread every millisecond. So a C-STORE waits three times, and the threads of an idle association wake up two
thousand times a second. With this module, a thread that puts an item into a queue wakes up the other
thread. This module does not interpret messages.
"""

from __future__ import annotations

import queue
import select
import socket
import ssl
from contextlib import suppress
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_CANCEL_RQ, N_EVENT_REPORT_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA

from uair_node.network.receive_budget import IncomingDataSet, ReceiveBudget

_MOMENT_S = 0.02
"""The longest wait in seconds. Timers and the end of a thread are checked at this interval."""

_DATA_TRANSFER = "Sta6"
"""The state of an established association (PS3.8 Table 9-10)."""


class Wake:
    """The signal that wakes up the thread that moves an association's PDUs."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def up(self) -> None:
        """End the present wait, or the next wait."""
        if self._ends is not None:
            with suppress(OSError):  # closed, or the buffer is full of earlier signals
                self._ends[1].send(b"\0")

    def wait(self, connection: socket.socket) -> None:
        """Return when there are bytes to read or a message to send, or after `_MOMENT_S`.

        A message to send becomes an event at once. Otherwise the thread would first sleep.
        """
        dul = self._association.dul
        if dul.state_machine.current_state != _DATA_TRANSFER:
            return
        if self._ends is None:  # opened late, so that connections without an association need no handles
            self._ends = _open_pair()
        elif not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            _wait_for(connection, self._ends[0])
        if dul.event_queue.empty():
            dul._process_recv_primitive()

    def close(self) -> None:
        """Close the two sockets of the signal."""
        for end in self._ends or ():
            end.close()


def _open_pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def _wait_for(connection: socket.socket, bell: socket.socket) -> None:
    with suppress(OSError, ValueError):  # the next read reports a lost connection
        readable, _, _ = select.select([connection, bell], [], [], _MOMENT_S)
        if bell in readable:
            bell.recv(4096)


def wait_instead_of_polling(association: Association, budget: ReceiveBudget) -> Wake:
    """Replace the queues of an association before its threads start. Return the signal for its PDU thread."""
    wake = Wake(association)
    association.dimse = _Messages(association, budget)
    association.dul.to_provider_queue = _ToPeer(wake)
    association.dul.to_user_queue = _ToUser(association.dimse)
    return wake


class _Messages(DIMSEServiceProvider):
    """The messages from the peer. Their bytes count in the budget.

    A thread that requests a message waits for it, at most `_MOMENT_S`.
    """

    def __init__(self, association: Association, budget: ReceiveBudget) -> None:
        super().__init__(association)
        self.message: DIMSEMessage | None = None
        self._budget = budget
        self._incoming = IncomingDataSet(budget, association)
        self._served: IncomingDataSet | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = self._incoming = IncomingDataSet(self._budget, self.assoc)
        message = self.message
        super().receive_primitive(primitive)
        if self.message is None and isinstance(message, (C_CANCEL_RQ, N_EVENT_REPORT_RQ)):
            self._incoming.give_back()  # messages of these types do not wait in the queue

    def get_msg(self, block: bool = False) -> Any:
        if self._served is not None:  # a thread that requests a message has served the previous message
            self._served.give_back()
            self._served = None
        try:
            context, message = self.msg_queue.get(timeout=None if block else _MOMENT_S)
        except queue.Empty:
            return None, None
        data_set = getattr(message, "_dataset", None)
        if isinstance(data_set, IncomingDataSet):
            self._served = data_set
        return context, message


class _ToPeer(queue.Queue[Any]):
    """The messages that the node sends."""

    def __init__(self, wake: Wake) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake.up()


class _ToUser(queue.Queue[Any]):
    """Requests of the peer to open, release or abort the association.

    A release or an abort wakes up the thread that serves messages.
    """

    def __init__(self, messages: DIMSEServiceProvider) -> None:
        super().__init__()
        self._messages = messages

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        if not isinstance(item, A_ASSOCIATE):
            self._messages.msg_queue.put((None, None))  # the value of `get_msg` without a message
