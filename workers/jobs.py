"""The table of jobs, by kind of work. `uair_node.work.topology.RULES` has their queues and retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from uair_node.cases.tables import WorkKind
from uair_node.context import Context
from uair_node.delivery.commitment import request_commitments
from uair_node.delivery.outbox import deliver
from uair_node.results.notices import write_notices
from uair_node.results.page_set import draw_page_set
from uair_node.results.publish import publish
from uair_node.results.withdrawal import withdraw, withdraw_closed_rounds
from uair_node.work.performer import Claim, Commit, Job


def _compute(context: Context) -> Job:
    from workers.compute.computer import Computer  # an IO worker does not import torch

    return Computer(context).compute


def _finish(context: Context) -> Job:
    from workers.measure.accepted import finish_measured  # imported only by workers that use it

    return partial(finish_measured, context)


def _plain(job: Callable[[Context, Claim], Commit]) -> Callable[[Context], Job]:
    return lambda context: partial(job, context)


JOBS: Mapping[WorkKind, Callable[[Context], Job]] = {
    WorkKind.COMPUTE: _compute,
    WorkKind.PUBLISH: _plain(publish),
    WorkKind.PAGES: _plain(draw_page_set),
    WorkKind.NOTICES: _plain(write_notices),
    WorkKind.FINISH: _finish,
    WorkKind.WITHDRAW: _plain(withdraw),
    WorkKind.CLOSE_ROUNDS: _plain(withdraw_closed_rounds),
    WorkKind.DELIVER: _plain(deliver),
    WorkKind.COMMIT: _plain(request_commitments),
}
"""Kind of work -> function that makes its job. A pool child calls it once, with its own context."""
