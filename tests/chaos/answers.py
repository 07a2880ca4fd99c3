"""Readers and operators who answer by the PACS, the command line and the console, at the same moment."""

from __future__ import annotations

import random
import threading
import urllib.error
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.testclient import TestClient

from tests.chaos.ledger import Ledger
from tests.chaos.site import Site
from tests.support.console import BASE, OPERATOR, console_site, submit
from uair_node.console.app import make_app

_VERBS = {"UAIR_PICK": "pick", "UAIR_ACCEPT": "accept", "UAIR_REJECT": "reject"}
_ACTION_OF = {"pick": "pick", "accept": "accept", "reject": "none-fits"}


class Reader:
    """A reader who picks for some cases and accepts for some, through the PACS, whenever the PACS answers."""

    def __init__(self, site: Site, ledger: Ledger, seed: int, share: float = 0.35) -> None:
        self._ledger = ledger
        self._site, self._random, self._share = site, random.Random(seed), share
        self._plans: dict[int, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the reader's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the present turn."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(2.0):
            with suppress(Exception):  # PACS or database is not available: try again later
                for case in self._site.cases():
                    self._look_at(case)

    def _look_at(self, case: dict[str, Any]) -> None:
        if case["state"] != "AWAITING_SELECTION":
            return
        if case["case"] not in self._plans:
            wants = self._random.random() < self._share
            self._plans[case["case"]] = self._random.choice(("pick", "accept")) if wants else ""
        plan = self._plans[case["case"]]
        if plan == "pick" and case["round"] == 1:
            self._send(case, "UAIR_PICK")
        elif plan == "accept" or (plan == "pick" and case["round"] == 2):
            self._send(case, "UAIR_ACCEPT")

    def _send(self, case: dict[str, Any], verb: str) -> None:
        send_candidate(self._site, self._ledger, case, self._random.randint(1, 4), verb)


def send_candidate(site: Site, ledger: Ledger, case: dict[str, Any], k: int, called: str) -> None:
    """Let the PACS send a candidate of the newest round, and note it if the node answered 0000."""
    query = {
        "StudyInstanceUID": case["study_instance_uid"],
        "SeriesDescription": f"UAIR R{case['round']}C{k}*",
    }
    uids = {result["series_instance_uid"] for turn in case["rounds"] for result in turn["results"]}
    found = [held for held in site.orthanc.find("Series", query) if site.orthanc.series_uid(held) in uids]
    if len(found) != 1:
        return
    (instance,) = site.orthanc.instances_of(found[0])
    said = str(site.orthanc.tags(instance)["SOPInstanceUID"]), _VERBS[called]
    ledger.attempts.add(said)
    with suppress(urllib.error.URLError):
        site.orthanc.store(instance, called)
        ledger.answers.append(said)


class Operator:
    """An operator at the console and at the command line."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self._site, self._ledger = site, ledger
        console = console_site(site.context)
        self._client = console.enter(
            TestClient(make_app(console.console), base_url=BASE, follow_redirects=True), OPERATOR
        )

    def act(self, case_id: int, action: str, **fields: str) -> bool:
        """Confirm an action on its page; return whether it was done."""
        page = submit(self._client, f"/cases/{case_id}/{action}", **fields)
        return page.status_code == 200 and "Not done." not in page.text

    def answer(self, case_id: int, verb: str, k: int) -> None:
        """Answer for the reader in the console, and note the console's reply."""
        if self.act(case_id, _ACTION_OF[verb], candidate=str(k)):
            self._ledger.told.append((case_id, "console", verb))

    def command(self, case_id: int, *words: str) -> None:
        """Answer or expire a case by the command line, and note its output."""
        done = self._site.deployment.command_line("case", words[0], str(case_id), *words[1:])
        if done.returncode:
            return
        if words[0] == "expire":
            self._ledger.expired.add(case_id)
        else:
            self._ledger.told.append((case_id, "command-line", words[0]))


def answer_at_once(
    site: Site,
    ledger: Ledger,
    operator: Operator,
    chooser: random.Random,
    supersede: Callable[[str], None],
) -> None:
    """Answer a waiting case over two associations, in the console and by the command line at one moment.

    `supersede` sends another version of a series. In a quarter of the calls, it runs at the same time.
    """
    waiting = [case for case in site.cases() if case["state"] == "AWAITING_SELECTION"]
    if not waiting:
        return
    case = chooser.choice(waiting)
    words = chooser.choice((("pick", "4"), ("accept", "3"), ("reject",), ("expire",)))
    by_console = chooser.choice((("pick", 3), ("accept", 4), ("reject", 1)))
    acts: list[Callable[[], object]] = [
        partial(send_candidate, site, ledger, case, 1, "UAIR_PICK"),
        partial(send_candidate, site, ledger, case, 2, "UAIR_ACCEPT"),
        partial(operator.answer, case["case"], *by_console),
        partial(operator.command, case["case"], *words),
    ]
    if chooser.random() < 0.25:
        acts.append(partial(supersede, case["series_instance_uid"]))
    ledger.counts["answered at once"] += 1
    together(acts)


def together(acts: Sequence[Callable[[], object]]) -> None:
    """Do acts at the same moment. Errors of unavailable peers or databases are ignored."""
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        gate.wait()
        with suppress(Exception):
            act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
