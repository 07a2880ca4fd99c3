"""A SEG that the reader edited in a viewer: which round it answers, and what it draws.

The viewer gave it new UIDs, so it is matched by the images that it was drawn on. It is read before it is
accepted, so that one that cannot be used is refused at once, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from uair_node.artifacts import Labels, StoredCandidate, load_candidates, save_candidates
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance
from uair_node.context import Context
from uair_node.results.source import CANDIDATES_FILE
from uair_node.results.uids import lesion_uid
from uair_node.selection.edited import read_edited
from uair_node.selection.readers import Reading
from uair_node.volume import read_geometry

TRAIT = "edited by the reader"
_LIVER = 1
_CLOSED = (CaseState.REFINING, CaseState.ACCEPTED, CaseState.EXPIRED, CaseState.FAILED)


@dataclass(frozen=True)
class EditedRound:
    """The open round that an edited SEG answers."""

    candidates: tuple[str, ...]
    case_digest: str
    series_paths: tuple[Path, ...]
    folder: Path


@dataclass(frozen=True)
class Edit:
    """An edited segmentation, kept as an artifact; `nearest` is the candidate's UID that it is most like."""

    artifact: str
    nearest: str


def find_edited_round(context: Context, session: Session, reading: Reading) -> EditedRound | None:
    """Return the round that waits for a reader and that a SEG answers, if there is one.

    That is the one on the images that it was drawn on; a SEG that names none of them is held against a round
    of its series or study, so that the reader learns why it cannot be used.

    Raises
    ------
    InputError
        ``case-closed``: drawn on the images of a case that waits for nobody.
    """
    on_images = Case.id.in_(
        select(CaseInstance.case_id)
        .join(Instance, Instance.id == CaseInstance.instance_id)
        .where(Instance.sop_instance_uid.in_(reading.source_references))
    )
    of_series = Case.series_instance_uid.in_(reading.series_references)
    of_study = Case.study_instance_uid == reading.study_instance_uid
    waiting = Case.state == CaseState.AWAITING_SELECTION
    case = next(filter(None, (_newest(session, waiting, match) for match in (on_images, of_series))), None)
    if case is None:
        closed = _newest(session, Case.state.in_(_CLOSED), on_images)
        if closed is not None:
            raise InputError(
                "case-closed",
                f"The case is {closed.state}; nothing can be picked in it now.",
                "While it is REFINING, wait for the next four candidates and edit one of these.",
            )
        case = _newest(session, waiting, of_study)
    if case is None or case.current_round is None:
        return None
    store = context.store
    return EditedRound(
        candidates=tuple(one.sop_instance_uid for one in case.current_round.candidates),
        case_digest=case.digest,
        series_paths=tuple(store.absolute(one.path) for one in case.instances),
        folder=store.absolute(case.current_round.artifacts),
    )


def _newest(session: Session, *conditions: ColumnElement[bool]) -> Case | None:
    return session.scalars(select(Case).where(*conditions).order_by(Case.id.desc()).limit(1)).first()


def read_edit(context: Context, dataset: Dataset, edited: EditedRound) -> Edit:
    """Read an edited SEG onto the source grid and keep it beside the round's candidates.

    Raises
    ------
    InputError
        What `uair_node.selection.edited.read_edited` finds, or ``edited-unrecognised``.
    """
    volume = read_geometry(edited.series_paths)
    offered = load_candidates(edited.folder / CANDIDATES_FILE)
    lesions = {lesion_uid(edited.case_digest, n): n for n in range(1, 255)}
    found = read_edited(dataset, volume, lesions, reference=offered[0].labels)
    if found.unrecognised:
        raise InputError(
            "edited-unrecognised",
            f"Segments {', '.join(map(str, found.unrecognised))} are neither liver nor lesion.",
            "Name new segments 'liver' or 'lesion', or delete them.",
        )
    nearest = max(range(len(offered)), key=lambda n: int(np.sum(offered[n].labels == found.labels)))
    k, labels = offered[nearest].k, _with_liver(found.labels, offered[nearest].labels)
    path = edited.folder / f"edit-{dataset.SOPInstanceUID[-24:]}.npz"
    save_candidates(path, [StoredCandidate(k, labels, TRAIT)])
    return Edit(context.store.relative(path), edited.candidates[nearest])


def _with_liver(drawn: Labels, candidate: Labels) -> Labels:
    """Return an edit with the candidate's liver where it has none: only the lesions were sent, or drawn."""
    if (drawn == _LIVER).any():
        return drawn
    return np.where((drawn == 0) & (candidate > 0), _LIVER, drawn).astype(np.uint8)
