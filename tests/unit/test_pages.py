"""The page set: what its objects say, what its pictures show and where, and that they are always the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import time_machine
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_config import codes
from tests.support.iods import iod_errors
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.measurements import measure
from uair_node.findings.record import tabulate
from uair_node.rendering.page_images import (
    Scene,
    candidate_figure,
    draw_candidate,
    draw_overview,
    overview_figure,
)
from uair_node.rendering.page_slices import coronal_row, key_slices
from uair_node.rendering.result_images import result_figure
from uair_node.rendering.sheet import SheetCandidate
from uair_node.results.pages import PageCandidate, PagesRequest, write_pages
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series

SHAPE, SPACING = (24, 64, 72), (4.0, 3.0, 3.0)
AFFINE = np.array([[0, 0, 3.0, -100.0], [0, 3.0, 0, -90.0], [4.0, 0, 0, 50.0], [0, 0, 0, 1]])
UIDS = {"study_instance_uid": "1.2.3", "series_instance_uid": "1.2.3.4", "frame_of_reference_uid": "1.2.3.5"}
REQUEST = PagesRequest(
    series_instance_uid=result_uid("pages"),
    overview_uid=result_uid("overview"),
    page_uids={k: result_uid("page", k) for k in (1, 2, 3, 4)},
    provenance=Provenance(
        2, "embedded", "0123456789abcdef" * 4, "0.1.0", "c" * 64, datetime(2026, 1, 5, 10, 0, 1, 250)
    ),
)
CHARACTERS = ("most likely", "most inclusive", "tightest", "other lesions")


def make_labels(k: int) -> np.ndarray:
    """A liver on the patient's right, lesion 1 high, right and anterior in it, lesion 2 low."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:21, 15 : 45 + k, 10:45] = 1
    labels[16:19, 18:24, 13:20] = 2
    if k != 4:
        labels[5:7, 35:40, 30:36] = 3
    return labels


LABELS = {k: make_labels(k) for k in (1, 2, 3, 4)}
DENSITIES = np.where(LABELS[1] > 0, 100, -50).astype(np.int16)


def candidates(flipped: bool = False) -> list[PageCandidate]:
    return [
        PageCandidate(k, character, labels[::-1] if flipped else labels, result_uid("seg", k))
        for (k, labels), character in zip(LABELS.items(), CHARACTERS, strict=True)
    ]


