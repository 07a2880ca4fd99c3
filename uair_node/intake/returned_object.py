"""Read a returned object, check whether it can be used, and apply it to its case.

`judge` opens no writing transaction. `answer` uses the caller's transaction. `take_edit` opens its own
transaction after it has read the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Result, Selection
from uair_node.context import Context
from uair_node.dicom.readers import DRAWN, MECHANISMS, Mechanism, Reading, read_selection
from uair_node.dicom.seg_content import draws_the_same
from uair_node.intake.register import Identity
from uair_node.network.scp import ReceivedInstance
from uair_node.selection.changed_findings import find_dropped_findings
from uair_node.selection.edited_round import (
    EditedRound,
    evidence_name,
    find_edited_round,
    keep_part,
    keep_whole,
    read_drawn,
)
from uair_node.selection.marked_round import MarkedRound, find_marked_round
from uair_node.selection.match import results_named
from uair_node.selection.patients import check_patient
from uair_node.selection.service import (
    Evidence,
    hold_part,
    record_refusal,
    select_by_edit,
    select_by_marks,
    select_by_object,
)


@dataclass(frozen=True)
class Usable:
    """The content of a usable returned object.

    `edited` is the open round that an edit answers. `marked` is the open round that marks answer.
    """

    reading: Reading
    edited: EditedRound | None
    marked: MarkedRound | None


@dataclass(frozen=True)
class Refused:
    """The reason why a returned object cannot be used, and the SOP Instance UIDs in the object."""

    refusal: InputError
    named: Sequence[str]


def judge(
    context: Context, received: ReceivedInstance, identity: Identity, dataset: Dataset
) -> Usable | Refused:
    """Read a returned object and the files of its case, outside of any writing transaction."""
    drawn_anew = _drawn_anew(context, identity, dataset)
    named: Sequence[str] = ()
    try:
        _check_allowed(context, received)
        reading = read_selection(dataset)
        edited = _edited_round(context, reading, drawn_anew)
        marked = find_dropped_findings(context, received.verb, reading) or find_marked_round(
            context, received.verb, dataset, reading
        )
        answered = edited or marked
        named = answered.candidates[:1] if answered else reading.references
        check_patient(context, reading, named)
    except InputError as refusal:
        return Refused(refusal, named)
    return Usable(reading, edited, marked)


def answer(session: Session, evidence: Evidence, judged: Usable | Refused) -> Selection | None:
    """Apply a usable object, or record a refusal. Return None for an edit, which `take_edit` applies."""
    if isinstance(judged, Refused):
        return record_refusal(session, evidence, judged.refusal, results_named(session, judged.named))
    if judged.marked is not None:
        return select_by_marks(session, evidence, judged.marked, judged.reading)
    return select_by_object(session, evidence, judged.reading) if judged.edited is None else None


def take_edit(
    context: Context, dataset: Dataset, evidence: Evidence, reading: Reading, edited: EditedRound
) -> None:
    """Read the drawn segments of an edit, and apply them.

    The reading takes a second, so it is outside of any transaction.
    """
    study = reading.study_instance_uid
    if reading.mechanism is Mechanism.SEG:
        evidence = replace(evidence, mechanism="edited-seg")
    name = evidence_name(evidence.evidence_uid, evidence.evidence_sha256)
    try:
        drawn = read_drawn(dataset, edited, context.settings.intake.known)
        evidence = replace(evidence, remark=drawn.remark)
        # A structure set always contains all targets that the reader drew.
        whole = reading.mechanism is Mechanism.STRUCTURES or not drawn.partial
        if not whole and evidence.verb != Verb.REJECT:
            part = keep_part(context, edited, drawn, name)
            with context.database.transaction() as session:
                hold_part(session, replace(evidence, artifact=part), edited.candidates, study)
            return
        edit = keep_whole(context, edited.folder, drawn.offered, [drawn.part], name)
    except InputError as refusal:
        with context.database.transaction() as session:
            record_refusal(session, evidence, refusal, results_named(session, edited.candidates[:1]))
        return
    answer = ReaderChoice(None) if evidence.verb == Verb.REJECT else edit.answer
    with context.database.transaction() as session:
        said = replace(evidence, artifact=edit.artifact)
        select_by_edit(session, said, edited.candidates, answer, study)


def _check_allowed(context: Context, received: ReceivedInstance) -> None:
    """Refuse an object if no allow rule admits its sender to the verb of its tag."""
    node, sender = context.settings.node, (received.calling_ae, received.address)
    if not node.admits(received.verb, *sender, received.certificate):
        raise InputError(
            "tag-not-allowed",
            f"The object's tag has the verb {received.verb}, but no `allow` rule gives its sender this verb.",
            f"Add the verb `{received.verb}` to an `allow` rule of this sender.",
        )


def _drawn_anew(context: Context, identity: Identity, dataset: Dataset) -> bool | None:
    """Return whether an object with the UID of our SEG has other content; None if the UID is not ours."""
    with context.database.reading() as session:
        row = session.execute(
            select(Result.path, Result.sop_class_uid).where(
                Result.sop_instance_uid == identity.sop_instance_uid
            )
        ).first()
    if row is None:
        return None
    if MECHANISMS.get(row.sop_class_uid) is not Mechanism.SEG or not row.path:
        return False  # retention deleted the file: the case ended, and a selection of it is refused
    ours = context.store.fetch_if_kept(row.path)
    return ours is not None and not draws_the_same(dataset, ours)


def _edited_round(context: Context, reading: Reading, drawn_anew: bool | None) -> EditedRound | None:
    """Return the open round that an edited SEG or an RTSTRUCT answers; None if the object is not an edit.

    Raises
    ------
    InputError
        ``edited-case-unknown``: the object is an edit with the UID of our object, and the round is not open.
    """
    if reading.mechanism not in DRAWN or drawn_anew is False:
        return None
    edited = find_edited_round(context, reading)
    if edited is None and drawn_anew:
        raise InputError(
            "edited-case-unknown",
            "The object is an edit of one of our candidates, but its images belong to no open round.",
            "Edit a candidate of the newest round, and send the edit.",
        )
    return edited
