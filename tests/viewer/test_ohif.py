"""The four candidates of a round in OHIF: each under its own name, each on the voxels that it labels.

The archive is Orthanc, the viewer the published OHIF in headless Chromium. What is compared is the picture
that a reader sees, with the label volumes that the SEGs were made from; the CT under it tells where the
picture's pixels lie.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import matplotlib.image
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from tests.support.chromium import Chromium
from tests.support.ohif import Candidate, Ohif, OhifPage
from tests.support.orthanc import Orthanc
from uair_node.results.seg import SegRequest, Tracking, save_seg, write_seg
from uair_node.results.uids import result_uid
from uair_node.volume import Volume, read_series
from workers.training.ct_series import write_ct_series
from workers.training.phantoms import make_phantom

pytestmark = [pytest.mark.viewer, pytest.mark.integration]

GROWTH_VOXELS = {"most likely": 0, "most inclusive": 2, "tightest": -1, "alternative": 1}
"""The candidates in their order, and how far each is grown from the truth."""
LESION = 2
LIVER = 1


@dataclass(frozen=True)
class RoundInArchive:
    """One round as the archive holds it; `labels` and `names` in the order of candidates."""

    volume: Volume
    study_uid: str
    labels: tuple[np.ndarray[Any, Any], ...]
    names: tuple[str, ...]


@pytest.fixture(scope="module")
def round_in_archive(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> RoundInArchive:
    orthanc.delete_all()
    folder = tmp_path_factory.mktemp("round")
    phantom = make_phantom(3, size="small")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * phantom.spacing_mm
    affine[:3, 3] = (-190.0, -185.0, 40.0)
    paths = write_ct_series(folder / "ct", phantom.hu, affine)
    volume = read_series(paths)
    truth = np.minimum(phantom.labels, LESION)
    labels = tuple(varied(truth, growth) for growth in GROWTH_VOXELS.values())
    names = []
    for k, (trait, one) in enumerate(zip(GROWTH_VOXELS, labels, strict=True), 1):
        seg = write_seg(volume, one, request_for(k, trait))
        save_seg(seg, folder / f"candidate_{k}.dcm")
        names.append(str(seg.SeriesDescription))
    for path in sorted(folder.rglob("*.dcm")):
        orthanc.upload(path.read_bytes())
    study_uid = str(pydicom.dcmread(paths[0]).StudyInstanceUID)
    return RoundInArchive(volume, study_uid, labels, tuple(names))


def varied(truth: np.ndarray[Any, Any], growth: int) -> np.ndarray[Any, Any]:
    """Grow (or shrink) liver and lesions by voxels; the lesions only within their slices."""
    cross = ndimage.generate_binary_structure(3, 1)
    flat = cross & (np.abs(np.arange(3) - 1) == 0)[:, None, None]
    liver, lesion = truth > 0, truth == LESION
    if growth:
        change = ndimage.binary_dilation if growth > 0 else ndimage.binary_erosion
        liver = change(liver, cross, iterations=abs(growth))
        lesion = change(lesion, flat, iterations=abs(growth))
    return np.where(lesion, LESION, liver).astype(np.uint8)


def request_for(k: int, trait: str) -> SegRequest:
    return SegRequest(
        sop_instance_uid=result_uid("viewer test", "instance", k),
        series_instance_uid=result_uid("viewer test", "series", k),
        round=1,
        k=k,
        trait=trait,
        model_name="embedded",
        model_digest="0123456789abcdef" * 4,
        software_version="0.1.0",
        case_digest="f" * 64,
        content_datetime=datetime(2026, 1, 5, 10, 0),
        tracking={1: Tracking("UAIR lesion 1", result_uid("viewer test", "lesion"))},
    )


@pytest.fixture(scope="module")
def page(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OhifPage]:
    ohif = Ohif(orthanc.url)
    browser = Chromium(tmp_path_factory.mktemp("chromium"), width=1100, height=720)
    yield OhifPage(browser, ohif)
    browser.close()
    ohif.close()


@dataclass(frozen=True)
class Shown:
    """One candidate on the screen: the slice that is shown, the picture, and what is drawn on which voxel."""

    slice_index: int
    picture: bytes
    labels: np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def listed(round_in_archive: RoundInArchive, page: OhifPage) -> list[Candidate]:
    page.open_study(round_in_archive.study_uid)
    return page.candidates()


@pytest.fixture(scope="module")
def shown(round_in_archive: RoundInArchive, listed: list[Candidate], page: OhifPage) -> list[Shown]:
    """Open each candidate alone and turn the wheel to the slice with most of its lesion."""
    result = []
    volume = round_in_archive.volume
    for name, labels in zip(round_in_archive.names, round_in_archive.labels, strict=True):
        page.open_study(round_in_archive.study_uid)
        page.load(name)
        k = int((labels == LESION).sum(axis=(1, 2)).argmax())
        page.scroll_to(len(volume.slices) - k)  # OHIF shows the top first
        picture = page.steady_picture()
        result.append(Shown(k, picture, drawn_labels(picture, page.canvas(), volume.array[k])))
    return result


def drawn_labels(
    picture: bytes, canvas: tuple[int, int, int, int], hu: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Read from a picture which label is drawn on each voxel of the slice that it shows.

    A colour is a label's: bluish liver, yellowish lesion; CT is grey. The soft tissue's outline, in the
    picture and in `hu` `(Y, X)`, says which pixel is the centre of which voxel.
    """
    left, top, width, height = canvas
    pixels = np.round(matplotlib.image.imread(io.BytesIO(picture))[..., :3] * 255).astype(int)
    pixels = pixels[top : top + height, left : left + width]
    # The window of the series (centre 60, width 400 HU) shows 0 HU as 89.
    rows, columns = largest_piece(pixels.max(axis=-1) > 89)
    grid_rows, grid_columns = largest_piece(hu > 0)
    at_rows = centres(rows, grid_rows, hu.shape[0])
    at_columns = centres(columns, grid_columns, hu.shape[1])
    inside = np.zeros(hu.shape, bool)
    inside[grid_rows, grid_columns] = True
    sampled = pixels[np.clip(at_rows, 0, height - 1)[:, None], np.clip(at_columns, 0, width - 1)[None, :]]
    blueness = sampled[..., 2] - sampled[..., 0]
    return np.select([inside & (blueness > 20), inside & (blueness < -20)], [LIVER, LESION], 0)


