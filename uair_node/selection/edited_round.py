"""Read an edited SEG or an RTSTRUCT: the round that it answers, and its content.

The viewer gave the object new UIDs. So the node finds the round by the images on which the object was drawn.
The node reads an object before it accepts the object. If the object cannot be used, then the node refuses the
object at once with the reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from dicom_config.codes import SelectionClass
from dicom_config.errors import InputError
from dicom_config.modalities import ModalityProfile
from uair_node.cases.reader_choice import LIVER, ReaderChoice, target_name
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, CaseInstance, Instance
from uair_node.context import Context
from uair_node.delivery.outstanding import final_words
from uair_node.dicom.edited_segmentation import EditedSegmentation, unrecognised
from uair_node.dicom.readers import Reading
from uair_node.dicom.rtstruct_reader import read_structures
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import read_geometry
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.results.uids import lesion_uid
from uair_node.selection.decision import refusal_of
from uair_node.selection.match import main_candidate
from uair_node.storage.artifacts import (
    Labels,
    StoredCandidate,
    labels_digest,
    load_candidates,
    save_candidates,
    taken,
)

CHARACTER = "edited by the reader"
_FOREIGN_CHARACTER = "drawn by another writer"
_WAITING = (CaseState.AWAITING_SELECTION, CaseState.REFINING)
_CLOSED = (CaseState.ACCEPTED, CaseState.EXPIRED, CaseState.FAILED)
Voxels = NDArray[np.intp]  # flat indices into (Z, Y, X); masks of all targets would need too much memory


@dataclass(frozen=True)
class EditedRound:
    """The open round that an edited SEG or RTSTRUCT answers.

    Parameters
    ----------
    candidates, all_candidates
        SOP Instance UIDs of the round's candidates, and of the candidates of all rounds.
    lesions
        Numbers of the lesions that the case had in any round.
    case_digest, series_paths, folder
        Digest of the case, its series files, and the folder of the round's artifacts.
    """

    candidates: tuple[str, ...]
    all_candidates: frozenset[str]
    lesions: frozenset[int]
    case_digest: str
    series_paths: tuple[Path, ...]
    folder: Path


@dataclass(frozen=True)
class Drawn:
    """The content of a returned SEG or RTSTRUCT.

    Parameters
    ----------
    part
        The object's labels on the source grid. `part.character` shows whether the object is an edit of a
        candidate.
    offered
        The round's candidates.
    remark
        Sentences for the reader about new lesions and about segments that were left out.
    """

    part: StoredCandidate
    offered: Sequence[StoredCandidate]
    remark: str

    @property
    def partial(self) -> bool:
        """Whether the object lacks a target of the most similar candidate.

        If it lacks a target, then the reader may send more objects that belong to the same answer.
        """
        labels = self.part.labels
        k = main_candidate(_origins(_targets_of(self.offered, [labels]), self.offered))
        (base,) = (candidate for candidate in self.offered if candidate.k == k)
        return not set(_values(base.labels)) <= set(_values(labels))


@dataclass(frozen=True)
class Edit:
    """An answer that consists of segmentations, and the path of the merged labels.

    The path is empty if every target is equal to a candidate's target.
    """

    answer: ReaderChoice
    artifact: str


def find_edited_round(context: Context, reading: Reading) -> EditedRound | None:
    """Return the open round that a returned object answers; None if there is no such round.

    Usually the object names images of the round's case, on which it was drawn. If the object names no image
    of a waiting case, then a waiting case of the same series or study counts. A later check then tells the
    reader why the object cannot be used.

    Raises
    ------
    InputError
        ``case-closed``: the case does not wait for an answer. ``round-closed``: the next candidates are being
        computed or sent, and only the study matches.
    """
    with context.database.reading() as session:
        case = _answered_case(session, reading)
        if case is None or case.offered_round is None:
            return None
        round_ = case.offered_round
        every = [candidate for turn in case.rounds for candidate in turn.candidates]
        series = [instance.path for instance in case.instances]
    return EditedRound(
        candidates=tuple(candidate.sop_instance_uid for candidate in round_.candidates),
        all_candidates=frozenset(candidate.sop_instance_uid for candidate in every),
        lesions=frozenset(
            value - LIVER for candidate in every for value in candidate.targets if value > LIVER
        ),
        case_digest=case.digest,
        series_paths=context.store.fetch_all(series),
        folder=context.store.fetch_folder(round_.artifacts, [CANDIDATES_FILE]),
    )


def _answered_case(session: Session, reading: Reading) -> Case | None:
    """Return the case that a returned object answers; None if there is no such case.

    The function raises the errors of `find_edited_round`.
    """
    on_images: ColumnElement[bool] = Case.id.in_(
        select(CaseInstance.case_id)
        .join(Instance, Instance.id == CaseInstance.instance_id)
        .where(Instance.sop_instance_uid.in_(reading.source_references))
    )
    of_series = Case.series_instance_uid.in_(reading.series_references)
    # Two series may share SOP Instance UIDs. Then the named series decides, in every state of its case.
    on_both = and_(on_images, of_series)
    if _newest(session, Case.state.in_((*_WAITING, *_CLOSED)), on_both) is not None:
        on_images = on_both
    of_study = Case.study_instance_uid == reading.study_instance_uid
    waiting = Case.state.in_(_WAITING)
    case = next(filter(None, (_newest(session, waiting, match) for match in (on_images, of_series))), None)
    if case is None:
        closed = _newest(session, Case.state.in_(_CLOSED), on_images)
        if closed is not None:
            raise refusal_of(closed.id, closed.state, len(closed.rounds), final_words(session, closed))
        case = _newest(session, waiting, of_study)
        if case is not None and case.state == CaseState.REFINING:
            raise refusal_of(case.id, case.state, len(case.rounds), final_words(session, case))
    return case


def _newest(session: Session, *conditions: ColumnElement[bool]) -> Case | None:
    return session.scalars(select(Case).where(*conditions).order_by(Case.id.desc()).limit(1)).first()


def read_drawn(dataset: Dataset, edited: EditedRound, known: Sequence[ModalityProfile]) -> Drawn:
    """Read an edited SEG or an RTSTRUCT as labels on the source grid.

    `known` are the modality profiles of the node.

    Raises
    ------
    InputError
        An error of `uair_node.dicom.seg_reader.read_edited` or
        `uair_node.dicom.rtstruct_reader.read_structures`, or ``edited-unrecognised``.
    """
    volume = read_geometry(edited.series_paths, known)
    offered = load_candidates(edited.folder / CANDIDATES_FILE)
    known_targets = KnownTargets(
        lesion_of_tracking={lesion_uid(edited.case_digest, n): n for n in range(1, 255)},
        offered=[candidate.labels for candidate in offered],
        used=edited.lesions,
        candidate_uids=edited.all_candidates,
    )
    structures = dataset.SOPClassUID == SelectionClass.RT_STRUCTURE_SET
    found = (read_structures if structures else read_edited)(dataset, volume, known_targets)
    # A SEG contains what the reader saved, so each unrecognised segment is an error. A structure set contains
    # all structures of a treatment plan, so only lesions outside of the organ are an error.
    refused = found.targets.outside if structures else found.targets.unrecognised
    if refused:
        raise unrecognised(found, volume.profile.organ.name)
    character = CHARACTER if found.targets.is_edit else _FOREIGN_CHARACTER
    remark = _remark(found, offered, volume.profile.organ.name)
    return Drawn(StoredCandidate(0, found.labels, character), offered, remark)


def _remark(found: EditedSegmentation, offered: Sequence[StoredCandidate], organ: str) -> str:
    """Return sentences for the reader about new lesions, segments left out, and lesions that stay."""
    targets, sentences = found.targets, []
    for number in targets.added:
        name = target_name(targets.label_of_segment[number])
        how = (
            f", because it lies in the {organ} and has no code or name of another structure"
            if number in targets.unspecified
            else ""
        )
        sentences.append(f"New {name}: {found.names[number]}{how}.")
    left_out = sorted({*targets.ignored, *targets.unrecognised})
    if left_out:
        sentences.append(f"Left out as another structure: {found.speak_of(left_out)}.")
    drawn = set(targets.label_of_segment.values())
    if (
        not targets.is_edit
        and LIVER in drawn
        and {v for candidate in offered for v in _values(candidate.labels)} - drawn
    ):
        sentences.append("The object is not an edit of a candidate. So lesions that the object lacks stay.")
    sentences += found.remarks
    return " ".join(sentences)


def evidence_name(evidence_uid: str, content: str) -> str:
    """Return a name for the files of one object. It depends on the object's UID and on its content.

    Parameters
    ----------
    content
        SHA-256 of the object.
    """
    return hashlib.sha256(f"{evidence_uid} {content}".encode()).hexdigest()


def keep_part(context: Context, edited: EditedRound, drawn: Drawn, name: str) -> str:
    """Save a partial edit in the folder of the round's candidates, and return its path.

    `keep_whole` later merges the partial edits of an answer.

    Parameters
    ----------
    name
        The object's name from `evidence_name`.
    """
    return _save(context, edited.folder / f"part-{name}.npz", drawn.part)


def keep_whole(
    context: Context,
    folder: Path,
    offered: Sequence[StoredCandidate],
    parts: Sequence[StoredCandidate],
    name: str,
) -> Edit:
    """Merge the partial edits `parts` of one answer, and save the result in `folder`.

    If each merged target is equal to a candidate's target, voxel for voxel, then no file is saved.

    Parameters
    ----------
    name
        The name of the object that arrived last, from `evidence_name`.

    Raises
    ------
    InputError
        ``ambiguous-selection``: two partial edits draw the same target differently.
    """
    complete = all(part.character == CHARACTER for part in parts)
    answer, labels = put_together(offered, [part.labels for part in parts], complete=complete)
    if (taken(offered, answer).labels == labels).all():
        return Edit(answer, "")
    assert answer.k is not None
    edit = StoredCandidate(answer.k, labels, CHARACTER)
    artifact = _save(context, folder / f"edit-{name}.npz", edit)
    return Edit(ReaderChoice(answer.k), artifact)


def put_together(
    offered: Sequence[StoredCandidate], parts: Sequence[Labels], *, complete: bool = True
) -> tuple[ReaderChoice, Labels]:
    """Return the most similar candidate for each target, and the merged segmentation ``(Z, Y, X)``.

    `parts` are the partial edits of an answer. If all of them are edits of a candidate (`complete`) and they
    contain the liver, then together they are the whole answer. In this case, the reader deleted each lesion
    that no partial edit contains. Otherwise the partial edits change only the targets that they contain. All
    other targets stay as in the answer's candidate `k`.

    Raises
    ------
    InputError
        ``ambiguous-selection``: two partial edits draw the same target differently.
    """
    drawn = _targets_of(offered, parts)
    origins = _origins(drawn, offered)
    base = main_candidate(origins)
    answer = ReaderChoice(base, {value: k for value, k in origins.items() if k != base})
    if LIVER in drawn:
        labels = np.zeros(parts[0].shape, np.uint8)
        if len(parts) > 1:  # a saved liver has holes at lesions, which other partial edits may replace
            labels[taken(offered, ReaderChoice(origins[LIVER])).labels > LIVER] = LIVER
        labels.reshape(-1)[drawn.pop(LIVER)] = LIVER
        if not complete:
            before = taken(offered, ReaderChoice(base)).labels
            stays = (before > LIVER) & ~np.isin(before, list(drawn))
            labels[stays] = before[stays]
    else:
        labels = taken(offered, ReaderChoice(base)).labels.copy()
        labels[np.isin(labels, list(drawn))] = LIVER
    for value, voxels in sorted(drawn.items()):
        labels.reshape(-1)[voxels] = value
    return answer, labels


def _targets_of(offered: Sequence[StoredCandidate], parts: Sequence[Labels]) -> dict[int, Voxels]:
    known = {value for candidate in offered for value in _values(candidate.labels)}
    found: dict[int, Voxels] = {}
    for labels in parts:
        for value in _values(labels):
            voxels = np.flatnonzero(labels == value)
            number = value
            while number not in known and number in found and not np.array_equal(found[number], voxels):
                number += 1  # both partial edits number new lesions from the same start
            if number in found and not np.array_equal(found[number], voxels):
                raise InputError(
                    "ambiguous-selection",
                    f"Two segmentations that were sent together contain {target_name(value)} with different "
                    "shapes.",
                    "Send each target once.",
                )
            found[number] = voxels
    return found


def _origins(drawn: Mapping[int, Voxels], offered: Sequence[StoredCandidate]) -> dict[int, int]:
    """Return label value -> candidate whose target is most similar to the drawn target (Dice coefficient).

    Often several candidates have the same voxels of a target. The function then chooses the candidate that is
    most similar for the most targets.
    """
    sizes = [_counts(candidate.labels) for candidate in offered]
    most_like: dict[int, set[int]] = {}
    for value, voxels in drawn.items():
        shared = [np.count_nonzero(candidate.labels.reshape(-1)[voxels] == value) for candidate in offered]
        dice = [2.0 * n / (len(voxels) + int(size[value])) for n, size in zip(shared, sizes, strict=True)]
        most_like[value] = {candidate.k for candidate, d in zip(offered, dice, strict=True) if d == max(dice)}
    votes = Counter(k for ks in most_like.values() for k in ks)
    return {value: min(ks, key=lambda k: (-votes[k], k)) for value, ks in most_like.items()}


def _values(labels: Labels) -> list[int]:
    return [int(value) for value in np.flatnonzero(_counts(labels)) if value]


def _counts(labels: Labels) -> NDArray[np.int64]:
    # bincount converts its input to 8 bytes for each voxel, so the slices are counted one by one.
    return np.sum([np.bincount(plane.ravel(), minlength=256) for plane in labels], axis=0)


def _save(context: Context, path: Path, drawn: StoredCandidate) -> str:
    # The file name contains a digest of the content. So no file is overwritten if an object is saved again
    # under its UID.
    path = path.with_name(f"{path.stem}-{labels_digest([drawn])}.npz")
    save_candidates(path, [drawn])
    return context.store.share(path)
