"""A report with marks: which round it answers, and what its marks say about that round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.marks import Marks
from uair_node.cases.tables import Instance
from uair_node.context import Context
from uair_node.dicom.mark_places import Grid
from uair_node.dicom.readers import Reading
from uair_node.dicom.sr_graphics import read_graphics
from uair_node.dicom.volume import read_geometry
from uair_node.results.source import CANDIDATES_FILE
from uair_node.selection.edited_round import find_edited_round
from uair_node.selection.mark_meaning import Offer, understand, words_of
from uair_node.selection.match import check_document, results_named
from uair_node.storage.artifacts import load_candidates


@dataclass(frozen=True)
class MarkedRound:
    """What a report's marks say about the round that they answer.

    Attributes
    ----------
    candidates
        SOP Instance UIDs of the round's candidates.
    marks
        What was understood.
    remark
        The same, in words for the reader.
    """

    candidates: tuple[str, ...]
    marks: Marks
    remark: str


def find_marked_round(context: Context, verb: Verb, dataset: Dataset, reading: Reading) -> MarkedRound | None:
    """Read a report's marks onto the round that a reader sees; None for an object that marks nothing.

    Marks beside a reference to a candidate go with that pick: if none of them can be used, the pick stays.

    Raises
    ------
    InputError
        ``mark-needs-pick``: marks ask for another round, the verb for an end. ``mark-case-unknown``: no open
        round belongs to its images. ``mark-older-round``: the candidate is not of the round that is marked.
        ``own-object``. What `uair_node.selection.mark_meaning.understand` raises; or, if no mark can be used,
        why the first cannot. ``case-closed``, ``round-closed`` of `find_edited_round`.
    """
    if not reading.draws:
        return None
    with context.database.reading() as session:
        check_document(session, verb, reading)
        named = [result.sop_instance_uid for result in results_named(session, reading.references)]
    if verb != Verb.PICK:
        if named:
            return None
        raise InputError(
            "mark-needs-pick",
            f"The report marks lesions and asks to {verb}; a marked lesion must be seen first.",
            "Send it to the AE title for picks (UAIR_PICK), and accept one of the next four.",
        )
    return _read(context, dataset, reading, named)


def _read(context: Context, dataset: Dataset, reading: Reading, named: Sequence[str]) -> MarkedRound:
    graphics = read_graphics(dataset)
    round_ = find_edited_round(context, reading)
    if round_ is None:
        raise InputError(
            "mark-case-unknown",
            "The marks belong to no case that waits for a reader.",
            "Measure on the images of a case whose candidates you see.",
        )
    if not set(named) <= set(round_.candidates):
        raise InputError(
            "mark-older-round",
            "The report marks lesions and names a candidate or page that the newest round does not have.",
            "Name the segmentation of one of the newest four, or none.",
        )
    volume = read_geometry(round_.series_paths, context.settings.intake.known)
    canonical = volume.canonical()
    offered = load_candidates(round_.folder / CANDIDATES_FILE)
    offer = Offer(
        candidates=[canonical.from_source(candidate.labels) for candidate in offered],
        used=round_.lesions,
        spacing_mm=canonical.spacing_mm,
        organ=volume.profile.organ,
    )
    grid = Grid(volume, lambda uid: _header_of(context, uid))
    marks, refused = understand(graphics, grid, offer, context.settings.node.marks.drop)
    if refused and not marks.says_something and not named:
        raise refused[0]
    marks = replace(marks, picked=bool(named))
    return MarkedRound(round_.candidates, marks, words_of(marks, volume.profile.organ.name))


def _header_of(context: Context, sop_instance_uid: str) -> Dataset | None:
    """Return the header of an image that the node received, None without one."""
    with context.database.reading() as session:
        path = session.scalar(
            select(Instance.path)
            .where(Instance.sop_instance_uid == sop_instance_uid)
            .order_by(Instance.id.desc())
            .limit(1)
        )
    file = context.store.fetch_if_kept(path) if path else None
    return None if file is None else dcmread(file, stop_before_pixels=True)
