"""Use another system's segmentation as the reference of a case's first round or next round.

If the first round of a case is not published yet, then the node keeps the object until it computes that
round. If a case waits for a reader, then its next round starts from the object at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydicom import Dataset, dcmread
from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.lock import lock_case
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, Result, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.delivery.outstanding import final_words
from uair_node.dicom.readers import DRAWN, Reading, read_selection
from uair_node.dicom.volume import read_geometry
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.decision import refusal_of
from uair_node.selection.edited_round import evidence_name, find_edited_round
from uair_node.selection.patients import check_patient_of
from uair_node.selection.service import Evidence, hold_start, record_refusal, select_by_edit
from uair_node.selection.start_reference import CHARACTER, read_reference
from uair_node.storage.artifacts import StoredCandidate, labels_digest, load_candidates, save_candidates

_PENDING = (CaseState.RECEIVING, CaseState.READY, CaseState.SEGMENTING)
_OPEN = (*_PENDING, CaseState.AWAITING_SELECTION, CaseState.REFINING)


def take_start(context: Context, dataset: Dataset, evidence: Evidence, path: Path | None) -> None:
    """Start a case from a received object, or record the reason why the object cannot be used.

    Parameters
    ----------
    path
        Path of the object's file; None if files of this SOP Class are not kept. The file is kept if the first
        round of the case is not published yet.
    """
    try:
        reading = _read(context, dataset)
        with context.database.reading() as session:
            case = _case_of(session, reading)
            case_id, pending = case.id, case.state in _PENDING
            slice_name = _a_slice(session, case)
        check_patient_of(context, reading, slice_name)
        if pending and path is not None and _is_held(context, evidence, case_id, path):
            return
        _answer(context, dataset, evidence, reading)
    except InputError as refusal:
        with context.database.transaction() as session:
            record_refusal(session, evidence, refusal, [])


def answer_with_starts(context: Context) -> int:
    """Apply kept objects of cases whose first round is published. Return the number of these objects.

    The computation of the first round uses most kept objects. This function handles objects that arrived too
    late for that computation.
    """
    with context.database.reading() as session:
        held = session.scalars(
            select(Selection.id)
            .join(Case, Case.id == Selection.case_id)
            .where(
                Selection.outcome == SelectionOutcome.HELD,
                Selection.verb == Verb.START.value,
                Case.state.not_in(_PENDING),
            )
            .order_by(Selection.id)
        ).all()
    return sum(_apply_held(context, selection_id) for selection_id in held)


def held_start(session: Session, case: Case) -> Selection | None:
    """Return the newest object that is kept for a case's first round; None if there is none."""
    return session.scalars(
        select(Selection)
        .where(
            Selection.case_id == case.id,
            Selection.outcome == SelectionOutcome.HELD,
            Selection.verb == Verb.START.value,
        )
        .order_by(Selection.id.desc())
        .limit(1)
    ).first()


def _read(context: Context, dataset: Dataset) -> Reading:
    reading = read_selection(dataset)
    if reading.mechanism not in DRAWN:
        raise InputError(
            "start-not-a-segmentation",
            "A case can start from a SEG or an RTSTRUCT only.",
            "Send the segmentation itself.",
        )
    with context.database.reading() as session:
        own = session.scalar(
            select(Result.id).where(Result.sop_instance_uid == reading.sop_instance_uid).limit(1)
        )
    if own is not None:
        raise InputError(
            "own-object",
            "This is an object of ours; it starts no case.",
            "Send a candidate to the AE title for picks (UAIR_PICK).",
        )
    return reading


def _case_of(session: Session, reading: Reading) -> Case:
    """Return the case that an object starts: the newest open case of the series on which it was drawn.

    Raises
    ------
    InputError
        ``start-series-unknown``: the series has no case. ``case-closed``: the series has no open case.
    """
    drawn_on = select(Instance.series_instance_uid).where(
        Instance.sop_instance_uid.in_(reading.source_references), Instance.status == InstanceStatus.STORED
    )
    of_series = or_(
        Case.series_instance_uid.in_(reading.series_references), Case.series_instance_uid.in_(drawn_on)
    )
    newest = select(Case).where(of_series).order_by(Case.id.desc()).limit(1)
    case = session.scalars(newest.where(Case.state.in_(_OPEN))).first() or session.scalars(newest).first()
    if case is None:
        raise InputError(
            "start-series-unknown",
            "The node does not hold the series that this segmentation was drawn on.",
            "Send the series to the AE title for series (UAIR) first, then the segmentation again.",
        )
    if case.state not in _OPEN:
        raise refusal_of(case.id, case.state, len(case.rounds), final_words(session, case))
    return case


def _a_slice(session: Session, case: Case) -> str:
    found = session.scalar(
        select(Instance.path)
        .where(
            Instance.series_instance_uid == case.series_instance_uid,
            Instance.status == InstanceStatus.STORED,
        )
        .limit(1)
    )
    return found or ""


def _is_held(context: Context, evidence: Evidence, case_id: int, path: Path) -> bool:
    """Keep an object for the first round of a case. Return False if that round has been published."""
    evidence = replace(evidence, artifact=context.store.share(path))
    with context.database.transaction() as session:
        case = lock_case(session, case_id)
        if case.state not in _PENDING:
            return False
        hold_start(session, evidence, case)
    return True


def _answer(context: Context, dataset: Dataset, evidence: Evidence, reading: Reading) -> None:
    """Start the next round of an open case from an object."""
    edited = find_edited_round(context, reading)
    if edited is None:
        raise InputError(
            "start-series-unknown",
            "No open case belongs to the series that this segmentation was drawn on.",
            "Send the series to the AE title for series (UAIR) first, then the segmentation again.",
        )
    volume = read_geometry(edited.series_paths, context.settings.intake.known)
    offered = [candidate.labels for candidate in load_candidates(edited.folder / CANDIDATES_FILE)]
    reference = read_reference(dataset, volume, offered, edited.lesions)
    kept = StoredCandidate(1, reference.labels, CHARACTER)
    name = evidence_name(evidence.evidence_uid, evidence.evidence_sha256)
    path = edited.folder / f"start-{name}-{labels_digest([kept])}.npz"
    save_candidates(path, [kept])
    said = replace(evidence, artifact=context.store.share(path), remark=reference.remark)
    with context.database.transaction() as session:
        select_by_edit(session, said, edited.candidates, ReaderChoice(1), reading.study_instance_uid)


def _apply_held(context: Context, selection_id: int) -> bool:
    with context.database.reading() as session:
        held = session.get_one(Selection, selection_id)
        evidence = Evidence(
            Verb.START,
            held.mechanism,
            held.calling_ae,
            held.evidence_uid,
            study_uid=session.get_one(Case, held.case_id).study_instance_uid,
            evidence_sha256=held.evidence_sha256,
        )
        path = context.store.fetch_if_kept(held.artifact)
    if path is not None:
        take_start(context, dcmread(path), evidence, path)
    with context.database.transaction() as session:
        if path is None:
            gone = InputError(
                "part-unreadable",
                "The node no longer keeps the segmentation.",
                "Send the segmentation to UAIR_START again.",
            )
            record_refusal(session, evidence, gone, [])
        # A new row records the outcome of the object.
        session.execute(delete(Selection).where(Selection.id == selection_id))
    return path is not None