def largest_piece(mask: np.ndarray[Any, Any]) -> tuple[slice, slice]:
    pieces, _ = ndimage.label(mask)
    boxes = ndimage.find_objects(pieces)
    rows, columns = boxes[np.bincount(pieces.ravel())[1:].argmax()]
    return rows, columns


def centres(pixels: slice, voxels: slice, count: int) -> np.ndarray[Any, Any]:
    """Return the pixel of each voxel's centre, given that the two ranges are the same stretch."""
    size = (pixels.stop - pixels.start) / (voxels.stop - voxels.start)
    return np.rint(pixels.start + (np.arange(count) + 0.5 - voxels.start) * size - 0.5).astype(int)


def dice(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_the_candidates_are_listed_by_name_under_their_series(listed, round_in_archive):
    assert sorted(candidate.name for candidate in listed) == sorted(round_in_archive.names)
    assert [name[:9] for name in round_in_archive.names] == [f"UAIR R1C{k}" for k in (1, 2, 3, 4)]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_candidate_is_drawn_on_the_voxels_that_it_labels(k, shown, round_in_archive):
    one = shown[k - 1]
    expected = round_in_archive.labels[k - 1][one.slice_index]
    for value in (LIVER, LESION):
        assert dice(one.labels == value, expected == value) > 0.9, f"label {value}"
    for axes in ((0,), (1,), (0, 1)):
        # The liver is unlike its mirror images in every direction, so that no flip could pass above.
        assert dice(one.labels > 0, np.flip(expected, axes) > 0) < 0.85, f"flipped along {axes}"


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_lesion_lies_on_the_patient_s_right(k, shown, page):
    """Right is left in the picture, and the viewer says so."""
    columns = np.nonzero(shown[k - 1].labels == LESION)[1]
    assert columns.size
    assert columns.max() < shown[k - 1].labels.shape[1] / 2
    assert page.side_marker() == "R"


def test_the_four_pictures_differ(shown):
    drawn = [one.labels for one in shown]
    for n, one in enumerate(drawn):
        for other in drawn[n + 1 :]:
            assert (one != other).sum() > 50
    assert len({one.picture for one in shown}) == 4
