"""The running node: the listener, and the loop that assembles series, applies answers and enqueues work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from dicom_config.errors import TransientError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.clock import database_now
from uair_node.cases.database_outage import DATABASE_CODES
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.context import Context
from uair_node.delivery.commitment import take_report
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.listener_metrics import ListenerMetrics
from uair_node.network.scp import DicomListener, ReceivedInstance
from uair_node.operations.monitoring.department import DepartmentCollector
from uair_node.operations.monitoring.readiness import Readiness
from uair_node.operations.monitoring.refusals import keep_refusals
from uair_node.operations.monitoring.server import MonitoringServer, Parts
from uair_node.selection.partial_edits import answer_with_parts
from uair_node.selection.start import answer_with_starts
from uair_node.work.dispatch import Dispatcher
from uair_node.work.outages import Outages
from uair_node.work.performer import error_line
from uair_node.work.unserved import UnservedWatch

log = logging.getLogger(__name__)

_LONGEST_SWEEP_S = 600.0
"""Seconds without a successful sweep after which a node counts as stuck.

A sweep can take seconds, because it reads the headers of large studies.
"""


class Node:
    """Receives instances, assembles series and dispatches work until it is stopped.

    Parameters
    ----------
    context
        A context that was opened with ``migrate=True``, because the node migrates the schema.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inbox = Inbox(context)
        self._dispatcher = Dispatcher(context.settings, context.database)
        self._metrics = metrics = ListenerMetrics()
        self._listener = DicomListener(
            context.settings.node,
            self._receive,
            partial(take_report, context),
            metrics,
            self._inbox.association_ended,
        )
        self._monitoring = _monitoring(context, self.alive, metrics)
        self._swept_at = time.monotonic()
        self._outages = Outages()
        self._unserved = UnservedWatch(context.database)
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self._loop = threading.Thread(target=self._run, name="sweeper", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port of the listener."""
        return self._listener.port

    def start(self) -> None:
        """Enqueue all due work again, then open the port."""
        self._dispatcher.start_over()
        self._loop.start()
        self._listener.start()
        if self._monitoring is not None:
            self._monitoring.start()
        log.info("listening on port %d", self.port)

    def stop(self) -> None:
        """Close the ports, wait until running associations have ended, and end the loop."""
        if self._monitoring is not None:
            self._monitoring.stop()
        self._listener.stop()
        self._stopping.set()
        self._nudged.set()
        self._loop.join()

    def sweep(self) -> bool:
        """Do all steps of a sweep. Return false if a step had an error that is not a TransientError.

        If a step fails, then the next step follows. If the database is unreachable, then the sweep ends.
        """
        steps: tuple[Callable[[], object], ...] = (
            partial(assemble, self._context),
            partial(answer_with_parts, self._context),
            partial(answer_with_starts, self._context),
            self._expire,
            self._dispatcher.enqueue_due,
            self._look_for_workers,
            partial(keep_refusals, self._context.database, self._metrics),
        )
        failed, away = 0, list[TransientError]()
        for step in steps:
            try:
                step()
            except TransientError as error:  # not a failed sweep, because a restart of the node cannot help
                away.append(error)
                if error.code in DATABASE_CODES:
                    break  # every step needs the database
            except Exception as error:
                failed += 1
                log.error("sweep failed: %s", error_line(error))
        if away:
            self._outages.failed(away)
        else:
            self._outages.succeeded()
        return not failed

    def _receive(self, received: ReceivedInstance) -> None:
        self._inbox.receive(received)
        if received.verb != Verb.STORE:
            self._nudged.set()  # start a sweep at once, because a reader waits

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self.sweep():
                self._swept_at = time.monotonic()
            self._nudged.wait(max(self._context.settings.work.sweep_s, self._outages.pause_s))
            self._nudged.clear()

    def alive(self) -> dict[str, bool]:
        """Return whether the loop runs; false if it ended or had no successful sweep for ten minutes."""
        idle_s = time.monotonic() - self._swept_at
        return {"sweeper": self._loop.is_alive() and idle_s < _LONGEST_SWEEP_S}

    def _look_for_workers(self) -> None:
        if self._dispatcher.broker_up:  # without a broker, workers cannot get work
            self._unserved.look()

    def _expire(self) -> None:
        patience = timedelta(days=self._context.settings.work.expire_after_days)
        with self._context.database.reading() as session:
            limit = database_now(session) - patience
            waiting = Case.state == CaseState.AWAITING_SELECTION, Case.updated_at < limit
            ids = session.scalars(select(Case.id).where(*waiting)).all()
        for case_id in ids:
            with self._context.database.transaction() as session:
                lifecycle.expire_unanswered(session, case_id, before=limit)


def _monitoring(context: Context, live: Parts, metrics: ListenerMetrics) -> MonitoringServer | None:
    section = context.settings.monitoring
    if not section.port:
        return None
    department = CollectorRegistry()
    department.register(DepartmentCollector(context))
    return MonitoringServer(
        section.host,
        section.port,
        live=live,
        ready=Readiness(context).parts,
        registries=[department, metrics.registry],
    )
