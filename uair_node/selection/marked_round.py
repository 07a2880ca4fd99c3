"""Read an object with a reader's marks: find the round that it answers, and interpret the marks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.reader_choice import LIVER, ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Instance, Result
from uair_node.context import Context
from uair_node.dicom.graphics import Graphic, refused
from uair_node.dicom.gsps_graphics import read_annotations
from uair_node.dicom.mark_places import Grid
from uair_node.dicom.readers import Mechanism, Reading
from uair_node.dicom.sr_graphics import read_graphics
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.edited_round import EditedRound, find_edited_round
from uair_node.selection.flagged_images import FlaggedImages, flagged_images, flags_images
from uair_node.selection.mark_meaning import Document, Offer, understand
from uair_node.selection.mark_words import words_of
from uair_node.selection.match import check_document, read_answer, results_named
from uair_node.storage.artifacts import StoredCandidate, load_candidates

_NO_MARKS = Marks()


@dataclass(frozen=True)
class Before:
    """The answer of a case at the time when the marks were read.

    Attributes
    ----------
    selection_id
        Row id of the answer that counts; None before the first answer.
    answer, artifact, marks
        The content of that answer, if it is a pick from the round that the marks answer. Then the marks join
        this answer. Otherwise the attributes have their default values.
    """

    selection_id: int | None
    answer: ReaderChoice | None = None
    artifact: str = ""
    marks: Marks | None = None


@dataclass(frozen=True)
class MarkedRound:
    """The meaning of an object's marks for the round that they answer.

    Attributes
    ----------
    candidates
        SOP Instance UIDs of the round's candidates.
    marks
        The marks of the object, together with earlier marks of the round.
    remark
        Sentences about the marks for the reader.
    answer, artifact
        The candidate that is picked or accepted with the marks, and the path of the label volume if the
        reader edited it.
    before
        The earlier answer when the marks were read; None if the marks do not depend on an earlier answer.
    joins
        Whether the marks join an earlier answer that took effect.
    """

    candidates: tuple[str, ...]
    marks: Marks
    remark: str
    answer: ReaderChoice = field(default_factory=lambda: ReaderChoice(1))
    artifact: str = ""
    before: Before | None = None
    joins: bool = False


@dataclass(frozen=True)
class _Said:
    """The graphics of an object, or the images that it flags."""

    document: Document
    graphics: tuple[Graphic | InputError, ...]
    flagged: FlaggedImages | None

    @property
    def marks_something(self) -> bool:
        """Whether the object contains graphics, or a drop word for the images that it flags."""
        return bool(self.graphics) or (self.flagged is not None and self.flagged.drops)


def find_marked_round(context: Context, verb: Verb, dataset: Dataset, reading: Reading) -> MarkedRound | None:
    """Interpret an object's marks in the round that a reader sees. Return None for an object without marks.

    If the object also names a candidate, then the marks belong to that pick. This pick counts even if no mark
    can be used. The marks are added to an earlier answer to the same round: a pick, an edit or other marks.

    Raises
    ------
    InputError
        ``mark-needs-pick``: the marks need another round, but the verb ends the case.
        ``mark-needs-candidate``: a lesion is dropped and the case ends, but no candidate is named.
        ``mark-case-unknown``: no open round has these images. ``mark-older-round``: the candidate belongs to
        an older round. ``own-object``: the object is a report or rejection note of ours. If no mark can be
        used and no candidate is named: the error of the first mark. Also the errors of `find_edited_round`
        and of `uair_node.selection.mark_meaning.understand`.
    """
    flags = (
        verb != Verb.REJECT
        and reading.mechanism is Mechanism.KEY_OBJECT
        and flags_images(context, reading.references)
    )
    if not reading.draws and not flags:
        return None
    with context.database.reading() as session:
        check_document(session, verb, reading)
        named = results_named(session, reading.references)
        pages = {result.sop_instance_uid for result in named}
        offered = {candidate.sop_instance_uid for result in named for candidate in result.round.candidates}
        answer = read_answer(verb, named, reading.segments) if named else None
    said = _read(dataset, reading, pages, context.settings.node.marks.drop)
    if named and (verb == Verb.REJECT or not said.marks_something):
        return None
    if verb == Verb.REJECT:
        raise _needs_pick(verb)
    round_ = _open_round(context, reading, offered)
    if verb == Verb.ACCEPT:
        return _accepted(context, said, round_, answer)
    return _picked(context, said, round_, answer)


def _read(dataset: Dataset, reading: Reading, pages: Collection[str], drop_words: Sequence[str]) -> _Said:
    """Return the graphics of an object, or the images that it flags. Graphics on `pages` are left out.

    `pages` are SOP Instance UIDs of candidates and their pages.
    """
    document = Document(
        reading.sop_instance_uid, frozenset({reading.sop_instance_uid, *reading.predecessors})
    )
    if not reading.draws:
        flagged = flagged_images(dataset, reading.references, drop_words)
        return _Said(document, (), flagged)
    read = read_annotations if reading.mechanism is Mechanism.PRESENTATION_STATE else read_graphics
    every = read(dataset)
    if not every:
        raise refused("mark-empty", "is missing: the texts point at nothing", "Draw a graphic on the image.")
    graphics = (drawn for drawn in every if isinstance(drawn, InputError) or drawn.image_uid not in pages)
    return _Said(document, tuple(graphics), None)


def _open_round(context: Context, reading: Reading, offered: Collection[str]) -> EditedRound:
    """Return the round that the marks answer.

    `offered` are the candidates of the rounds that the object names.
    """
    round_ = find_edited_round(context, reading)
    if round_ is None:
        raise InputError(
            "mark-case-unknown",
            "The marks belong to no case that waits for a reader.",
            "Measure on the images of a case whose candidates you see.",
        )
    if not set(offered) <= set(round_.candidates):
        raise InputError(
            "mark-older-round",
            "The report marks lesions and names a candidate or page that the newest round does not have.",
            "Name the segmentation of one of the four newest candidates, or no candidate.",
        )
    return round_


def _picked(context: Context, what: _Said, round_: EditedRound, named: ReaderChoice | None) -> MarkedRound:
    before = find_before(context, round_.candidates)
    artifact = "" if named else before.artifact
    volume = read_geometry(round_.series_paths, context.settings.intake.known)
    offered = load_candidates(context.store.fetch(artifact) if artifact else round_.folder / CANDIDATES_FILE)
    earlier = before.marks or _NO_MARKS
    marks, refusals = _understood(context, what, round_, volume, offered, earlier)
    nothing_new = marks.digest == replace(earlier, left_out=()).digest
    if refusals and nothing_new and named is None:
        raise refusals[0]
    return joined(round_.candidates, marks, before, named, volume.profile.organ.name)


def joined(
    candidates: tuple[str, ...], marks: Marks, before: Before, named: ReaderChoice | None, organ: str
) -> MarkedRound:
    """Join marks with the pick that the same object names, or with the earlier answer.

    Parameters
    ----------
    candidates
        SOP Instance UIDs of the round's candidates.
    marks
        The earlier and the new marks.
    before
        The earlier answer when the marks were read.
    named
        The candidate that the object names; None if it names no candidate.
    organ
        Name of the organ, for the remark.
    """
    answered = before.answer is not None
    picked = named is not None or (answered and (before.marks is None or before.marks.picked))
    marks = replace(marks, picked=picked)
    remark = words_of(marks, organ)
    if answered and not named:
        remark = f"{remark} Your earlier answer to this round stays."
    joins = before.marks is not None or (answered and named is None)
    artifact = "" if named else before.artifact
    return MarkedRound(
        candidates, marks, remark, named or before.answer or ReaderChoice(1), artifact, before, joins
    )


def _accepted(context: Context, what: _Said, round_: EditedRound, named: ReaderChoice | None) -> MarkedRound:
    """Return the acceptance of a candidate without the dropped lesions.

    All other marks need another round. A new lesion raises ``mark-needs-pick``; a confirmed lesion is left
    out.
    """
    volume = read_geometry(round_.series_paths, context.settings.intake.known)
    offered = load_candidates(round_.folder / CANDIDATES_FILE)
    marks, refusals = _understood(context, what, round_, volume, offered, _NO_MARKS)
    if any(lesion.new for lesion in marks.lesions) or not (named or marks.drops or refusals):
        raise _needs_pick(Verb.ACCEPT)
    if refusals and not (named or marks.drops):
        raise refusals[0]
    if named is None and len(offered) > 1:
        raise InputError(
            "mark-needs-candidate",
            "The report drops a lesion and accepts none of the candidates.",
            "Name the candidate to accept. Or send the report to UAIR_PICK, and accept one of the next "
            "candidates.",
        )
    left_out = (*marks.left_out, *("mark-needs-pick" for _ in marks.lesions))
    marks = Marks(drops=marks.drops, left_out=left_out, picked=True)
    remark = words_of(marks, volume.profile.organ.name)
    return MarkedRound(round_.candidates, marks, remark, named or ReaderChoice(offered[0].k))


def _understood(
    context: Context,
    what: _Said,
    round_: EditedRound,
    volume: Volume,
    offered: Sequence[StoredCandidate],
    earlier: Marks,
) -> tuple[Marks, list[InputError]]:
    offer = offer_of(volume, offered, round_.lesions, earlier)
    grid = Grid(volume, lambda uid: _header_of(context, uid))
    dropped = [what.flagged.dropped(volume, offered)] if what.flagged else []
    drop_words = context.settings.node.marks.drop
    return understand(what.graphics, grid, offer, drop_words, what.document, dropped)


def offer_of(
    volume: Volume, offered: Sequence[StoredCandidate], used: Collection[int], earlier: Marks
) -> Offer:
    """Return the lesions that a round offers, for comparison with marks.

    Parameters
    ----------
    used
        Numbers of the lesions that the case had in any round.
    earlier
        Earlier marks of this round. They stay valid.
    """
    canonical = volume.canonical()
    candidates = [canonical.from_source(candidate.labels) for candidate in offered]
    drawn = {int(value) - LIVER for labels in candidates for value in np.unique(labels) if value > LIVER}
    return Offer(
        candidates=candidates,
        used={*used, *drawn},
        spacing_mm=canonical.spacing_mm,
        organ=volume.profile.organ,
        earlier=earlier,
    )


def find_before(context: Context, candidates: Sequence[str]) -> Before:
    """Return the answer that counts in the case of these candidates. New marks are added to its content."""
    with context.database.reading() as session:
        return before_in(session, candidates)


def before_in(session: Session, candidates: Sequence[str]) -> Before:
    """Return the result of `find_before`, within a transaction of the caller."""
    (result, *_) = session.scalars(select(Result).where(Result.sop_instance_uid.in_(candidates)).limit(1))
    case = result.round.case
    counts = lifecycle.answer_that_counts(session, case)
    if counts is None:
        return Before(None)
    joins = case.state == CaseState.REFINING and counts.candidates_round == result.round.number
    if not joins or counts.verb != Verb.PICK:
        return Before(counts.id)
    return Before(counts.id, counts.answer, counts.artifact, marks_of(counts.marks))


def _needs_pick(verb: Verb) -> InputError:
    return InputError(
        "mark-needs-pick",
        f"The report marks lesions and asks to {verb}. Marked lesions need new candidates first.",
        "Send it to the AE title for picks (UAIR_PICK), and accept one of the next candidates.",
    )


def _header_of(context: Context, sop_instance_uid: str) -> Dataset | None:
    """Return the header of an image, without pixels; None if the node does not have the image."""
    with context.database.reading() as session:
        path = session.scalar(
            select(Instance.path)
            .where(Instance.sop_instance_uid == sop_instance_uid)
            .order_by(Instance.id.desc())
            .limit(1)
        )
    file = context.store.fetch_if_kept(path) if path else None
    return None if file is None else dcmread(file, stop_before_pixels=True)
