"""Drop, keep or add lesions that a reader names by number or by location.

Readers make these changes on the command line, in the console, or with an object that references a lesion
page. The module turns the changes into marks. So the node treats the changes like shapes that a reader draws
on images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.modalities.profile import LIVER as LIVER_ORGAN
from dicom_config.model import Verb
from uair_node.cases.marks import MarkedLesion, Marks
from uair_node.cases.reader_choice import LIVER, ReaderChoice
from uair_node.cases.tables import Case, ResultKind
from uair_node.context import Context
from uair_node.dicom.graphics import Graphic, Points, Shape
from uair_node.dicom.mark_places import Grid
from uair_node.dicom.readers import Reading
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.mark_meaning import Document, contradiction, understand
from uair_node.selection.marked_round import Before, MarkedRound, before_in, joined, offer_of
from uair_node.selection.match import ambiguous, no_such_lesion, read_answer, results_named
from uair_node.storage.artifacts import load_candidates

_NOTHING_BEFORE = Before(None)
_CIRCLE_POINTS = 16


class LesionLocation(Protocol):
    """The location and size of a lesion: centre and diameter."""

    @property
    def size_mm(self) -> float:
        """Diameter of the lesion in mm; 0 if it is unknown."""

    def middle(self, volume: Volume) -> Points:
        """Return the centre of the lesion, ``(3,)`` in LPS mm.

        Raises
        ------
        InputError
            ``mark-slice-unknown``: the image number does not name exactly one slice of the series.
        """


@dataclass(frozen=True)
class OnImage:
    """The location of a lesion on an image.

    Attributes
    ----------
    image
        Instance Number of the slice. In a multi-frame series, it is the frame number. Viewers and pages show
        this number.
    column, row
        The lesion's centre, in pixels from the outer corner of the first pixel.
    size_mm
        Diameter of the lesion; 0 if it is unknown.
    """

    image: int
    column: float
    row: float
    size_mm: float = 0.0

    def middle(self, volume: Volume) -> Points:
        """Return the centre, ``(3,)`` in LPS mm, on the slice that has this number.

        Raises
        ------
        InputError
            ``mark-slice-unknown``: no slice or several slices have this number.
        """
        numbers = [source.frame or source.number for source in volume.slices]
        if numbers.count(self.image) != 1:
            several = "several images of number" if self.image in numbers else "no image"
            raise InputError(
                "mark-slice-unknown",
                f"The series has {several} {self.image}.",
                "Use the image numbers of the viewer; pages of a round show them.",
            )
        k = numbers.index(self.image)
        middle: Points = (volume.affine @ (k, self.row - 0.5, self.column - 0.5, 1.0))[:3]
        return middle


@dataclass(frozen=True)
class InSpace:
    """The location of a lesion: its centre `position` in LPS mm, and its diameter `size_mm`.

    The centre is in the series' frame of reference. The diameter is 0 if it is unknown.
    """

    position: tuple[float, float, float]
    size_mm: float = 0.0

    def middle(self, _volume: Volume) -> Points:
        """Return the lesion's centre, ``(3,)`` in LPS mm."""
        return np.array(self.position)


@dataclass(frozen=True)
class Changes:
    """The requested changes: lesion numbers to drop and to keep, and locations of the lesions to add."""

    dropped: Collection[int] = ()
    kept: Collection[int] = ()
    added: Sequence[LesionLocation] = ()


@dataclass(frozen=True)
class OfferedFindings:
    """The lesions of the round that a reader sees.

    Attributes
    ----------
    candidates
        SOP Instance UIDs of the round's candidates.
    offered
        Label value of each lesion -> numbers of the candidates that contain this lesion.
    used
        Label values of the lesions that the case had in any round.
    artifacts, series
        Path of the round's files, and paths of the series' instances, in the form that database rows store.
    """

    round_id: int
    candidates: tuple[str, ...]
    offered: Mapping[int, tuple[int, ...]]
    used: frozenset[int]
    artifacts: str
    series: tuple[str, ...]


