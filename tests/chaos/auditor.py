"""Compares what was sent with what exists, once everything runs again and has come to rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pydicom
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.chaos.site import Site
from tests.chaos.traffic import Ledger, Series
from uair_node.cases.tables import Case, Instance, Selection

_OURS = ("result-unreadable", "result-deleted", "duplicate-uid")
"""Reasons of parked deliveries that no peer gave and no fault of the suite explains."""
WORKING = ("RECEIVING", "READY", "SEGMENTING", "REFINING")
ASIDE = ("REJECTED", "FAILED")


@dataclass
class Answers:
    """What became of every answer: rows by outcome; joined parts count with their effective answer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    contradictory: int = 0

    def line(self) -> str:
        """The ledger line of a run."""
        effective = self.outcomes["effective"] + self.outcomes["joined"]
        rest = [f"{name} {self.outcomes[key]}" for name, key in _OTHER_OUTCOMES]
        total = sum(self.outcomes.values()) + self.lost
        return (
            f"answers {total} = effective {effective} + {' + '.join(rest)}, "
            f"lost {self.lost}, contradictory {self.contradictory}"
        )


_OTHER_OUTCOMES = (("repeated", "repeated"), ("replaced", "replaced"), ("refused", "refused"))


@dataclass
class Audit:
    """What the auditor found; each entry says what is wrong."""

    cases: int = 0
    lost: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    answers: Answers = field(default_factory=Answers)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.duplicate or self.stuck or self.unexplained)

    def findings(self) -> list[str]:
        """Everything found, a line each."""
        kinds = ("lost", "duplicate", "stuck", "unexplained")
        return [f"{kind}: {what}" for kind in kinds for what in getattr(self, kind)]

    def line(self, faults: int) -> str:
        """The one line that a run ends with."""
        return (
            f"auditor: faults {faults} cases {self.cases} lost {len(self.lost)} "
            f"duplicate {len(self.duplicate)} stuck {len(self.stuck)} unexplained {len(self.unexplained)}"
        )


def audit(site: Site, series: Sequence[Series], ledger: Ledger) -> Audit:
    """Look at database, spool and PACS."""
    found = Audit()
    cases = site.cases()
    found.cases = len({case["series_instance_uid"] for case in cases})
    _instances(site, ledger, found)
    newest = {case["series_instance_uid"]: case for case in cases}  # oldest first, so the last one stays
    for one in series:
        _series(one, newest.get(one.uid), ledger, found)
    for case in cases:
        _case(case, found)
        found_deliveries(case, found)
    _pacs(site, cases, found)
    with site.truth.transaction() as session:
        found_answers(session, ledger, found)
    return found


def found_answers(session: Session, ledger: Ledger, found: Audit) -> None:
    """Hold every answer that was answered 0000 against its row, and the rows against each other."""
    rows = session.scalars(select(Selection)).all()
    found.answers.outcomes = Counter(str(row.outcome) for row in rows if row.outcome != "held")
    kept = Counter((row.evidence_uid, row.verb) for row in rows if row.outcome != "held")
    missing = Counter(ledger.answers) - kept
    found.lost += [f"{verb} of …{uid[-8:]} was answered 0000 and has no row" for uid, verb in missing]
    held = [row.id for row in rows if row.outcome == "held"]
    found.stuck += [f"selection {number} is still held" for number in held]
    found.answers.lost = missing.total() + len(held)
    wrong = [what for case in session.scalars(select(Case)) for what in _contradictions(case, rows)]
    found.duplicate += wrong
    found.answers.contradictory = len(wrong)


def _contradictions(case: Case, rows: Sequence[Selection]) -> list[str]:
    """Return where a case's history does not follow, or its end and its answers differ."""
    steps = case.transitions
    pairs = pairwise(steps)
    wrong = [
        f"case {case.id}: {b.state} from {b.origin} after {a.state}" for a, b in pairs if a.state != b.origin
    ]
    effective = [row for row in rows if row.case_id == case.id and row.outcome == "effective"]
    numbers = Counter(row.round_number for row in effective)
    wrong += [f"case {case.id}: {n} effective in round {r}" for r, n in numbers.items() if n > 1]
    accepts = [row for row in effective if row.verb == "accept"]
    if len(accepts) != (case.state == "ACCEPTED"):
        wrong.append(f"case {case.id} is {case.state} with {len(accepts)} effective ACCEPT")
    return wrong


