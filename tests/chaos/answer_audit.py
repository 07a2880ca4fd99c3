"""Compare every answer of a run with its row, and every row with its effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.chaos.findings import Audit
from tests.chaos.ledger import Ledger
from uair_node.cases.tables import Case, Selection


def found_answers(session: Session, ledger: Ledger, found: Audit) -> None:
    """Compare the node's replies to readers with the rows, and the rows with their effects."""
    rows = session.scalars(select(Selection).order_by(Selection.id)).all()
    found.answers.outcomes = Counter(str(row.outcome) for row in rows if row.outcome != "held")
    lost = [
        *_dropped(rows, ledger),
        *(f"selection {row.id} is held" for row in rows if row.outcome == "held"),
    ]
    found.lost += lost
    found.answers.lost = len(lost)
    wrong = [what for case in session.scalars(select(Case)) for what in _contradictions(case, rows)]
    wrong += _never_sent(rows, ledger)
    for case_id in sorted(ledger.expired):
        state = session.get_one(Case, case_id).state
        if state not in ("EXPIRED", "SUPERSEDED"):  # a newer version of the series supersedes it later
            wrong.append(f"case {case_id} was said to be expired and is {state}")
    found.wrong += wrong
    found.answers.contradictory = len(wrong)


def _dropped(rows: Sequence[Selection], ledger: Ledger) -> Iterator[str]:
    """Yield each answer that the node accepted and that has no row."""
    kept = Counter((row.evidence_uid, row.verb) for row in rows if row.outcome != "held")
    for uid, verb in (Counter(ledger.answers) - kept).elements():
        yield f"{verb} of …{uid[-8:]} was answered 0000 and has no row"
    by_hand = Counter((row.case_id, row.mechanism, row.verb) for row in rows)
    for case_id, mechanism, verb in (Counter(ledger.told) - by_hand).elements():
        yield f"case {case_id}: {verb} by {mechanism} was said to be done and has no row"


def _never_sent(rows: Sequence[Selection], ledger: Ledger) -> Iterator[str]:
    """Yield each row of an object that readers did not send; nothing if the ledger has no attempts."""
    for row in rows:
        if ledger.attempts and row.evidence_uid and (row.evidence_uid, row.verb) not in ledger.attempts:
            yield f"selection {row.id}: nobody sent {row.verb} of …{row.evidence_uid[-8:]}"


def _contradictions(case: Case, rows: Sequence[Selection]) -> Iterator[str]:
    """Yield the contradictions in a case's history, and between its rounds, its end and its answers."""
    for before, after in pairwise(case.transitions):
        if before.state != after.origin:
            yield f"case {case.id}: {after.state} from {after.origin} after {before.state}"
    own = [row for row in rows if row.case_id == case.id]
    effective = [row for row in own if row.outcome == "effective"]
    numbers = Counter(row.round_number for row in effective)
    for number, count in numbers.items():
        if count > 1:
            yield f"case {case.id}: {count} effective in round {number}"
    accepts = [row for row in effective if row.verb == "accept"]
    if len(accepts) != (case.state == "ACCEPTED"):
        yield f"case {case.id} is {case.state} with {len(accepts)} effective ACCEPT"
    yield from _rounds(case, effective)
    yield from _repetitions(case, own, numbers)


def _rounds(case: Case, effective: Sequence[Selection]) -> Iterator[str]:
    """Yield each effective answer without its next round, and each next round without its answer."""
    started = {round_.number: round_.selection_id for round_ in case.rounds}
    for row in effective:
        follows = started.get((row.round_number or 0) + 1)
        if row.verb != "accept" and follows != row.id:
            yield f"case {case.id}: the round after selection {row.id} follows from {follows}"
        if row.verb == "accept" and follows is not None:
            yield f"case {case.id}: a round follows ACCEPT {row.id}"
    known = {row.id for row in effective}
    for number, selection_id in started.items():
        if number > 1 and selection_id not in known:
            yield f"case {case.id}: round {number} follows from no effective answer"


def _repetitions(case: Case, own: Sequence[Selection], effective: Counter[int | None]) -> Iterator[str]:
    """Yield each repetition without an original, and each replaced answer without a replacement."""
    for row in own:
        before = [other for other in own if other.id < row.id and other.outcome in ("effective", "replaced")]
        said = [(other.verb, other.answer) for other in before]
        if row.outcome == "repeated" and (row.verb, row.answer) not in said:
            yield f"case {case.id}: selection {row.id} repeats nothing"
        if row.outcome == "replaced" and not effective[row.round_number]:
            yield f"case {case.id}: nothing replaced selection {row.id}"