def offered_findings(case: Case) -> OfferedFindings:
    """Return the lesions of the newest round that a reader can see.

    Raises
    ------
    InputError
        ``no-candidates``: no round of the case has candidates that a reader can see.
    """
    round_ = case.offered_round
    if round_ is None:
        raise InputError(
            "no-candidates",
            f"Case {case.id} is {case.state}; it has no candidates.",
            f"See `uair case show {case.id}`.",
        )
    holders: dict[int, tuple[int, ...]] = {}
    for candidate in round_.candidates:
        for value in candidate.targets:
            if value > LIVER:
                holders[value] = (*holders.get(value, ()), candidate.k)
    every = [candidate for turn in case.rounds for candidate in turn.candidates]
    return OfferedFindings(
        round_id=round_.id,
        candidates=tuple(candidate.sop_instance_uid for candidate in round_.candidates),
        offered=dict(sorted(holders.items())),
        used=frozenset(value for candidate in every for value in candidate.targets if value > LIVER),
        artifacts=round_.artifacts,
        series=tuple(instance.path for instance in case.instances),
    )


def understand_changes(
    context: Context, findings: OfferedFindings, changes: Changes, verb: Verb, named: ReaderChoice | None
) -> MarkedRound:
    """Turn a reader's changes of lesions into marks.

    Call this function outside of any transaction, because it reads files to locate the added lesions.

    Parameters
    ----------
    verb
        PICK: the changes join an earlier answer to the round. ACCEPT: the case ends with the `named`
        candidate.
    named
        The candidate that the reader picks or accepts together with the changes. None: all other lesions stay
        as they were offered.

    Raises
    ------
    InputError
        ``no-such-lesion``, ``no-such-candidate``, ``marks-contradict``, ``mark-slice-unknown``,
        ``nothing-changed``, or an error of `uair_node.selection.mark_meaning.understand`.
    """
    with context.database.reading() as session:
        made = changes_by_number(session, findings, changes, verb, named)
    if not changes.added:
        return made
    before = made.before or _NOTHING_BEFORE
    marks = _with_places(context, findings, changes.added, made.marks, "" if named else before.artifact)
    return _made(findings, marks, before, verb, named)


def changes_by_number(
    session: Session, findings: OfferedFindings, changes: Changes, verb: Verb, named: ReaderChoice | None
) -> MarkedRound:
    """Turn dropped and kept lesion numbers into marks, within a transaction. Ignore added lesions.

    Parameters and errors are those of `understand_changes`.
    """
    if not (changes.dropped or changes.kept or changes.added):
        raise InputError(
            "nothing-changed", "No finding is dropped, kept or added.", "Name a lesion, or a place."
        )
    before = before_in(session, findings.candidates) if verb == Verb.PICK else _NOTHING_BEFORE
    marks = _with_numbers(findings, changes, before.marks or Marks())
    return _made(findings, marks, before, verb, named)


def _made(
    findings: OfferedFindings, marks: Marks, before: Before, verb: Verb, named: ReaderChoice | None
) -> MarkedRound:
    made = joined(findings.candidates, marks, before, named, LIVER_ORGAN.name)
    return made if verb == Verb.PICK else replace(made, before=None)


