"""Acts of people and systems during a run: retention, re-sends, stale messages, series sent again."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import patch

from celery import Celery
from kombu.exceptions import OperationalError

from dicom_config.errors import InputError
from dicom_config.model import load_settings
from dicom_config.operation import Retention, RetentionSection
from tests.chaos.answers import Operator, answer_at_once
from tests.chaos.faults import Fault
from tests.chaos.ledger import Ledger
from tests.chaos.site import DESTINATION, Site
from tests.chaos.traffic import Routers, Series, corrected
from uair_node.cases.lock import lock_case
from uair_node.cases.tables import Case, Delivery, DeliveryState, WorkItem, WorkKind
from uair_node.delivery.resend import resend
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.work.topology import celery_options, task_name

_AT_ONCE = 1e-9
"""A retention time in days that is so short that the data of all ended cases is deleted."""


class Interference:
    """Acts on a department during its traffic, with notes of the acts."""

    def __init__(
        self,
        site: Site,
        ledger: Ledger,
        routers: Routers,
        operator: Operator,
        series: Sequence[Series],
        folder: Path,
    ) -> None:
        self._site, self._ledger, self._routers, self._operator = site, ledger, routers, operator
        self._series, self._folder, self._numbers = {sent.uid: sent for sent in series}, folder, count(1)

    def kinds(self) -> Sequence[Fault]:
        """Return the possible acts, in the form of faults."""
        return (
            Fault("answers at once", 4.0, self._answers_at_once),
            Fault("retention runs", 1.0, self._tidy),
            Fault("everything again", 1.0, self._send_everything),
            Fault("stale messages", 2.0, self._stale_messages),
            Fault("series again", 3.0, self._series_again),
            Fault("series corrected", 1.0, self._series_corrected),
            Fault("cancelled, retried", 1.0, self._cancel_and_retry),
        )

    def supersede(self, uid: str) -> None:
        """Send another version of a series."""
        number = next(self._numbers)
        again = corrected(self._series[uid], self._folder / f"corrected-{number}", number)
        self._routers.send_now(again)
        self._ledger.counts["corrected"] += 1

    def _answers_at_once(self, site: Site, chooser: random.Random) -> None:
        answer_at_once(site, self._ledger, self._operator, chooser, self.supersede)

    def _tidy(self, site: Site, _chooser: random.Random) -> None:
        ended = Retention(files_days=_AT_ONCE)
        section = RetentionSection(rejected=ended, expired=ended, superseded=ended)
        settings = site.context.settings.model_copy(update={"retention": section})
        self._ledger.tidied = True
        self._ledger.counts["tidied"] += len(
            apply_retention(replace(site.context, settings=settings), dry_run=False)
        )

    def _send_everything(self, site: Site, chooser: random.Random) -> None:
        cases = [case["case"] for case in site.cases() if case["rounds"]]
        if not cases:
            return
        try:
            with site.truth.transaction() as session:
                case = lock_case(session, chooser.choice(cases))
                resend(session, case, DESTINATION, everything=True)
            self._ledger.counts["sent again"] += 1
        except InputError:
            pass  # there is no object to send

    def _stale_messages(self, site: Site, chooser: random.Random) -> None:
        """Send messages for work that is done, claimed or of another kind, as after a broker's restore."""
        with site.truth.reading() as session:
            items = [(item.id, item.kind) for item in session.query(WorkItem)]
        with patch.dict(os.environ, {**site.deployment.environment, "UAIR_BROKER__URL": site.rabbitmq.url}):
            settings = load_settings(site.deployment.config)
        with Celery("stale", set_as_current=False) as sender:
            sender.conf.update(celery_options(settings))
            with suppress(OperationalError):  # a broker that has just crashed takes no messages
                for number, kind in chooser.sample(items, min(len(items), 10)):
                    sender.send_task(task_name(kind), args=[number])
                    sender.send_task(task_name(chooser.choice(list(WorkKind))), args=[number])
                    self._ledger.counts["stale messages"] += 2

    def _series_again(self, _site: Site, chooser: random.Random) -> None:
        finished = sorted(self._ledger.finished)
        for uid in chooser.sample(finished, min(2, len(finished))):
            self._routers.send_now(self._series[uid])
            self._ledger.counts["series again"] += 1

    def _series_corrected(self, _site: Site, chooser: random.Random) -> None:
        if self._ledger.finished:
            self.supersede(chooser.choice(sorted(self._ledger.finished)))

    def _cancel_and_retry(self, site: Site, chooser: random.Random) -> None:
        computing = [case["case"] for case in site.cases() if case["state"] in ("READY", "SEGMENTING")]
        if computing:
            case_id = chooser.choice(computing)
            if self._operator.act(case_id, "cancel"):
                self._operator.act(case_id, "retry")
                self._ledger.counts["cancelled"] += 1


def send_parked_again(site: Site) -> int:
    """Re-send parked deliveries, as an operator does for a repaired PACS; return the number of them."""
    due = 0
    with site.truth.transaction() as session:
        parked = session.query(Delivery).filter_by(state=DeliveryState.PARKED)
        for case_id in sorted({delivery.result.round.case_id for delivery in parked}):
            try:
                due += resend(session, session.get_one(Case, case_id), DESTINATION, everything=False)
            except InputError:
                continue  # retention has deleted the files: the audit reports it
    return due
