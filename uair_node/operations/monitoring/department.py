"""Read metrics from the database, the broker and the disk at each scrape.

So the metrics do not depend on the process that answers, and they are correct after a restart.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_config.errors import TransientError
from dicom_config.model import Settings, Verb
from uair_node import __version__
from uair_node.cases.clock import database_now
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState, Round, Selection, WorkItem
from uair_node.context import Context
from uair_node.delivery.counts import count_deliveries
from uair_node.network.tls import certificate_end
from uair_node.work.queues import broker_connection, look_at_queues

_RECENT = timedelta(hours=24)
_MOST_ROWS = 2000
_UNFINISHED = (
    CaseState.RECEIVING,
    CaseState.READY,
    CaseState.SEGMENTING,
    CaseState.REFINING,
    CaseState.AWAITING_SELECTION,
    CaseState.FAILED,
)


class DepartmentCollector(Collector):
    """A collector that reads the department's metrics at each scrape.

    Parameters
    ----------
    context
        The settings, database and data folder.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that the registration of the collector does not query the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Metrics that cannot be read are left out, and then their ``…_up`` is 0."""
        yield _gauge("uair_build_info", "Version of the software.", ["version"], [((__version__,), 1)])
        yield from _disk(self._context.settings)
        yield from _certificates(self._context.settings)
        try:
            with self._context.database.reading() as session:
                found = [metric for read in _READERS for metric in read(session)]
                found += _senders(session, self._context.settings)
        except TransientError:
            found = []
        up = "Whether the database can be read."
        yield _gauge("uair_database_up", up, [], [((), int(bool(found)))])
        yield from found
        if not self._context.settings.embedded:
            yield from _broker(self._context.settings)


def _gauge(
    name: str, words: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for values, number in samples:
        family.add_metric([str(value) for value in values], number)
    return family


def _disk(settings: Settings) -> Iterator[Metric]:
    free = shutil.disk_usage(settings.data_dir).free
    yield _gauge("uair_disk_free_bytes", "Free bytes on the disk of the data folder.", [], [((), free)])
    words = "Limit of free bytes. Below this limit, C-STORE is answered A700."
    yield _gauge("uair_disk_least_free_bytes", words, [], [((), settings.intake.min_free_bytes)])


def _certificates(settings: Settings) -> Iterator[Metric]:
    used = {"node": settings.node.tls} | {
        destination.name: destination.tls for destination in settings.destinations
    }
    rows = []
    for name, section in used.items():
        if section is not None and section.certificate is not None:
            with suppress(OSError, ValueError):  # `uair check` reports the fault of the file
                rows.append(((name,), certificate_end(section.certificate).timestamp()))
    words = "End of validity of our own certificate, for senders (node) or for a destination."
    yield _gauge("uair_certificate_end_timestamp_seconds", words, ["of"], rows)


def _cases(session: Session) -> Iterator[Metric]:
    counted = session.execute(select(Case.state, Case.code, func.count()).group_by(Case.state, Case.code))
    words = "Cases by state and by code."
    rows = [((state, code), number) for state, code, number in counted]
    yield _gauge("uair_cases", words, ["state", "code"], rows)
    oldest = session.execute(
        select(Case.state, func.min(Case.updated_at)).where(Case.state.in_(_UNFINISHED)).group_by(Case.state)
    )
    words = "Longest time that a case has been in a state."
    now = database_now(session)
    ages = [((state,), _age(since, now)) for state, since in oldest]
    yield _gauge("uair_oldest_case_seconds", words, ["state"], ages)


def _work(session: Session) -> Iterator[Metric]:
    now = database_now(session)
    rows = session.execute(
        select(WorkItem.kind, func.count(), func.min(WorkItem.not_before))
        .where(WorkItem.open, WorkItem.not_before <= now)
        .group_by(WorkItem.kind)
    ).all()
    words = "Work items that are due or running, by kind."
    yield _gauge("uair_work_due", words, ["kind"], [((kind,), number) for kind, number, _ in rows])
    words = "Longest time that work of a kind has been due."
    ages = [((kind,), _age(since, now)) for kind, _, since in rows]
    yield _gauge("uair_work_oldest_seconds", words, ["kind"], ages)


def _deliveries(session: Session) -> Iterator[Metric]:
    rows = count_deliveries(session).items()
    words = "Objects by destination and state; confirmed: those of the last 24 hours."
    yield _gauge("uair_deliveries", words, ["destination", "state"], rows)
    oldest = session.execute(
        select(Delivery.destination, func.min(Delivery.created_at))
        .where(Delivery.state == DeliveryState.PENDING)
        .group_by(Delivery.destination)
    )
    words = "Longest time that an object has waited for a destination."
    now = database_now(session)
    ages = [((destination,), _age(since, now)) for destination, since in oldest]
    yield _gauge("uair_oldest_delivery_seconds", words, ["destination"], ages)


def _selections(session: Session) -> Iterator[Metric]:
    columns = (Selection.verb, Selection.outcome, Selection.code)
    counted = session.execute(select(*columns, func.count()).group_by(*columns))
    rows = [((verb, outcome, code), number) for verb, outcome, code, number in counted]
    words = "Readers' answers, by verb and outcome."
    yield _gauge("uair_selections", words, ["verb", "outcome", "code"], rows)


def _model(session: Session) -> Iterator[Metric]:
    newest = session.execute(
        select(Round.model_name, Round.model_digest)
        .where(Round.computed_at.is_not(None))
        .order_by(Round.computed_at.desc())
        .limit(1)
    ).first()
    rows = [((newest[0], newest[1][:16]), 1)] if newest else []
    words = "Model of the newest round; the digest's first 16 digits."
    yield _gauge("uair_model_info", words, ["model", "digest"], rows)


def _stages(session: Session) -> Iterator[Metric]:
    """Yield metrics with the durations of the stages in the last 24 hours."""
    rows = []
    for stage, seconds in _durations(session).items():
        if seconds:
            ordered = sorted(seconds)
            rows.append(((stage, "0.5"), statistics.median(ordered)))
            rows.append(((stage, "0.9"), ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]))
            rows.append(((stage, "1"), ordered[-1]))
    words = "Duration of a stage in the last 24 hours: median, 0.9 quantile, longest."
    yield _gauge("uair_stage_seconds", words, ["stage", "quantile"], rows)


def _durations(session: Session) -> dict[str, list[float]]:
    since = database_now(session) - _RECENT
    rounds = session.execute(
        select(
            Round.number,
            Case.created_at,
            Round.created_at,
            Round.computed_at,
            Round.published_at,
            Round.compute_seconds,
        )
        .join(Round.case)
        .where(Round.published_at > since, Round.computed_at.is_not(None))
        .order_by(Round.published_at.desc())
        .limit(_MOST_ROWS)
    ).all()
    delivered = session.execute(
        select(Delivery.created_at, Delivery.confirmed_at)
        .where(Delivery.confirmed_at > since)
        .order_by(Delivery.confirmed_at.desc())
        .limit(_MOST_ROWS)
    ).all()
    return {
        "series-to-candidates": _spans((round_[1], round_[4]) for round_ in rounds if round_[0] == 1),
        "pick-to-candidates": _spans((round_[2], round_[4]) for round_ in rounds if round_[0] > 1),
        "queue": [
            max(0.0, span - (round_[5] or 0.0))
            for round_ in rounds
            for span in _spans([(round_[2], round_[3])])
        ],
        "compute": [round_[5] for round_ in rounds if round_[5] is not None],
        "publish": _spans((round_[3], round_[4]) for round_ in rounds),
        "deliver": _spans((delivery[0], delivery[1]) for delivery in delivered),
    }


_READERS = (_cases, _work, _deliveries, _selections, _model, _stages)


def _senders(session: Session, settings: Settings) -> list[Metric]:
    """Return the metric with the time of each sender's last instance.

    If an allow rule names a sender without an instance, then the sender's value is 0.
    """
    expected = {
        title: 0.0 for rule in settings.node.allow if Verb.STORE in rule.verbs for title in rule.calling_ae
    }
    rows = session.execute(select(Case.calling_ae, func.max(Case.last_instance_at)).group_by(Case.calling_ae))
    latest = {title: moment.replace(tzinfo=UTC).timestamp() for title, moment in rows if title}
    words = "When an AE title last sent an instance; 0: never."
    samples = [((title,), at) for title, at in sorted((expected | latest).items())]
    name = "uair_sender_last_instance_timestamp_seconds"
    return [_gauge(name, words, ["calling_ae"], samples)]


def _broker(settings: Settings) -> Iterator[Metric]:
    try:
        with broker_connection(settings) as connection:
            connection.connect()
            views = look_at_queues(connection, settings)
    except Exception:  # every transport has its own exceptions
        yield _gauge("uair_broker_up", "Whether the broker answers.", [], [((), 0)])
        return
    yield _gauge("uair_broker_up", "Whether the broker answers.", [], [((), 1)])
    messages = [((view.name,), view.messages) for view in views]
    yield _gauge("uair_queue_messages", "Messages that wait in a queue.", ["queue"], messages)
    consumers = [((view.name,), view.consumers) for view in views]
    yield _gauge("uair_queue_consumers", "Workers that consume a queue.", ["queue"], consumers)


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())


def _spans(ends: Iterable[tuple[datetime | None, datetime | None]]) -> list[float]:
    return [(end - start).total_seconds() for start, end in ends if start is not None and end is not None]
