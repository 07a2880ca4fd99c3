"""The Celery application: one task for each kind of work. `_register` makes all tasks.

A message carries the id of a work item. The task claims the work item, does the work, commits, and enqueues
work that became due. The database keeps retries, leases and attempts, so Celery's own retries are not used.
"""

from __future__ import annotations

from functools import cached_property

from celery import Celery

from dicom_config.model import Settings
from uair_node.cases.tables import WorkKind
from uair_node.context import Context, open_context
from uair_node.work.dispatch import Dispatcher
from uair_node.work.performer import Job, perform
from uair_node.work.topology import RULES, QueueName, celery_options, task_name
from workers.jobs import JOBS


def make_app(settings: Settings, queue: QueueName) -> Celery:
    """Build the application that consumes `queue`, with a task for each kind of work in this queue."""
    app = Celery("uair-workers", set_as_current=False)
    app.conf.update(celery_options(settings))
    worker = _Worker(settings)
    for kind in WorkKind:
        if RULES[kind].queue == queue:
            _register(app, worker, kind)
    return app


def _register(app: Celery, worker: _Worker, kind: WorkKind) -> None:
    def run(item_id: int) -> None:
        worker.run(kind, item_id)

    app.task(run, name=task_name(kind))


class _Worker:
    """The context, dispatcher and jobs of a pool child. Its first task opens them.

    A pool child is a forked process. It must not use the database connections or the CUDA of its parent.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[WorkKind, Job] = {}

    @cached_property
    def _context(self) -> Context:
        return open_context(self._settings)

    @cached_property
    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self._settings, self._context.database)

    def run(self, kind: WorkKind, item_id: int) -> None:
        """Do one work item, and enqueue the work that became due."""
        if kind not in self._jobs:
            self._jobs[kind] = JOBS[kind](self._context)
        if perform(self._context, item_id, self._jobs[kind], kind=kind):
            self._dispatcher.enqueue_due()
