"""The Celery application: one task for each kind of work, all made by one function.

A message carries the id of a work item. The task claims it, does it, commits, and wakes up whatever became
due. Retries, leases and attempts live in the database, so none of Celery's own are used.
"""

from __future__ import annotations

from functools import cached_property, partial

from celery import Celery

from dicom_config.model import Settings
from uair_node.cases.tables import WorkKind
from uair_node.context import Context, open_context
from uair_node.delivery.commitment import commit
from uair_node.delivery.outbox import deliver
from uair_node.results.notices import write_notices
from uair_node.results.page_set import draw_page_set
from uair_node.results.publish import publish
from uair_node.results.withdrawal import withdraw
from uair_node.work.dispatch import Dispatcher
from uair_node.work.performer import Job, perform
from uair_node.work.topology import QUEUE_OF, QueueName, celery_options, task_name


def make_app(settings: Settings, queue: QueueName) -> Celery:
    """Build the application that consumes `queue`, with a task for each kind of work that it carries."""
    app = Celery("uair-workers", set_as_current=False)
    app.conf.update(celery_options(settings))
    worker = _Worker(settings)
    for kind in WorkKind:
        if QUEUE_OF[kind] == queue:
            _register(app, worker, kind)
    return app


def _register(app: Celery, worker: _Worker, kind: WorkKind) -> None:
    def run(item_id: int) -> None:
        worker.run(kind, item_id)

    app.task(run, name=task_name(kind))


class _Worker:
    """What a pool child needs, opened with its first task.

    A pool child is a fork: database connections and CUDA must not cross it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _context(self) -> Context:
        return open_context(self._settings)

    @cached_property
    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self._settings, self._context.database)

    @cached_property
    def _compute(self) -> Job:
        from workers.compute import Computer  # torch is imported in the child that computes, nowhere else

        return Computer(self._context).compute

    @cached_property
    def _finish(self) -> Job:
        from workers.measure.accepted import finish_measured  # loaded where it is used

        return partial(finish_measured, self._context)

    def run(self, kind: WorkKind, item_id: int) -> None:
        """Do one work item and enqueue what it made due."""
        if perform(self._context, item_id, self._job(kind), kind=kind):
            self._dispatcher.enqueue_due()

    def _job(self, kind: WorkKind) -> Job:
        if kind == WorkKind.COMPUTE:
            return self._compute
        if kind == WorkKind.FINISH:
            return self._finish
        jobs = {
            WorkKind.PUBLISH: publish,
            WorkKind.PAGES: draw_page_set,
            WorkKind.NOTICES: write_notices,
            WorkKind.WITHDRAW: withdraw,
            WorkKind.DELIVER: deliver,
            WorkKind.COMMIT: commit,
        }
        return partial(jobs[kind], self._context)
