"""The running node: the listener, and one loop that assembles, sweeps and enqueues."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from functools import partial

from sqlalchemy import select

from dicom_config.errors import TransientError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.performer import describe_error
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, utc_now
from uair_node.context import Context
from uair_node.delivery.commitment import take_report
from uair_node.dispatch import Dispatcher
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.scp import DicomListener, ReceivedInstance
from uair_node.selection.together import answer_with_parts

log = logging.getLogger(__name__)


class Node:
    """Receives, assembles and dispatches until stopped.

    Parameters
    ----------
    context
        Opened with ``migrate=True``: the node owns the schema.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inbox = Inbox(context)
        self._dispatcher = Dispatcher(context.settings, context.database)
        self._listener = DicomListener(context.settings.node, self._receive, partial(take_report, context))
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self._loop = threading.Thread(target=self._run, name="sweeper", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port that the listener got."""
        return self._listener.port

    def start(self) -> None:
        """Re-enqueue what the state says is due, then open the port."""
        self._dispatcher.start_over()
        self._loop.start()
        self._listener.start()
        log.info("listening on port %d", self.port)

    def stop(self) -> None:
        """Close the port, let running associations end, end the loop."""
        self._listener.stop()
        self._stopping.set()
        self._nudged.set()
        self._loop.join()

    def _receive(self, received: ReceivedInstance) -> None:
        self._inbox.receive(received)
        if received.verb != Verb.STORE:
            self._nudged.set()  # a reader waits: do not wait for the next sweep

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                assemble(self._context)
                answer_with_parts(self._context)
                self._expire()
                self._dispatcher.enqueue_due()
            except TransientError as error:
                log.warning("%s", error)
            except Exception as error:
                # The loop is what mends everything else; it must outlive any one case.
                log.error("sweep failed: %s", describe_error(error))
            self._nudged.wait(self._context.settings.work.sweep_s)
            self._nudged.clear()

    def _expire(self) -> None:
        limit = utc_now() - timedelta(days=self._context.settings.work.expire_after_days)
        with self._context.database.transaction() as session:
            waiting = select(Case).where(Case.state == CaseState.AWAITING_SELECTION, Case.updated_at < limit)
            for case in session.scalars(waiting):
                lifecycle.expire(session, case, actor=lifecycle.NODE, reason="nobody picked in time")
