"""Presentation states and Key Objects on slices as marks: what they mean, and why they are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.pr.content import TextObject
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.edited import reread
from tests.support.missed import MISSED, ON_LESION, MissedCase, understood
from tests.support.presentation import presentation_state, turned, weasis_state, with_object
from tests.support.selections import new_uid, reference_item
from uair_node.cases.states import CaseState
from uair_node.cases.tables import SelectionOutcome
from uair_node.dicom.graphics import Graphic
from uair_node.dicom.gsps_graphics import read_annotations
from uair_node.dicom.volume import Volume
from uair_node.selection.flagged_images import FlaggedImages
from uair_node.storage.artifacts import StoredCandidate

ELLIPSE = ((10.0, 14.0), (16.0, 14.0), (13.0, 12.0), (13.0, 16.0))
SQUARE = ((11.0, 12.0), (15.0, 12.0), (15.0, 16.0), (11.0, 16.0), (11.0, 12.0))
LESION = ("POINT", [(7.0, 7.5)])
CANDIDATE_3 = "2.25.1.1.3"


@pytest.mark.parametrize("write", [presentation_state, weasis_state], ids=["highdicom", "Weasis"])
@pytest.mark.parametrize(
    ("kind", "points", "shape"),
    [
        ("POINT", [(13.0, 14.0)], "point"),
        ("POLYLINE", MISSED, "line"),
        ("POLYLINE", SQUARE, "contour"),
        ("CIRCLE", ((13.0, 14.0), (13.0, 16.0)), "contour"),
        ("ELLIPSE", ELLIPSE, "contour"),
    ],
)
def test_each_graphic_of_a_presentation_state(
    missed: MissedCase,
    write: Callable[..., Dataset],
    kind: str,
    points: list[tuple[float, float]],
    shape: str,
) -> None:
    row = missed.send(write(missed.image(9), [(kind, points)]))
    (lesion,) = understood(row).lesions
    assert (row.mechanism, lesion.new, lesion.marks[0].shape) == ("marks", True, shape)
    drawn = np.asarray(lesion.marks[0].points)
    middle = (drawn.min(axis=0) + drawn.max(axis=0)) / 2
    assert np.allclose(middle, (9.5, 14.5 if points is MISSED else 14.0, 13.0), atol=0.06)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("start", ["before", "after"])
def test_display_units_follow_area_rotation_and_flip(
    missed_original: tuple[Path, Volume], rotation: int, flip: bool, start: str
) -> None:
    """Corners may be named as they are in the image, or as they are on the display."""
    low, high = (5, 9), (20, 24)  # 16 columns from the edge 4, 16 rows from the edge 8
    shown = [((column - 4.0) / 16.0, (row - 8.0) / 16.0) for column, row in MISSED]
    for _ in range(rotation // 90):
        shown = [(1.0 - down, right) for right, down in shown]
    if flip:
        shown = [(1.0 - right, down) for right, down in shown]
    image = dcmread(missed_original[1].slices[9].path)
    state = presentation_state(image, [("POLYLINE", shown)], units="DISPLAY")
    area = (low, high) if start == "before" else (high, low)
    (graphic,) = read_annotations(turned(state, rotation, flip=flip, area=area))
    assert isinstance(graphic, Graphic)
    assert np.allclose(graphic.points, MISSED, atol=1e-4)


def test_labels_of_weasis_belong_to_the_nearest_graphic(missed: MissedCase) -> None:
    state = weasis_state(
        missed.image(7),
        [("POLYLINE", ON_LESION), ("POLYLINE", ((11.0, 13.0), (15.0, 16.0)))],
        labels=[("Length : 4 mm", (15.5, 16.0), (19.0, 17.0)), ("no lesion", (9.0, 6.0), (12.0, 7.0))],
    )
    marks = understood(missed.send(state))
    assert ([lesion.new for lesion in marks.lesions], marks.dropped) == ([True], (2,))


def test_arrows_of_weasis_are_points(missed: MissedCase) -> None:
    state = weasis_state(missed.image(7), [], arrows=[("HCC", (13.0, 14.0)), ("drop", (7.0, 7.5))])
    row = missed.send(state)
    assert understood(row).lesions[0].marks[0].points == ((7.5, 14.0, 13.0),)
    assert row.sentence == "Lesion 3 added from your point; lesion 1 dropped."


def test_texts_and_graphics_of_one_group_belong_together(missed: MissedCase) -> None:
    """A compound graphic of a commercial viewer: two axes, and a label far away."""
    state = presentation_state(
        missed.image(9),
        [("POLYLINE", MISSED), ("POLYLINE", ((14.5, 13.0), (12.0, 16.0))), LESION],
        texts=[TextObject("Spleen", units="PIXEL", bounding_box=(0.0, 0.0, 1.0, 1.0))],
    )
    (annotation,) = state.GraphicAnnotationSequence
    for item in (*annotation.GraphicObjectSequence[:2], annotation.TextObjectSequence[0]):
        item.CompoundGraphicInstanceID = 1
    marks = understood(missed.send(state))
    assert marks.left_out == ("mark-other-structure",)
    assert [len(lesion.marks) for lesion in marks.lesions] == [1]


def _several(missed: MissedCase) -> Dataset:
    images = [missed.image(8), missed.image(9)]
    return presentation_state(images[0], [("POLYLINE", MISSED)], images=images)


def _written(missed: MissedCase) -> Dataset:
    return weasis_state(missed.image(9), [], labels=[("HCC", (11.0, 12.0), (15.0, 16.0))])


def _without_area(missed: MissedCase) -> Dataset:
    state = presentation_state(missed.image(9), [("POLYLINE", ((0.5, 0.5), (0.6, 0.6)))], units="DISPLAY")
    del state.DisplayedAreaSelectionSequence
    return state


def _with(**values: object) -> Callable[[MissedCase], Dataset]:
    return lambda missed: with_object(weasis_state(missed.image(9), [("POLYLINE", MISSED)]), **values)


def _drawn(k: int, *points: tuple[float, float]) -> Callable[[MissedCase], Dataset]:
    return lambda missed: weasis_state(missed.image(k), [("POLYLINE", points)])


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (_several, "mark-several-images"),
        (_written, "mark-empty"),
        (lambda missed: weasis_state(missed.image(9), []), "mark-empty"),
        (_without_area, "mark-unreadable"),
        (_with(GraphicAnnotationUnits="MATRIX"), "mark-unreadable"),
        (_with(GraphicData=[float("nan"), 13.0, 15.0, 16.0]), "mark-not-finite"),
        (_with(GraphicData=[11.0, 13.0, 15.0]), "mark-unreadable"),
        (_drawn(9, (11, 12), (15, 12), (15, 16)), "mark-open-contour"),
        (_drawn(0, *MISSED), "mark-outside-organ"),
        (lambda missed: weasis_state(missed.image(9), [("POINT", [MISSED[0]])] * 257), "marks-too-many"),
    ],
    ids=[
        "several images",
        "text alone",
        "nothing",
        "no area",
        "matrix",
        "nan",
        "odd",
        "open",
        "outside",
        "many",
    ],
)
def test_what_a_presentation_state_cannot_mean(
    missed: MissedCase, write: Callable[[MissedCase], Dataset], code: str
) -> None:
    row = missed.send(write(missed))
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, code)
    assert row.sentence
    assert row.remedy
    assert missed.case().state == CaseState.AWAITING_SELECTION


def test_a_drawing_on_what_shows_a_candidate_picks_it(missed: MissedCase) -> None:
    page = missed.image(9)
    page.SOPInstanceUID = CANDIDATE_3
    row = missed.send(weasis_state(page, [("ELLIPSE", ELLIPSE)]))
    assert (row.outcome, row.picked, row.marks) == (SelectionOutcome.EFFECTIVE, 3, None)


@pytest.mark.parametrize("verb", [Verb.ACCEPT, Verb.REJECT])
def test_a_presentation_state_ends_no_case(missed: MissedCase, verb: Verb) -> None:
    row = missed.send(weasis_state(missed.image(9), [("POLYLINE", MISSED)]), verb)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "mark-needs-pick")


def test_a_forwarded_presentation_state_needs_the_word(missed: MissedCase) -> None:
    state = weasis_state(missed.image(9), [("POLYLINE", MISSED)])
    assert missed.send(state, Verb.STORE) is None
    state.ContentLabel, state.SOPInstanceUID = "PICK", new_uid()
    state.file_meta.MediaStorageSOPInstanceUID = state.SOPInstanceUID
    assert len(understood(missed.send(state, Verb.STORE)).lesions) == 1


def _flagged(
    missed: MissedCase, *slices: int, words: str = "", title: Code = codes.DCM.OfInterest
) -> Dataset:
    images = [missed.image(k) for k in slices]
    content = KeyObjectSelection(document_title=title, referenced_objects=images, description=words or None)
    return reread(
        KeyObjectSelectionDocument(
            evidence=images,
            content=content,
            series_instance_uid=new_uid(),
            series_number=1,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer="viewer",
        )
    )


@pytest.mark.parametrize("slices", [(7,), (6, 7)])
def test_a_flagged_slice_with_a_drop_word_drops_its_lesion(
    missed: MissedCase, slices: tuple[int, ...]
) -> None:
    row = missed.send(_flagged(missed, *slices, words="no lesion"))
    assert understood(row).dropped == (2,)
    assert row.sentence == "Lesion 1 dropped."
    # A measurement joins it; one on the lesion contradicts it.
    row = missed.send(weasis_state(missed.image(9), [("POLYLINE", MISSED)]))
    marks = understood(row)
    assert (len(marks.lesions), marks.dropped) == (1, (2,))
    assert missed.send(weasis_state(missed.image(7), [("POLYLINE", ON_LESION)])).code == "marks-contradict"


@pytest.mark.parametrize(
    ("slices", "words", "title", "code"),
    [
        ((7,), "", codes.DCM.OfInterest, "mark-without-place"),
        ((7,), "growing", codes.DCM.ForSurgery, "mark-without-place"),
        ((7,), "", codes.DCM.BestInSet, "mark-without-place"),
        ((3,), "no lesion", codes.DCM.OfInterest, "mark-on-nothing"),
        ((7, 3), "no lesion", codes.DCM.OfInterest, "mark-on-nothing"),
        ((7,), "no lesion", codes.DCM.RejectedForQualityReasons, "rejection-note"),
    ],
)
def test_what_a_flagged_slice_cannot_mean(
    missed: MissedCase, slices: tuple[int, ...], words: str, title: Code, code: str
) -> None:
    row = missed.send(_flagged(missed, *slices, words=words, title=title))
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, code)


@pytest.mark.parametrize(("words", "dropped"), [("no lesion", (2,)), ("growing", None)])
def test_a_candidate_beside_a_flagged_slice_is_picked(
    missed: MissedCase, words: str, dropped: tuple[int, ...] | None
) -> None:
    document = _flagged(missed, 7, words=words)
    document.ContentSequence.append(reference_item(CANDIDATE_3))
    row = missed.send(document)
    assert (row.outcome, row.picked) == (SelectionOutcome.EFFECTIVE, 3)
    assert (row.marks and understood(row).dropped) == dropped


def test_a_flagged_slice_with_several_lesions_drops_none() -> None:
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, 1], labels[0, 2] = 2, 3
    volume = SimpleNamespace(slices_of=lambda uid: {0: None} if uid == "1.2" else {})
    flagged = FlaggedImages((("1.2", frozenset()),), True)
    with pytest.raises(InputError) as refusal:
        flagged.dropped(volume, [StoredCandidate(1, labels, "")])
    assert refusal.value.code == "mark-several-lesions"
