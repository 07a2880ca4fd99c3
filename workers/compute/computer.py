"""Compute one round of a case: load the series, run the engine, keep the four label volumes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.modalities import ModalityProfile
from uair_node import __version__
from uair_node.cases import lifecycle, work_items
from uair_node.cases.reader_choice import LIVER, ReaderChoice
from uair_node.cases.reasons import refuse
from uair_node.cases.tables import Case, Round, Selection, SelectionOutcome, WorkItem
from uair_node.context import Context
from uair_node.dicom.grid_points import points_to_source
from uair_node.dicom.intensity import on_training_scale
from uair_node.dicom.volume import CanonicalVolume, Volume, read_geometry, read_series
from uair_node.results.round_inputs import (
    CANDIDATES_FILE,
    ROUND_FILES,
    START_FILE,
    STATE_FILE,
    UNCERTAIN_FILE,
)
from uair_node.selection.start import held_start
from uair_node.selection.start_reference import CHARACTER, Reference, read_reference
from uair_node.storage.artifacts import (
    StoredCandidate,
    TargetParts,
    labels_digest,
    reading_artifact,
    save_candidates,
    save_region,
)
from uair_node.storage.store import write_durably
from uair_node.work.performer import Claim, Commit
from uair_node.work.stopwatch import Stopwatch
from workers import engine as engines
from workers.compute.round_task import Task, begin, feedback_of, marked_target, unsaid
from workers.search.archived_start import take_found_start
from workers.site_engine import build_engine
from workers.uair.compose import Labels
from workers.uair.edits import adopt_edit, keep_selected
from workers.uair.marks import take_marked, without
from workers.uair.rounds import own_radii_mm
from workers.uair.state import RoundState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """The outcome of a `Start`: the reference, or the reason why the segmentation cannot be used.

    Attributes
    ----------
    own_mm
        Label value -> radius in mm of the model's own mean, without the other system's segmentation.
    """

    selection_id: int
    own_mm: Mapping[int, float]
    reference: Reference | None = None
    refusal: InputError | None = None


@dataclass(frozen=True)
class _Done:
    """A computed round: its result, seconds and digest, and the outcome of its start (see `Started`)."""

    made: engines.Round
    seconds: float
    content: str
    started: Started | None
    artifact: str


class SeriesVoxels:
    """The canonical voxels of a series on the networks' scale. They are decoded when first needed.

    Most later rounds do not need voxels, because embeddings are kept.

    Parameters
    ----------
    paths
        The series' files.
    shape
        The shape of the canonical volume.
    known
        Modality profiles, see `read_series`.
    """

    def __init__(
        self, paths: Sequence[Path], shape: tuple[int, int, int], known: Sequence[ModalityProfile]
    ) -> None:
        self._paths, self._known = paths, known
        self.shape: tuple[int, ...] = shape

    @cached_property
    def _array(self) -> npt.NDArray[Any]:
        return _as_trained(read_series(self._paths, self._known).canonical())

    def __getitem__(self, index: Any, /) -> Any:
        return self._array[index]


class Computer:
    """Computes rounds with the engine of a worker process. The first round loads the weights.

    Parameters
    ----------
    context
        The settings, database and data folder.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known = context.settings.intake.known

    @cached_property
    def engine(self) -> engines.Engine:
        """The engine of the configuration."""
        return build_engine(self._context.settings.engine, self._context.settings.data_dir)

    def compute(self, claim: Claim) -> Commit:
        """Compute the four candidates of a round and keep them as artifacts."""

        def going_on(_fraction: float, _what: str) -> None:
            claim.check()  # a replaced case stops here, and the device is free for the case that replaced it

        take_found_start(self._context, claim)
        task = begin(self._context, claim)
        watch = Stopwatch()
        made, view, started = self._round(task, watch, going_on)
        watch.lap("refine")
        folder = self._context.store.round_folder(task.case_id, task.number, claim.token)
        candidates = _stored_candidates(made, view)
        save_candidates(folder / CANDIDATES_FILE, candidates)
        save_region(folder / UNCERTAIN_FILE, view.to_source(made.uncertain))
        write_durably(folder / STATE_FILE, made.state.save)
        self._context.store.share(*(folder / name for name in ROUND_FILES))
        watch.lap("keep")
        log.info("case %d round %d computed: %s", task.case_id, task.number, watch)
        artifact = ""
        if started is not None and started.reference is not None:
            save_candidates(folder / START_FILE, [StoredCandidate(1, started.reference.labels, CHARACTER)])
            artifact = self._context.store.share(folder / START_FILE)
        done = _Done(made, watch.seconds, self._content_digest(task, candidates), started, artifact)
        return self._commit(task, folder, done)

    def _round(
        self, task: Task, watch: Stopwatch, progress: engines.Progress
    ) -> tuple[engines.Round, CanonicalVolume, Started | None]:
        """Return the round, the grid of its labels, and the outcome of its start."""
        if task.previous_state is None or task.answer is None:
            volume = read_series(task.series_paths, self._known)
            view = volume.canonical()
            watch.lap("decode")
            made = self.engine.first_round(
                _as_trained(view),
                view.spacing_mm,
                content=task.content,
                prior=task.prior,
                progress=progress,
                wanted=view.profile.organ,
            )
            return self._from_start(task, made, volume, view)
        view = read_geometry(task.series_paths, self._known).canonical()
        with reading_artifact():
            previous = RoundState.load(task.previous_state)
        selected = task.selected()
        voxels = SeriesVoxels(task.series_paths, view.shape, self._known)
        if selected is not None and task.edited:
            drawn = view.from_source(selected.labels)
            previous = adopt_edit(previous, drawn)
            previous = self.engine.with_added_lesions(
                voxels, view.spacing_mm, previous, drawn, content=task.content
            )
        feedback = feedback_of(task)
        if task.marks is not None:
            marked = [marked_target(lesion) for lesion in task.marks.lesions]
            previous = self.engine.with_marked_lesions(
                voxels, view.spacing_mm, without(previous, task.marks.dropped), marked, content=task.content
            )
            feedback = replace(feedback, unsaid=unsaid(task.marks, previous))
        watch.lap("decode")
        made = self.engine.next_round(
            voxels,
            view.spacing_mm,
            previous,
            feedback,
            content=task.content,
            prior=task.prior,
            progress=progress,
            number=task.number,
        )
        if selected is not None:
            kept = view.from_source(selected.labels)
            if task.marks is not None:
                values = [lesion.value for lesion in task.marks.lesions]
                kept = take_marked(kept, made.candidates[0].labels, values)
            made = _with_selected(made, kept)
        return made, view, None

    def _from_start(
        self, task: Task, made: engines.Round, volume: Volume, view: CanonicalVolume
    ) -> tuple[engines.Round, CanonicalVolume, Started | None]:
        """Return round 1 with another system's segmentation as candidate 1, and uncertainty around it.

        Without a start, or if the segmentation is refused, the round is unchanged.
        """
        if task.start is None:
            return made, view, None
        offered = [view.to_source(candidate.labels) for candidate in made.candidates]
        numbers = {value - LIVER for value in made.targets if value > LIVER}
        own_mm = own_radii_mm(made.state)
        try:
            reference = read_reference(dcmread(task.start.path), volume, offered, numbers)
        except InputError as refusal:
            return made, view, Started(task.start.selection_id, own_mm, refusal=refusal)
        drawn, voxels = view.from_source(reference.labels), _as_trained(view)
        state = self.engine.with_added_lesions(
            voxels, view.spacing_mm, adopt_edit(made.state, drawn), drawn, content=task.content
        )
        again = self.engine.next_round(
            voxels, view.spacing_mm, state, engines.Feedback(1), content=task.content, number=1
        )
        return _with_selected(again, drawn), view, Started(task.start.selection_id, own_mm, reference)

    def _content_digest(self, task: Task, candidates: Sequence[StoredCandidate]) -> str:
        """Return a SHA-256 of all inputs and results on which the round's objects depend.

        The round stores the digest. So pages and final objects that a later version writes still refer to
        these candidates.
        """
        settings = self._context.settings
        facts = (
            labels_digest(candidates),
            task.parent,
            __version__,
            settings.engine.model_dump_json(),
            settings.results.model_dump_json(),
            f"{task.prior.liver_mm} {task.prior.lesion_mm}",
        )
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def _commit(self, task: Task, folder: Path, done: _Done) -> Commit:
        radii = done.started.own_mm if done.started else own_radii_mm(done.made.state)

        def commit(session: Session, item: WorkItem) -> None:
            case, round_ = session.get_one(Case, task.case_id), session.get_one(Round, task.round_id)
            if task.number == 1:
                newest = held_start(session, case)
                if (newest.id if newest else None) != (task.start.selection_id if task.start else None):
                    work_items.postpone(session, item, 0.0, "")  # a start arrived in the meantime
                    return
                _record_start(session, case, round_, newest, done)
            round_.artifacts = self._context.store.relative(folder)
            round_.content_digest = done.content
            round_.model_name, round_.model_digest = self.engine.model_name, self.engine.model_digest
            round_.compute_seconds = done.seconds
            round_.parts = {
                str(value): [part.name for part in parts] for value, parts in done.made.parts.items()
            }
            round_.base_mm = {str(value): mm for value, mm in radii.items()} if task.number == 1 else {}
            lifecycle.finish_computing(session, case, round_)
            work_items.close(item)

        return commit