def find_dropped_findings(context: Context, verb: Verb, reading: Reading) -> MarkedRound | None:
    """Return the marks of an object that references lesion pages; None if it references no lesion page.

    A lesion page shows a lesion in all candidates. A reference to the page drops the lesion. A lesion keeps
    its number in all rounds. So the page of an older round drops the lesion from the newest round.

    Raises
    ------
    InputError
        ``mark-needs-pick``: the verb is REJECT. ``mark-needs-candidate``: the verb is ACCEPT, and the object
        names no candidate. ``ambiguous-selection``: the pages belong to two cases, or `read_answer` raises
        this error. ``mark-older-round``: the object also names a candidate of an older round.
        ``no-such-lesion``: the newest round does not offer the lesion.
    """
    with context.database.reading() as session:
        pages = results_named(session, reading.references, [ResultKind.FINDING])
        if not pages:
            return None
        candidates = results_named(session, reading.references)
        cases = {page.round.case_id: page.round.case for page in pages}
        if len(cases) > 1:
            raise ambiguous("findings of two cases")
        (case,) = cases.values()
        findings = offered_findings(case)
        older = any(candidate.round.id != findings.round_id for candidate in candidates)
        named = read_answer(verb, candidates, reading.segments) if candidates else None
    if verb == Verb.REJECT:
        raise InputError(
            "mark-needs-pick",
            "The object drops a finding, but was sent to the AE title for rejections.",
            "Send it to the AE title for picks (UAIR_PICK).",
        )
    if verb == Verb.ACCEPT and named is None:
        raise InputError(
            "mark-needs-candidate",
            "The object drops a finding and accepts none of the candidates.",
            "Name the candidate to accept. Or send the object to UAIR_PICK, and accept one of the next "
            "candidates.",
        )
    if older:
        raise InputError(
            "mark-older-round",
            "The object drops a finding and names a candidate or page that the newest round does not have.",
            "Name one of the four newest candidates, or no candidate.",
        )
    changes = Changes(dropped={page.k for page in pages})
    return understand_changes(context, findings, changes, verb, named)


def _with_numbers(findings: OfferedFindings, changes: Changes, earlier: Marks) -> Marks:
    """Return the earlier marks together with the lesions that are dropped and kept by number."""
    dropped = {LIVER + number for number in changes.dropped}
    kept = {LIVER + number for number in changes.kept}
    for value in (dropped | kept) - findings.offered.keys():
        raise no_such_lesion(value)
    if dropped & kept:
        raise contradiction(in_one_report=True)
    if dropped & {lesion.value for lesion in earlier.lesions} or kept & set(earlier.dropped):
        raise contradiction(in_one_report=False)
    return Marks(_joined(earlier.lesions, kept), _joined(earlier.drops, dropped))


def _joined(earlier: Sequence[MarkedLesion], values: Collection[int]) -> tuple[MarkedLesion, ...]:
    said = {value: MarkedLesion(value, False, 0.0, ()) for value in values}
    said |= {lesion.value: lesion for lesion in earlier}
    return tuple(lesion for _, lesion in sorted(said.items()))


def _with_places(
    context: Context, findings: OfferedFindings, places: Sequence[LesionLocation], marks: Marks, artifact: str
) -> Marks:
    """Return the marks together with lesions that are added at locations.

    `artifact` is the path of the edit on which the reader located the lesions; empty if there is no edit.
    """
    store = context.store
    volume = read_geometry(store.fetch_all(findings.series), context.settings.intake.known)
    path = store.fetch(artifact or f"{findings.artifacts}/{CANDIDATES_FILE}")
    offer = offer_of(volume, load_candidates(path), {value - LIVER for value in findings.used}, marks)
    graphics = [_graphic(volume, group, place) for group, place in enumerate(places)]
    grid = Grid(volume, lambda _uid: None)
    found, refused = understand(graphics, grid, offer, (), Document("", frozenset()))
    if refused:
        raise refused[0]
    return found


def _graphic(volume: Volume, group: int, place: LesionLocation) -> Graphic:
    """Return a circle in the slice's plane, or a point if the diameter is unknown.

    Its coordinates are in LPS mm.
    """
    middle = place.middle(volume)
    points: Points = middle[None]
    if place.size_mm:
        angles = np.linspace(0.0, 2.0 * np.pi, _CIRCLE_POINTS, endpoint=False)
        along, down = (volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis]) for axis in (2, 1))
        points = middle + place.size_mm / 2.0 * (
            np.outer(np.cos(angles), along) + np.outer(np.sin(angles), down)
        )
    return Graphic(
        shape=Shape.CONTOUR if place.size_mm else Shape.POINT,
        points=points,
        image_uid="",
        frame=None,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        group=group,
        tracking="",
        words="",
        findings=(),
        sites=(),
    )