def _instances(site: Site, ledger: Ledger, found: Audit) -> None:
    """What was answered 0000 is on disk, pixel for pixel, and in the database."""
    with site.truth.transaction() as session:
        rows = {row.sop_instance_uid: row.path for row in session.scalars(select(Instance))}
    data = site.data
    for uid, sent in ledger.taken.items():
        if uid not in rows:
            found.lost.append(f"instance …{uid[-8:]} has no row")
            continue
        kept = data / rows[uid]
        if not kept.is_file():
            found.lost.append(f"instance …{uid[-8:]} has no file")
        elif pydicom.dcmread(kept).PixelData != pydicom.dcmread(sent).PixelData:
            found.lost.append(f"instance …{uid[-8:]} has other pixels than were sent")


def _series(one: Series, case: dict[str, Any] | None, ledger: Ledger, found: Audit) -> None:
    """A series that was taken whole has a case of all its slices, in the state that it deserves."""
    name = f"series …{one.uid[-8:]} ({one.kind})"
    if one.uid not in ledger.finished:
        found.stuck.append(f"{name} could never be sent")
    elif case is None:
        found.lost.append(f"{name} has no case")
    elif one.good and case["state"] in ASIDE:
        found.unexplained.append(f"{name} is {case['state']}: {case['code']} {case['sentence']}")
    elif one.good and case["slices"] != len(one.paths):
        found.lost.append(f"{name} has a case of {case['slices']} slices, {len(one.paths)} were taken")
    elif not one.good and case["state"] != "REJECTED":
        found.unexplained.append(f"{name} is {case['state']}, not REJECTED")


def _case(case: dict[str, Any], found: Audit) -> None:
    name = f"case {case['case']}"
    if case["state"] in WORKING:
        found.stuck.append(f"{name} is still {case['state']}; due: {case['due']}")
    if case["state"] in ASIDE and not (case["code"] and case["sentence"] and case["mend"]):
        found.unexplained.append(f"{name} is {case['state']} without code, sentence or mend")
    for turn in case["rounds"]:
        _round(case, turn, name, found)
    effective = Counter(one["round"] for one in case["selections"] if one["outcome"] == "effective")
    found.duplicate += [f"{name}: {n} selections in round {r}" for r, n in effective.items() if n > 1]
    for one in case["selections"]:
        if one["outcome"] == "refused" and not (one["code"] and one["sentence"]):
            found.unexplained.append(f"{name}: a selection refused without reason")


def _round(case: dict[str, Any], turn: dict[str, Any], name: str, found: Audit) -> None:
    results = turn["results"]
    ks = sorted(one["k"] for one in results if one["kind"] == "candidate")
    if ks != [1, 2, 3, 4] and (ks or case["state"] == "AWAITING_SELECTION"):
        which = found.duplicate if len(ks) > 4 else found.stuck
        which.append(f"{name}: round {turn['round']} has candidates {ks}")


def found_deliveries(case: dict[str, Any], found: Audit) -> None:
    """Every result reached its destinations; the peer alone may refuse one, with a reason."""
    for one in (result for turn in case["rounds"] for result in turn["results"]):
        what = f"case {case['case']}: {one['kind']} {one['k']}"
        for delivery in one["deliveries"]:
            reason = delivery["reason"]
            if delivery["state"] == "pending":
                found.stuck.append(f"{what} undelivered: {reason}")
            elif delivery["state"] == "parked" and reason.startswith(_OURS):
                found.lost.append(f"{what} parked: {reason}")
            elif delivery["state"] == "parked" and not reason:
                found.unexplained.append(f"{what} parked without reason")


def _pacs(site: Site, cases: Sequence[dict[str, Any]], found: Audit) -> None:
    """What the PACS confirmed it has; it has nothing of ours that we do not know, and nothing twice."""
    held = Counter(str(site.orthanc.tags(one)["SOPInstanceUID"]) for one in site.orthanc.instances())
    results = [one for case in cases for turn in case["rounds"] for one in turn["results"]]
    for one in results:
        confirmed = any(delivery["state"] == "confirmed" for delivery in one["deliveries"])
        if confirmed and one["sop_instance_uid"] not in held:
            found.lost.append(f"{one['kind']} …{one['sop_instance_uid'][-8:]} confirmed, but not in the PACS")
    ours = Counter(one["sop_instance_uid"] for one in results)
    found.duplicate += [f"result …{uid[-8:]} exists {n} times" for uid, n in ours.items() if n > 1]
    found.duplicate += [f"…{uid[-8:]} in the PACS is no result" for uid in held if uid not in ours]
