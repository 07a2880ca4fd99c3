"""Compare sent objects with stored objects, when all processes run again and no work is left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import select

from tests.chaos.answer_audit import found_answers
from tests.chaos.findings import Audit
from tests.chaos.ledger import Ledger
from tests.chaos.pacs_audit import found_in_pacs
from tests.chaos.site import Site
from tests.chaos.traffic import Series
from uair_node.cases.states import HOLDING
from uair_node.cases.tables import Instance, WorkItem

_OURS = ("result-unreadable", "result-deleted", "duplicate-uid")
"""Reasons of parked deliveries that are not a peer's and that the suite's faults do not explain."""
WORKING = ("RECEIVING", "READY", "SEGMENTING", "REFINING")
ASIDE = ("REJECTED", "FAILED")
_TIDIED = ("REJECTED", "EXPIRED", "SUPERSEDED")
"""States whose files the suite's retention deletes."""


def audit(site: Site, series: Sequence[Series], ledger: Ledger) -> Audit:
    """Check database, spool and PACS; return the findings."""
    found = Audit()
    cases = site.cases()
    found.cases = len({case["series_instance_uid"] for case in cases})
    newest = {case["series_instance_uid"]: case for case in cases}  # oldest first, so the last one stays
    _instances(site, ledger, newest, found)
    for sent in series:
        _series(sent, newest.get(sent.uid), ledger, found)
    _siblings(cases, found)
    for case in cases:
        _case(case, found)
        found_deliveries(case, found)
    found_in_pacs(site, cases, found)
    with site.truth.reading() as session:
        found_answers(session, ledger, found)
        for item in session.scalars(select(WorkItem).where(~WorkItem.open, WorkItem.cause != "")):
            found.unexplained.append(f"{item.kind} {item.subject} given up: {item.cause}")
    return found


def _instances(site: Site, ledger: Ledger, newest: dict[str, dict[str, Any]], found: Audit) -> None:
    """Check that each instance answered 0000 is on disk, element for element, and in the database."""
    rows: dict[str, list[Instance]] = defaultdict(list)
    with site.truth.reading() as session:
        for row in session.scalars(select(Instance)):
            rows[row.sop_instance_uid].append(row)
    latest = {uid: path for path, uid in ledger.taken.items()}
    for path, uid in ledger.taken.items():
        sent = pydicom.dcmread(path)
        if ledger.tidied and (latest[uid] != path or _is_tidied(newest, str(sent.SeriesInstanceUID))):
            continue
        files = [site.data / row.path for row in rows[uid]]
        if not files:
            found.lost.append(f"instance …{uid[-8:]} has no row")
        elif not any(file.is_file() for file in files):
            found.lost.append(f"instance …{uid[-8:]} has no file")
        elif not any(_equal(file, sent) for file in files):
            found.lost.append(f"instance …{uid[-8:]} has other elements than were sent")


def _is_tidied(newest: dict[str, dict[str, Any]], series_uid: str) -> bool:
    case = newest.get(series_uid)
    return case is not None and case["state"] in _TIDIED


def _equal(file: Path, sent: pydicom.Dataset) -> bool:
    return file.is_file() and pydicom.dcmread(file) == sent


def _series(sent: Series, case: dict[str, Any] | None, ledger: Ledger, found: Audit) -> None:
    """Check that a completely sent series has a case with all slices, in the expected state."""
    name = f"series …{sent.uid[-8:]} ({sent.kind})"
    if sent.uid not in ledger.finished:
        found.stuck.append(f"{name} could never be sent")
    elif case is None:
        found.lost.append(f"{name} has no case")
    elif sent.good and case["state"] in ASIDE:
        found.unexplained.append(f"{name} is {case['state']}: {case['code']} {case['sentence']}")
    elif sent.good and case["slices"] != len(sent.paths):
        found.lost.append(f"{name} has a case of {case['slices']} slices, {len(sent.paths)} were taken")
    elif not sent.good and case["state"] != "REJECTED":
        found.unexplained.append(f"{name} is {case['state']}, not REJECTED")


def _siblings(cases: Sequence[dict[str, Any]], found: Audit) -> None:
    """Check that a series has at most one live case, and at most one live or accepted case of equal bytes."""
    living: Counter[str] = Counter()
    holding: Counter[tuple[str, str]] = Counter()
    for case in cases:
        living[case["series_instance_uid"]] += case["state"] in HOLDING and case["state"] != "ACCEPTED"
        holding[case["series_instance_uid"], case["digest"]] += case["state"] in HOLDING
    found.duplicate += [f"series …{uid[-8:]} has {n} living cases" for uid, n in living.items() if n > 1]
    found.duplicate += [f"series …{uid[-8:]} has {n} equal cases" for (uid, _), n in holding.items() if n > 1]


def _case(case: dict[str, Any], found: Audit) -> None:
    name = f"case {case['case']}"
    if case["state"] in WORKING:
        found.stuck.append(f"{name} is still {case['state']}; due: {case['due']}")
    if case["state"] in ASIDE and not (case["code"] and case["sentence"] and case["remedy"]):
        found.unexplained.append(f"{name} is {case['state']} without code, sentence or remedy")
    for turn in case["rounds"]:
        _round(case, turn, name, found)
    for selection in case["selections"]:
        if selection["outcome"] == "refused" and not (selection["code"] and selection["sentence"]):
            found.unexplained.append(f"{name}: a selection refused without reason")


def _round(case: dict[str, Any], turn: dict[str, Any], name: str, found: Audit) -> None:
    ks = sorted(result["k"] for result in turn["results"] if result["kind"] == "candidate")
    newest = turn["round"] == case["round"]
    awaited = case["state"] == "AWAITING_SELECTION" or (case["state"] == "ACCEPTED" and newest)
    if ks not in ([1, 2, 3, 4], [1]) and (ks or awaited):
        which = found.duplicate if len(ks) > 4 else found.stuck
        which.append(f"{name}: round {turn['round']} has candidates {ks}")


def found_deliveries(case: dict[str, Any], found: Audit) -> None:
    """Check that every result reached its destinations, also after temporary refusals."""
    for result in (result for turn in case["rounds"] for result in turn["results"]):
        what = f"case {case['case']}: {result['kind']} {result['k']}"
        for delivery in result["deliveries"]:
            reason = delivery["reason"]
            if delivery["state"] == "pending":
                found.stuck.append(f"{what} undelivered: {reason}")
            elif delivery["state"] == "parked" and reason.startswith(_OURS):
                found.lost.append(f"{what} parked: {reason}")
            elif delivery["state"] == "parked":
                found.parked.append(f"{what} parked: {reason or 'without reason'}")
