"""Run `uair check` in a thread: at the console's start and every quarter of an hour.

While a fault or a warning exists, the check runs each minute. The check also runs when the
parts that a page shows as bad have changed.

The schedule leaves out the checks of model and device, because they load torch. The console does not need
torch. A worker checks model and device when it starts.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any

from dicom_config.model import Settings
from uair_node.cases.tables import utc_now
from uair_node.operations.checks import run_checks
from uair_node.operations.checks.finding import Finding, Level
from uair_node.work.performer import error_line

log = logging.getLogger(__name__)

EVERY_S = 900.0
SOON_S = 60.0
_CHECKS, _WANTED, _BAD = "checks", "check wanted", "bad signs"


class CheckSchedule:
    """Runs the checks, keeps the findings for the pages, and logs new and resolved findings.

    Parameters
    ----------
    kept
        The store of values for the pages, see `last_findings`.
    """

    def __init__(self, settings: Settings, kept: dict[str, Any]) -> None:
        self._settings, self._kept = settings, kept
        self._logged: dict[tuple[str, str], Finding] = {}
        self._wanted: threading.Event = kept.setdefault(_WANTED, threading.Event())

    def start(self) -> None:
        """Start the thread that runs the checks now, and again until the process ends."""
        threading.Thread(target=self._run, name="checks", daemon=True).start()

    def check(self) -> None:
        """Run the checks once."""
        findings = run_checks(self._settings, with_workers=False)
        keep_findings(self._kept, findings)
        wrong = {(found.what, found.code): found for found in findings if found.level != Level.OK}
        for key, found in wrong.items():
            if key not in self._logged:
                log.warning("check: %s", found.log_line)
        for what, code in self._logged.keys() - wrong.keys():
            log.info("check: %s: %s is over", code, what)
        self._logged = wrong

    def _run(self) -> None:
        while True:
            try:
                self.check()
            except Exception as error:  # the next check may succeed
                log.error("check failed: %s", error_line(error))
            self._wanted.wait(SOON_S if self._logged else EVERY_S)
            self._wanted.clear()


def check_soon(kept: dict[str, Any], bad: Set[str]) -> None:
    """Start the next check at once if the parts that a page shows as bad have changed since the last page."""
    if kept.get(_BAD, set()) != bad:
        kept[_BAD] = bad
        if _WANTED in kept:
            kept[_WANTED].set()


def keep_findings(kept: dict[str, Any], findings: Sequence[Finding]) -> None:
    """Keep findings for the pages, with the present time."""
    kept[_CHECKS] = (utc_now(), findings)


def last_findings(kept: dict[str, Any]) -> tuple[datetime | None, Sequence[Finding]]:
    """Return the time of the last check and its findings; None before the first check."""
    at, findings = kept.get(_CHECKS, (None, ()))
    return at, findings


def in_words(findings: Sequence[Finding]) -> tuple[str, str]:
    """Return the findings in words, and their tone: ``good``, ``waits`` or ``bad``.

    The words are the code of the only fault or warning, or the numbers of faults and warnings.
    """
    number = Counter(finding.level for finding in findings)
    faults, warnings = number[Level.FAULT], number[Level.WARNING]
    if faults + warnings == 1:
        (code,) = (finding.code for finding in findings if finding.level != Level.OK)
        return code, "bad" if faults else "waits"
    told = [
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((faults, "fault"), (warnings, "warning"))
        if count
    ]
    return ", ".join(told) or "all well", "bad" if faults else "waits" if warnings else "good"
