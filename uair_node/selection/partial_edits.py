"""Merge partial edits that a sender sent together into a single answer.

A partial edit, here also called a part, is a SEG with only some targets. For example, a viewer can save
lesion 1 of candidate 2 as a SEG, and lesion 2 of candidate 3 as another SEG. The node holds each SEG in a
row. The node merges these SEGs when their sender has sent no further SEG for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError
from dicom_config.model import Verb
from uair_node.cases.clock import database_now
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.edited_round import evidence_name, keep_whole
from uair_node.selection.service import apply_parts, refuse_parts
from uair_node.storage.artifacts import load_candidates
from uair_node.work.performer import error_line

log = logging.getLogger(__name__)

_GROUP = (Selection.case_id, Selection.round_number, Selection.verb, Selection.calling_ae)


def answer_with_parts(context: Context) -> int:
    """Merge and apply held parts if no further part arrived in time. Return the number of answers."""
    return sum(_is_answered(context, ids) for ids in _quiet_groups(context))


def _is_answered(context: Context, ids: Sequence[int]) -> bool:
    """Apply one group of parts as an answer. Return False if the group waits or is refused.

    If a part cannot be read, then this group is refused, and the other groups continue.
    """
    try:
        _answer(context, ids)
    except TransientError as error:
        log.warning("held parts wait: %s", error.log_line)
        patience_s = 0 if error.code == "artifact-unreadable" else context.settings.intake.max_wait_s
        _refuse(context, ids, patience_s)
        return False
    except Exception as error:
        log.error("parts of an answer that waited for the others are refused: %s", error_line(error))
        _refuse(context, ids, 0)
        return False
    return True


def _refuse(context: Context, ids: Sequence[int], patience_s: float) -> None:
    """Refuse parts that cannot be read, if the last part was received at least `patience_s` seconds ago."""
    unreadable = InputError(
        "part-unreadable",
        "The node can no longer read a segmentation of this answer.",
        "Send all segmentations of the answer again.",
    )
    with context.database.transaction() as session:
        held = _held(session, ids)
        before = database_now(session) - timedelta(seconds=patience_s)
        if all(part.received_at <= before for part in held):
            refuse_parts(session, held, unreadable)


def _quiet_groups(context: Context) -> list[list[int]]:
    held = and_(Selection.outcome == SelectionOutcome.HELD, Selection.verb != Verb.START.value)
    with context.database.reading() as session:
        quiet_since = database_now(session) - timedelta(seconds=context.settings.intake.partial_edit_wait_s)
        quiet = session.execute(
            select(*_GROUP)
            .where(held)
            .group_by(*_GROUP)
            .having(func.max(Selection.received_at) <= quiet_since)
        ).all()
        return [
            list(
                session.scalars(
                    select(Selection.id)
                    .where(held, *(column == value for column, value in zip(_GROUP, group, strict=True)))
                    .order_by(Selection.id)
                )
            )
            for group in quiet
        ]


def _answer(context: Context, ids: Sequence[int]) -> None:
    with context.database.reading() as session:
        held = _held(session, ids)
        last = held[-1]
        name = evidence_name(last.evidence_uid, last.evidence_sha256)
        artifacts = _artifacts(session, last)
    parts = context.store.fetch_all([part.artifact for part in held])
    folder = context.store.fetch_folder(artifacts, [CANDIDATES_FILE])
    refusal: InputError | None = None
    try:
        # Outside of any transaction, because merging takes a second.
        drawn = [load_candidates(path)[0] for path in parts]
        offered = load_candidates(folder / CANDIDATES_FILE)
        edit = keep_whole(context, folder, offered, drawn, name)
    except InputError as error:
        refusal = error
    with context.database.transaction() as session:
        held = _held(session, ids)
        if refusal is not None:
            refuse_parts(session, held, refusal)
        else:
            apply_parts(session, held, edit.answer, edit.artifact)


def _held(session: Session, ids: Sequence[int]) -> Sequence[Selection]:
    return session.scalars(select(Selection).where(Selection.id.in_(ids)).order_by(Selection.id)).all()


def _artifacts(session: Session, part: Selection) -> str:
    case = session.get_one(Case, part.case_id)
    (round_,) = (round_ for round_ in case.rounds if round_.number == part.round_number)
    return round_.artifacts