def _record_start(session: Session, case: Case, round_: Round, held: Selection | None, done: _Done) -> None:
    """Record the outcome of a start in the row of its object. The row counts as the answer to round 0."""
    if held is None or done.started is None:
        return
    refusal, reference = done.started.refusal, done.started.reference
    if refusal is not None:
        refuse(held, refusal)
    elif reference is not None:
        held.outcome, held.sentence, held.artifact = (
            SelectionOutcome.EFFECTIVE,
            reference.remark,
            done.artifact,
        )
        held.answer, held.candidates_round = ReaderChoice(1), 0
        round_.selection_id = held.id
    lifecycle.tell_reader(session, case)


def _as_trained(view: CanonicalVolume) -> npt.NDArray[Any]:
    return on_training_scale(view.array, view.profile)


def _stored_candidates(made: engines.Round, view: CanonicalVolume) -> list[StoredCandidate]:
    """Return a round's candidates and the parts of its targets on the source grid."""
    spacing = np.asarray(view.spacing_mm)[np.argsort(view.transpose)]
    parts = {
        value: TargetParts(
            tuple(part.name for part in own),
            points_to_source(np.array([part.centre for part in own]), view),
            spacing,
        )
        for value, own in made.parts.items()
    }
    return [
        StoredCandidate(candidate.k, view.to_source(candidate.labels), candidate.character, parts)
        for candidate in made.candidates
    ]


def _with_selected(made: engines.Round, selected: Labels) -> engines.Round:
    """Return the round with the selected segmentation as candidate 1, equal in every voxel."""
    kept = keep_selected([candidate.labels for candidate in made.candidates], selected, made.targets)
    pairs = zip(made.candidates, kept, strict=True)
    return replace(made, candidates=tuple(replace(candidate, labels=labels) for candidate, labels in pairs))