def series(folder: Path, name: str = "Doe^Jane") -> Volume:
    return read_series(write_ct_series(folder, DENSITIES, AFFINE, patient_name=name, **UIDS))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return series(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def pages(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> list[pydicom.FileDataset]:
    folder = tmp_path_factory.mktemp("pages")
    made = write_pages(volume, candidates(), REQUEST)
    for number, page in enumerate(made):
        save_durably(page, folder / f"{number}.dcm")
    return [pydicom.dcmread(folder / f"{number}.dcm") for number in range(len(made))]


def scene(**changes: Any) -> Scene:
    shown = tuple(SheetCandidate(k, CHARACTERS[k - 1], labels) for k, labels in LABELS.items())
    usual = {"values": DENSITIES, "spacing_mm": SPACING, "round": 1, "candidates": shown}
    names = tuple(f"image {k}" for k in range(len(DENSITIES)))
    return Scene(**({"planes": names} | usual | changes))


def coloured(picture: np.ndarray, rgb: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels of a colour above the legend and beside the words."""
    hit = (np.abs(picture.astype(int) - rgb) < 14).all(axis=2)
    hit[-42:] = False
    hit[:, 950:] = False
    return np.nonzero(hit)


def test_an_overview_and_a_page_for_each_candidate(pages: list[pydicom.FileDataset]) -> None:
    assert [page.InstanceNumber for page in pages] == [1, 2, 3, 4, 5]
    assert [page.SOPInstanceUID for page in pages] == [REQUEST.overview_uid, *REQUEST.page_uids.values()]
    assert {page.SeriesInstanceUID for page in pages} == {REQUEST.series_instance_uid}
    assert {page.SOPClassUID for page in pages} == {"1.2.840.10008.5.1.4.1.1.7"}
    assert {page.SeriesDescription for page in pages} == {"UAIR PAGES R2 overview and candidates"}
    assert {page.SeriesNumber for page in pages} == {9025}
    assert [page.ImageComments for page in pages] == [
        "overview",
        *(f"candidate {k}: {character}" for k, character in enumerate(CHARACTERS, 1)),
    ]


def test_pages_lie_in_the_patient_s_study(pages: list[pydicom.FileDataset]) -> None:
    for page in pages:
        assert (page.PatientName, page.StudyInstanceUID, page.AccessionNumber) == ("Doe^Jane", "1.2.3", "A1")
        assert (page.Modality, page.BurnedInAnnotation) == ("OT", "NO")
        assert page.ImageType == ["DERIVED", "SECONDARY"]


def test_pages_refer_to_their_segmentation_and_to_every_source_slice(
    pages: list[pydicom.FileDataset], volume: Volume
) -> None:
    overview, *each = pages
    segmentations = [result_uid("seg", k) for k in (1, 2, 3, 4)]
    assert [item.ReferencedSOPInstanceUID for item in overview.ReferencedImageSequence] == segmentations
    for page, expected in zip(each, segmentations, strict=True):
        (item,) = page.ReferencedImageSequence
        assert item.ReferencedSOPInstanceUID == expected
    for page in pages:
        listed = [item.ReferencedSOPInstanceUID for item in page.SourceImageSequence]
        assert listed == [slice_.sop_instance_uid for slice_ in volume.slices]
        assert "0123456789abcdef" * 4 in page.DerivationDescription
        assert codes.DISCLAIMER in page.DerivationDescription


def test_pictures_are_readable_and_differ(pages: list[pydicom.FileDataset]) -> None:
    pictures = [page.pixel_array for page in pages]
    for picture in pictures:
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.max() == 255
    assert len({picture.tobytes() for picture in pictures}) == 5


def test_a_second_run_writes_the_same_bytes(volume: Volume, tmp_path: Path) -> None:
    for name, day in (("once", "2026-01-01"), ("again", "2038-01-19")):
        with time_machine.travel(day):  # whatever is taken from the clock differs
            for number, page in enumerate(write_pages(volume, candidates()[:1], REQUEST)):
                save_durably(page, tmp_path / name / f"{number}.dcm")
    for number in (0, 1):
        once, again = (tmp_path / name / f"{number}.dcm" for name in ("once", "again"))
        assert once.read_bytes() == again.read_bytes()


def _pixels(pages: Sequence[Dataset]) -> list[bytes]:
    """The pixels of pages; files pad an odd number of bytes."""
    return [page.pixel_array.tobytes() for page in pages]


def test_nothing_of_the_patient_is_in_the_pixels(pages: list[pydicom.FileDataset], tmp_path: Path) -> None:
    other = write_pages(series(tmp_path, name="Roe^Richard"), candidates(), REQUEST)
    assert _pixels(other) == _pixels(pages)


def test_the_order_of_the_source_s_slices_does_not_show(
    pages: list[pydicom.FileDataset], tmp_path: Path
) -> None:
    turned = AFFINE.copy()
    turned[:3, 3] += turned[:3, 0] * (SHAPE[0] - 1)
    turned[:3, 0] *= -1
    paths = write_ct_series(tmp_path, DENSITIES[::-1], turned, patient_name="Doe^Jane", **UIDS)
    for path, number in zip(paths, range(SHAPE[0], 0, -1), strict=True):
        header = pydicom.dcmread(path)
        header.InstanceNumber = number  # pictures name it
        header.save_as(path)
    volume = read_series(paths)
    descending = volume.affine[2, 0] < 0
    made = write_pages(volume, candidates(flipped=descending), REQUEST)
    assert _pixels(made) == _pixels(pages)


def test_names_that_libraries_refuse_are_taken_over(volume: Volume, tmp_path: Path) -> None:
    odd = series(tmp_path, name="O'Neil, Seán (Mr.)^=^^^^^")
    page = write_pages(odd, candidates()[:1], REQUEST)[1]
    assert str(page.PatientName) == str(pydicom.dcmread(odd.slices[0].path).PatientName)


def test_right_is_left_and_up_is_superior_in_every_panel() -> None:
    """Lesion 1 is right, anterior and high in the liver: upper left of it in axial and coronal panels."""
    labels = LABELS[4]
    alone = scene(candidates=(SheetCandidate(4, "one", labels),))
    picture = draw_candidate(alone, 4)
    rows, columns = coloured(picture, codes.lesion_colour(1).rgb)
    liver_rows, liver_columns = coloured(picture, codes.LIVER_COLOUR.rgb)
    seen = 0
    for column in range(3):
        for upper in (True, False):
            left, right = 15 + 311 * column, 15 + 311 * (column + 1)
            half = (picture.shape[0] + 33) / 2

            def inside(
                r: NDArray[Any],
                c: NDArray[Any],
                *,
                left: int = left,
                right: int = right,
                upper: bool = upper,
                half: int = half,
            ) -> NDArray[Any]:
                return (c >= left) & (c < right) & ((r < half) == upper)

            lesion = inside(rows, columns)
            if not lesion.any():
                continue
            seen += 1
            organ = inside(liver_rows, liver_columns)
            assert rows[lesion].mean() < (liver_rows[organ].min() + liver_rows[organ].max()) / 2
            assert columns[lesion].mean() < (liver_columns[organ].min() + liver_columns[organ].max()) / 2
    assert seen >= 2, "an axial panel and the coronal one show the lesion"


def test_the_selection_before_is_dotted_and_the_unsure_region_tinted() -> None:
    plain = draw_candidate(scene(), 1).astype(int)
    uncertain = np.zeros(SHAPE, bool)
    uncertain[8:16, 25:35, 25:35] = True
    unsure = draw_candidate(scene(uncertain=uncertain), 1).astype(int)
    tint = (unsure[:, :940, 0] - unsure[:, :940, 2] > 15) & (plain[:, :940, 0] - plain[:, :940, 2] < 5)
    assert np.count_nonzero(tint[:-42]) > 1000
    smaller = np.where(np.arange(SHAPE[2]) < 38, LABELS[1], 0).astype(np.uint8)
    before = draw_candidate(scene(reference=smaller), 1)
    bright = (before[:-42, :940] > 190).all(axis=2) & ~(plain[:-42, :940] > 190).all(axis=2)
    assert np.count_nonzero(bright) > 300


def test_the_unsure_region_is_seen_without_colour() -> None:
    """Tissue as bright as the tint: the hatch has a dark edge."""
    hu = np.full(SHAPE, 85, np.int16)
    uncertain = np.zeros(SHAPE, bool)
    uncertain[8:16, 25:35, 25:35] = True
    plain, unsure = (
        draw_candidate(scene(values=hu, uncertain=entry), 1)[90:300, :940] @ (0.299, 0.587, 0.114)
        for entry in (None, uncertain)
    )
    tissue = np.median(plain[plain > 50])
    darker = (unsure < tissue - 40) & (plain > tissue - 10)
    assert np.count_nonzero(darker) > 300


def test_outlines_are_seen_without_colour() -> None:
    """Tissue as bright as the liver's colour: the outline has a dark edge."""
    picture = draw_candidate(scene(values=np.full(SHAPE, 85, np.int16)), 1)
    grey = picture[90:300, 20:310] @ (0.299, 0.587, 0.114)
    tissue = np.median(grey)
    assert abs(np.dot(codes.LIVER_COLOUR.rgb, (0.299, 0.587, 0.114)) - tissue) < 25
    assert np.count_nonzero(grey < tissue / 2) > 400


def test_key_slices_show_small_lesions_rather_than_a_large_one_again() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[5:36, 5:35, 5:35] = 1
    labels[10:30, 8:24, 8:24] = 2
    labels[28:31, 28:32, 28:32] = 3
    labels[32:34, 28:31, 28:31] = 4
    labels[7:9, 28:31, 28:31] = 5
    upper, middle, lower = key_slices(labels, [], 1.0, 3)
    assert (upper in (32, 33), lower in (7, 8)) == (True, True)
    assert set(np.unique(labels[middle])) == {0, 1, 2, 3}, "one slice shows both"
    assert key_slices((labels > 0).astype(np.uint8), [], 1.0, 3) != []


def test_key_slices_show_the_lesions_uppermost_first() -> None:
    chosen = key_slices(LABELS[1], [LABELS[4]], SPACING[0], 5)
    assert chosen == sorted(chosen, reverse=True)
    assert len(chosen) == 5
    assert any(16 <= k < 19 for k in chosen)
    assert any(5 <= k < 7 for k in chosen)


def test_the_coronal_row_shows_lesions() -> None:
    assert 18 <= coronal_row(LABELS[4]) < 24


@pytest.mark.parametrize("kind", ["empty", "many", "no lesion"])
def test_odd_candidates_are_drawn(kind: str) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    if kind != "empty":
        labels[:, 10:60, 5:70] = 1
    if kind == "many":
        for n in range(20):
            labels[n, 12:20, 6 + 3 * n : 8 + 3 * n] = 2 + n
    shown = (SheetCandidate(1, "a character that is much longer than the page is wide " * 3, labels),)
    assert draw_candidate(scene(candidates=shown, reference=LABELS[1]), 1).max() == 255


def test_arrays_off_the_source_grid_are_refused(volume: Volume) -> None:
    with pytest.raises(ValueError, match="source grid"):
        write_pages(volume, candidates(), REQUEST, reference=LABELS[1][1:])


@pytest.mark.integration
def test_dciodvfy_finds_no_error(pages: list[pydicom.FileDataset]) -> None:
    for page in pages:
        assert iod_errors(Path(page.filename), "SCImage") == []


def test_the_overview_warns_where_the_liver_touches_an_end_of_the_stack() -> None:
    touching = LABELS[2].copy()
    touching[-1] = touching[len(touching) // 2]
    shown = tuple(
        SheetCandidate(k, CHARACTERS[k - 1], labels) for k, labels in {1: LABELS[1], 2: touching}.items()
    )
    amber = [
        int((np.abs(draw_overview(entry)[:70].astype(int) - (255, 179, 71)) < 20).all(axis=2).sum())
        for entry in (scene(), scene(candidates=shown))
    ]
    assert amber[0] == 0
    assert amber[1] > 50


LACKING = (
    "The scanner made 40 images in this acquisition. The series holds 24: "
    "slices may be missing at an end, or the other images belong to another reconstruction."
)
CUT_OFF = "An association of the sender ended without a release while this series came."


def result(shown: Scene, k: int) -> Figure:
    """The page of a result, with numbers measured here."""
    (labels,) = (candidate.labels for candidate in shown.candidates if candidate.k == k)
    measured = measure(shown.values, labels, shown.spacing_mm)
    tracking = {lesion.number: (f"2.25.{lesion.number}", "") for lesion in measured.lesions}
    return result_figure(shown, k, tabulate(measured, tracking))


PAGES = [overview_figure, lambda shown: candidate_figure(shown, 2), lambda shown: result(shown, 2)]


def words_of(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.texts).replace("•", " ").split())


@pytest.mark.parametrize("draw", PAGES)
def test_every_page_says_what_may_be_wrong_with_the_series(draw: Callable[..., Any]) -> None:
    assert "Warning" not in words_of(draw(scene()))
    words = words_of(draw(scene(warnings=(LACKING, CUT_OFF))))
    assert words.count("Warning") in (1, 2)
    assert LACKING in words
    assert CUT_OFF in words


def test_only_the_candidate_that_touches_an_end_says_so() -> None:
    touching = {k: labels.copy() for k, labels in LABELS.items()}
    touching[3][21:, 20:30, 20:30] = 1
    shown = scene(
        candidates=tuple(SheetCandidate(k, CHARACTERS[k - 1], labels) for k, labels in touching.items())
    )
    said = "liver touches slice 24 of 24: it may be cut off there"
    assert said in words_of(overview_figure(shown))
    for draw in (candidate_figure, result):
        assert [said in words_of(draw(shown, k)) for k in (1, 2, 3, 4)] == [False, False, True, False]


def test_a_warning_that_the_case_holds_is_said_once() -> None:
    touching = np.where(LABELS[1] > 0, 1, LABELS[1]).astype(np.uint8)
    touching[:3, 20:30, 20:30] = 1
    said = "liver touches slice 1 of 24: it may be cut off there"
    shown = scene(candidates=(SheetCandidate(1, "", touching),), warnings=(f"The {said}.",))
    for draw in (overview_figure, lambda page: candidate_figure(page, 1)):
        assert words_of(draw(shown)).count(said) == 1
