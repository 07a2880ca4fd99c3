"""Write rejection notes that hide results in an archive: other candidates, closed rounds, or a whole case.

A note is sent only to destinations whose configuration has `withdraw`. An archive without IHE IOCM would show
the note as a document. A note names exactly the objects that its destination got.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.model import PageSeries
from uair_node.cases import lifecycle, work_items
from uair_node.cases.arrivals import round_that_closes_others
from uair_node.cases.codes import CaseCode
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import Case, Delivery, Result, ResultKind, Round, WorkItem
from uair_node.context import Context
from uair_node.dicom.readers import read_selection
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.rejection import RejectionRequest, Withdrawn, write_rejection
from uair_node.results.result_writer import keep_result
from uair_node.results.round_inputs import RoundInputs, read_round_inputs
from uair_node.work.performer import Claim, Commit

log = logging.getLogger(__name__)

SUPERSEDED_BY_FINAL = "the final one replaces them"
_REPLACED = "more or newer slices of the series arrived"
_SOURCE_REJECTED = "the archive rejected the source images"
_ROUND_CLOSED = "closed rounds: the next candidates are there"
_FINALS = (ResultKind.FINAL, ResultKind.FINAL_PAGE, ResultKind.REPORT, ResultKind.STRUCTURES)
_WITHDRAWN = (*lifecycle.OFFERED_KINDS, ResultKind.NOTICE)


@dataclass(frozen=True)
class _Group:
    """The results to withdraw at the destinations that got the same objects. `variant` names the group."""

    variant: str
    destinations: tuple[str, ...]
    instances: tuple[Withdrawn, ...]


def withdraw(context: Context, claim: Claim) -> Commit:
    """Write the notes that withdraw all results of a superseded case, or of a case with rejected images.

    If retention has deleted the case's files, then the headers come from another case of the same series,
    study and patient. Without another case, no note is written, and the case's row gets the code
    ``not-withdrawn``.
    """
    with context.database.reading() as session:
        rejected = session.get_one(Case, claim.case_id).code == CaseCode.SOURCE_REJECTED
    reason = _SOURCE_REJECTED if rejected else _REPLACED
    groups = _groups(context, claim, _kinds(context, claim, reason), context.withdrawing)
    if not groups:
        return _close
    inputs = read_round_inputs(context, claim)
    paths = inputs.series_paths or _paths_of_sibling(context, claim)
    if not paths:
        return _leave
    notes = _write_notes(context, inputs, groups, read_geometry(paths), 0, reason)

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, inputs.round_id), notes)
        work_items.close(item)

    return commit


def withdraw_closed_rounds(context: Context, claim: Claim) -> Commit:
    """Write the notes that withdraw earlier rounds, for destinations at which the claimed round arrived.

    Pages stay if they are in the same series as the pages of the claimed round.
    """
    assert claim.case_id is not None, "the work belongs to a case"
    assert claim.round_number is not None, "the work belongs to a round"
    with context.database.reading() as session:
        arrived = [
            name
            for name in context.withdrawing_each_round
            if round_that_closes_others(session, claim.case_id, name) == claim.round_number
        ]
    in_one_series = context.settings.results.page_series == PageSeries.CASE
    kinds = (ResultKind.CANDIDATE,) if in_one_series else lifecycle.OFFERED_KINDS
    groups = _groups(context, claim, kinds, arrived, before=claim.round_number)
    if not groups:
        return _close
    inputs = read_round_inputs(context, claim)
    volume = read_geometry(inputs.series_paths, context.settings.intake.known)
    notes = _write_notes(context, inputs, groups, volume, 0, _ROUND_CLOSED)

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, inputs.round_id), notes)
        work_items.close(item)

    return commit


def _close(_session: Session, item: WorkItem) -> None:
    work_items.close(item)


def _leave(session: Session, item: WorkItem) -> None:
    """Record that results stay in archives because no note can be written. A retry would not help."""
    case = session.get_one(Case, item.case_id)
    case.code = CaseCode.NOT_WITHDRAWN
    stay = "The results of this case stay in archives, because retention has deleted its images."
    case.sentence = f"{case.sentence} {stay}".strip()
    case.remedy = f"Reject the results in the archive by hand. `uair case show {case.id} --json` names them."
    log.warning("case %d: %s", case.id, case.code)
    work_items.close(item)


def _paths_of_sibling(context: Context, claim: Claim) -> tuple[Path, ...]:
    """Return the files of the newest case of the same series, study and patient; empty if there is none."""
    with context.database.reading() as session:
        case = session.get_one(Case, claim.case_id)
        same = (Case.series_instance_uid, Case.study_instance_uid, Case.patient_key)
        siblings = select(Case).where(*(column == getattr(case, column.key) for column in same))
        newest = siblings.where(Case.instances.any()).order_by(Case.id.desc()).limit(1)
        sibling = session.scalars(newest).first()
        names = [instance.path for instance in sibling.instances] if sibling else []
    return context.store.fetch_all(names)


def write_withdrawals(
    context: Context, claim: Claim, inputs: RoundInputs, volume: Volume, k: int, reason: str
) -> list[NewResult]:
    """Write a note for each group of destinations that got the same candidates, pages and notices.

    Parameters
    ----------
    k
        The candidate that remains; 0 if none remains.
    reason
        The reason in words.
    """
    groups = _groups(context, claim, _kinds(context, claim, reason), context.withdrawing)
    return _write_notes(context, inputs, groups, volume, k, reason)


def _write_notes(
    context: Context, inputs: RoundInputs, groups: Sequence[_Group], volume: Volume, k: int, reason: str
) -> list[NewResult]:
    """Write a note for each group of destinations.

    If the destinations of a group get a note after each round, then these notes are in a single series of the
    case.
    """
    notes = []
    for group in groups:
        names = [instance.sop_instance_uid for instance in group.instances]
        instance_uid, series_uid = inputs.uids(ResultKind.WITHDRAWAL, k, group.variant, names=names)
        request = RejectionRequest(instance_uid, series_uid, reason, inputs.provenance)
        if set(group.destinations) <= set(context.withdrawing_each_round):
            request = RejectionRequest(
                instance_uid,
                inputs.case_series_uid(ResultKind.WITHDRAWAL),
                reason,
                inputs.case_provenance,
                number_of_case=inputs.number + (reason != _ROUND_CLOSED),
            )
        note = write_rejection(volume, group.instances, request)
        path = inputs.own_folder / f"UAIR-WITHDRAWAL{'-' + group.variant if group.variant else ''}.dcm"
        notes.append(keep_result(context, note, path, ResultKind.WITHDRAWAL, k, "", group.destinations))
    return notes


def _kinds(context: Context, claim: Claim, reason: str) -> tuple[ResultKind, ...]:
    """Return the kinds of results to withdraw. If images were rejected, then the notice about this stays."""
    if reason != _SOURCE_REJECTED:
        return _WITHDRAWN
    with context.database.reading() as session:
        final = select(Result.id).join(Result.round)
        final = final.where(Round.case_id == claim.case_id, Result.kind == ResultKind.FINAL)
        accepted = session.scalar(final.limit(1)) is not None
    return _FINALS if accepted else lifecycle.OFFERED_KINDS


def _groups(
    context: Context,
    claim: Claim,
    kinds: Sequence[ResultKind],
    destinations: Sequence[str],
    before: int | None = None,
) -> list[_Group]:
    """Return the results that each destination got and that no earlier note withdrew.

    Destinations with the same results are in one group, because a note must not name other objects.

    Parameters
    ----------
    before
        Withdraw only rounds before this number; None for all rounds.
    """
    groups: dict[tuple[Withdrawn, ...], list[str]] = {}
    for name in destinations:
        sent = (
            select(Result)
            .join(Result.round)
            .join(Delivery, Delivery.result_id == Result.id)
            .where(Round.case_id == claim.case_id, Delivery.destination == name)
            .order_by(Result.id)
        )
        of_rounds = sent if before is None else sent.where(Round.number < before)
        with context.database.reading() as session:
            rows = session.scalars(of_rounds.where(Result.kind.in_(kinds))).all()
            notes = session.scalars(sent.where(Result.kind == ResultKind.WITHDRAWAL)).all()
            paths = [note.path for note in notes if note.path]
        gone = _named_in(context, paths)
        got = (
            Withdrawn(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid)
            for row in rows
            if row.sop_instance_uid not in gone
        )
        groups.setdefault(tuple(got), []).append(name)
    return [
        _Group(str(n) if n else "", tuple(names), instances)
        for n, (instances, names) in enumerate(groups.items())
        if instances
    ]


def _named_in(context: Context, paths: Sequence[str]) -> set[str]:
    """Return the SOP Instance UIDs that earlier notes withdrew."""
    files = [context.store.fetch_if_kept(path) for path in paths]
    return {uid for file in files if file is not None for uid in read_selection(dcmread(file)).references}
