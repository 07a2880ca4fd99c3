"""The inputs of a round, and the reader's answer in the engine's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uair_node.cases import lifecycle
from uair_node.cases.lock import lock_case
from uair_node.cases.marks import MarkedLesion, Marks, marks_of
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Round, Selection
from uair_node.context import Context
from uair_node.results.priors import find_priors
from uair_node.results.reader_preference import prior_of
from uair_node.results.round_inputs import CANDIDATES_FILE, STATE_FILE
from uair_node.selection.start import held_start
from uair_node.storage.artifacts import StoredCandidate, load_candidates, taken, without_lesions
from uair_node.work.performer import Claim, no_longer_due
from workers import engine as engines
from workers.uair.marks import DrawnMark, MarkedTarget
from workers.uair.preference import NEUTRAL, ReaderPreference
from workers.uair.state import RoundState


@dataclass(frozen=True)
class Start:
    """Another system's segmentation from which round 1 starts: its row and its file."""

    selection_id: int
    path: Path


@dataclass(frozen=True)
class Task:
    """The inputs of a round, read in one transaction. `parent` names the selection that started the round."""

    case_id: int
    round_id: int
    number: int
    content: str
    series_paths: tuple[Path, ...]
    previous_state: Path | None
    offered: Path | None
    answer: ReaderChoice | None
    edited: bool
    marks: Marks | None
    prior: ReaderPreference
    parent: str
    start: Start | None = None

    def selected(self) -> StoredCandidate | None:
        """Load the segmentation that the reader selected before this round.

        None in round 1 and after a rejection of all candidates.
        """
        if self.offered is None or self.answer is None or self.answer.k is None:
            return None
        selected = taken(load_candidates(self.offered), self.answer)
        return without_lesions(selected, self.marks.dropped if self.marks else ())


def begin(context: Context, claim: Claim) -> Task:
    """Mark the case as being computed, and return the inputs of its round.

    Raises
    ------
    TransientError
        ``lease-lost``: another answer replaced the answer that started this round.
    """
    store, preference = context.store, context.settings.engine.preference
    earlier = _earlier(context, claim)
    with context.database.transaction() as session:
        assert claim.case_id is not None, "a computation belongs to a case"
        case = lock_case(session, claim.case_id)
        lifecycle.start_computing(session, case, actor="worker")
        rounds: Mapping[int | None, Round] = {round_.number: round_ for round_ in case.rounds}
        round_ = rounds.get(claim.round_number or 1)
        if round_ is None:  # another answer replaced the answer that started this round
            raise no_longer_due()
        started_by = session.get(Selection, round_.selection_id) if round_.selection_id else None
        # The reader may have gone back to the candidates of an older round.
        previous = rounds.get(started_by.candidates_round) if started_by else None
        series = [instance.path for instance in case.instances]
        prior = _preference_of(prior_of(session, preference, case, round_, earlier=earlier))
        kept = held_start(session, case) if round_.number == 1 else None
    # Files are fetched after the transaction, which locks the case, and on SQLite the whole database.
    offered = None
    if previous and started_by:
        offered = store.fetch(started_by.artifact or f"{previous.artifacts}/{CANDIDATES_FILE}")
    return Task(
        case_id=case.id,
        round_id=round_.id,
        number=round_.number,
        content=case.digest,
        series_paths=store.fetch_all(series),
        previous_state=store.fetch(f"{previous.artifacts}/{STATE_FILE}") if previous else None,
        offered=offered,
        answer=started_by.answer if started_by else None,
        edited=bool(started_by and started_by.artifact),
        marks=marks_of(started_by.marks) if started_by else None,
        parent=_parent(started_by or kept),
        prior=prior,
        start=Start(kept.id, store.fetch(kept.artifact)) if kept else None,
    )


def feedback_of(task: Task) -> engines.Feedback:
    """Return the reader's answer for the engine. An edit is a pick of candidate 1, which it replaced."""
    if task.answer is None or task.answer.k is None:
        return engines.Feedback(rejected_all=True)
    if task.edited:
        return engines.Feedback(1)
    per_part: dict[int, dict[str, int]] = {}
    for (value, name), k in task.answer.per_part.items():
        per_part.setdefault(value, {})[name] = k
    return engines.Feedback(task.answer.k, task.answer.per_target, per_part)


def marked_target(lesion: MarkedLesion) -> MarkedTarget:
    """Return a marked lesion in the engine's form."""
    marks = tuple(DrawnMark(mark.shape, np.array(mark.points, np.float64)) for mark in lesion.marks)
    return MarkedTarget(lesion.value, marks)


def unsaid(marks: Marks, state: RoundState) -> frozenset[int]:
    """Return the label values of the targets for which an answer with marks chooses no candidate.

    If the answer names no candidate, then all targets are returned.
    """
    marked = {lesion.value for lesion in marks.lesions} | set(marks.dropped)
    return frozenset(marked if marks.picked else (target.value for target in state.targets))


def _earlier(context: Context, claim: Claim) -> int | None:
    """Return the id of the patient's last earlier case; None without an earlier case.

    The result is also None if the site does not use earlier cases.
    """
    if claim.case_id is None or not context.settings.results.follow_up:
        return None
    priors = find_priors(context, claim.case_id)
    return priors[-1].case_id if priors else None


def _preference_of(prior: Mapping[str, Any]) -> ReaderPreference:
    return ReaderPreference(prior["liver_mm"], prior["lesion_mm"]) if prior else NEUTRAL


def _parent(selection: Selection | None) -> str:
    """Return the answer and the evidence of the selection that started a round, as text."""
    if selection is None:
        return ""
    marks = marks_of(selection.marks)
    facts = (selection.verb, selection.answer.words, selection.artifact, *([marks.digest] if marks else []))
    return " ".join((*facts, selection.evidence_uid, selection.evidence_sha256))
