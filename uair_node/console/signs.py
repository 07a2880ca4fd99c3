"""The strip on each page: the state of each part of the department in a few words.

Database and disk are read for each page. A thread queries the broker. A page does not wait for the broker,
and shows the broker's last answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_config.errors import TransientError
from uair_node.cases.clock import database_now
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState, utc_now
from uair_node.console.check_schedule import check_soon, in_words, last_findings
from uair_node.console.figures import Broker, due_work, last_answer
from uair_node.console.templating import span
from uair_node.context import Context
from uair_node.delivery.counts import count_deliveries
from uair_node.work.topology import QueueName
from uair_node.work.unserved import unserved_queues

_LATE_S = 600.0
_FRESH_S = 120.0
"""Findings older than this many seconds are shown with their age."""
_AMPLE = 4
"""The strip warns of a filling disk if the free space is less than this many times the required space."""
_NODE_S_WORK = (CaseState.RECEIVING, CaseState.READY, CaseState.SEGMENTING, CaseState.REFINING)


@dataclass(frozen=True)
class Sign:
    """The state of one part of the department, as the strip shows it.

    Attributes
    ----------
    label, words
        The part, and its state in words.
    tone
        ``good``, ``waits`` or ``bad``; ``plain`` if the state is neither good nor bad.
    where
        Path of the page with details.
    """

    label: str
    words: str
    tone: str
    where: str


def department_signs(context: Context, kept: dict[str, Any]) -> list[Sign]:
    """Return the present state of the department's parts. An unavailable part raises no error."""
    broker = last_answer(kept, context.settings)
    try:
        with context.database.reading() as session:
            from_database = list(_from_database(session, broker))
    except TransientError:
        from_database = [Sign("Database", "does not answer", "bad", "/checks")]
    signs = [*_of_broker(broker), *from_database, _disk(context)]
    check_soon(kept, {sign.label for sign in signs if sign.tone == "bad"})
    return [*signs, *_checks(kept)]


def _from_database(session: Session, broker: Broker | None) -> Iterator[Sign]:
    yield Sign("Database", "answers", "good", "/checks")
    yield from _workers(session, broker)
    yield _destinations(session)
    now = database_now(session)
    received = session.scalar(select(func.max(Case.last_instance_at)))
    yield Sign("Last image", _since(received, now), "plain", "/cases")
    oldest = session.scalar(select(func.min(Case.updated_at)).where(Case.state.in_(_NODE_S_WORK)))
    late = oldest is not None and (now - oldest).total_seconds() > _LATE_S
    words = f"waits {_span(oldest, now)}" if oldest is not None else "none waits"
    yield Sign("Oldest case", words, "waits" if late else "plain", "/queues")


def _workers(session: Session, broker: Broker | None) -> Iterator[Sign]:
    """Yield the signs of the workers. IO workers have a sign only if no IO worker runs."""
    alone_since = broker.alone_since if broker else {}
    unserved = {queue.name: queue.since for queue in unserved_queues(session)}
    labels = {QueueName.GPU: "GPU worker", QueueName.IO: "IO worker"}
    for name, label in labels.items():
        due = [work for work in due_work(session) if work.queue == name]
        held, waiting = sum(work.held for work in due), sum(work.waiting for work in due)
        if name in alone_since:
            words = f"none for {_span(alone_since[name], utc_now())}{_waiting(held + waiting, ', ')}"
            yield Sign(label, words, "bad", "/queues")
        elif name in unserved:
            since = _span(unserved[name], database_now(session))
            yield Sign(label, f"takes no work, {waiting} for {since}", "bad", "/queues")
        elif name == QueueName.GPU:
            words = f"computes {held}{_waiting(waiting, ', ')}" if held else _waiting(waiting, "")
            yield Sign(label, words or "nothing to compute", "good" if held else "plain", "/queues")


def _waiting(number: int, before: str) -> str:
    return f"{before}{number} {'waits' if number == 1 else 'wait'}" if number else ""


def _destinations(session: Session) -> Sign:
    counts = count_deliveries(session)
    parked = sum(number for (_, state), number in counts.items() if state == DeliveryState.PARKED)
    if parked:
        return Sign("Destinations", f"{parked} refused", "bad", "/destinations")
    oldest = session.scalar(
        select(func.min(Delivery.created_at)).where(Delivery.state == DeliveryState.PENDING)
    )
    now = database_now(session)
    if oldest is not None and (now - oldest).total_seconds() > _LATE_S:
        return Sign("Destinations", f"objects wait {_span(oldest, now)}", "bad", "/destinations")
    words = "nothing waits" if oldest is None else "objects on their way"
    return Sign("Destinations", words, "good" if oldest is None else "waits", "/destinations")


def _of_broker(broker: Broker | None) -> list[Sign]:
    if broker is None:
        return [Sign("Broker", "no answer yet", "plain", "/queues")]
    if not broker.up:
        return [Sign("Broker", "does not answer", "bad", "/queues")]
    if broker.sentence:
        return []  # embedded mode has no broker
    return [Sign("Broker", "answers", "good", "/queues")]


def _checks(kept: dict[str, Any]) -> list[Sign]:
    at, findings = last_findings(kept)
    if at is None:
        return []  # the first check still runs
    words, tone = in_words(findings)
    age_s = (utc_now() - at).total_seconds()
    words += f" {span(age_s)} ago" if age_s > _FRESH_S else ""
    return [Sign("Checks", words, tone, "/checks")]


def _disk(context: Context) -> Sign:
    settings = context.settings
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError:
        return Sign("Disk", "data folder is missing", "bad", "/checks")
    least = settings.intake.min_free_bytes
    tone = "bad" if free < least else "waits" if free < _AMPLE * least else "good"
    return Sign("Disk", f"{free / 2**30:.0f} GiB free", tone, "/checks")


def _since(moment: datetime | None, now: datetime) -> str:
    return "never" if moment is None else f"{_span(moment, now)} ago"


def _span(moment: datetime, now: datetime) -> str:
    return span((now - moment).total_seconds())
