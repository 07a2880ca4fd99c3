"""Keep the responses of a peer for the thread that waits for them.

An association of pynetdicom has a thread that serves requests of the peer. This thread pauses while another
thread sends a request and waits for the response. After a response, the serving thread may pause too late.
Then the serving thread takes the next response from the queue and drops this response. The waiting thread
gets nothing until its time limit.
"""

from __future__ import annotations

from typing import Any

from pynetdicom import evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.events import Event


class _Messages(DIMSEServiceProvider):
    """The messages from the peer. A thread that does not wait for a message gets only requests."""

    def get_msg(self, block: bool = False) -> Any:
        if not block:
            with self.msg_queue.mutex:
                first = self.msg_queue.queue[0][1] if self.msg_queue.queue else None
            if first is None or not first.is_valid_request:
                return None, None
        return super().get_msg(block)


def _keep(event: Event) -> None:
    event.assoc.dimse = _Messages(event.assoc)


KEEP_RESPONSES = (evt.EVT_CONN_OPEN, _keep)
"""The event handler of pynetdicom for each association that we request."""
