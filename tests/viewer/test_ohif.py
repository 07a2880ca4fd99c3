"""The four candidates of a round in OHIF: each under its own name, each on the voxels that it labels.

The archive is Orthanc, the viewer the published OHIF in headless Chromium. The picture that a reader sees is
compared with the label volumes that the SEGs were made from. The CT under it tells where the picture's pixels
lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.support.ohif import Candidate, OhifPage
from tests.viewer.pictures import dice, drawn_labels
from tests.viewer.rounds import LESION, LIVER, RoundInArchive

pytestmark = [pytest.mark.viewer, pytest.mark.integration]


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


def test_the_candidates_are_listed_by_name_under_their_series(
    listed: list[Candidate], round_in_archive: RoundInArchive
) -> None:
    assert sorted(candidate.name for candidate in listed) == sorted(round_in_archive.names)
    assert [name[:9] for name in round_in_archive.names] == [f"UAIR R1C{k}" for k in (1, 2, 3, 4)]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_candidate_is_drawn_on_the_voxels_that_it_labels(
    k: int, shown: list[Shown], round_in_archive: RoundInArchive
) -> None:
    view = shown[k - 1]
    expected = round_in_archive.labels[k - 1][view.slice_index]
    for value in (LIVER, LESION):
        # 1 when measured; one voxel to the side gives 0.92 and less, the next slice 0.96.
        assert dice(view.labels == value, expected == value) > 0.98, f"label {value}"
    for axes in ((0,), (1,), (0, 1)):
        # The liver is unlike its mirror images in every direction, so that no flip could pass above.
        assert dice(view.labels > 0, np.flip(expected, axes) > 0) < 0.85, f"flipped along {axes}"


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_lesion_lies_on_the_patient_s_right(k: int, shown: list[Shown], page: OhifPage) -> None:
    """Right is left in the picture, and the viewer says so."""
    columns = np.nonzero(shown[k - 1].labels == LESION)[1]
    assert columns.size
    assert columns.max() < shown[k - 1].labels.shape[1] / 2
    assert page.side_marker() == "R"


def test_the_four_pictures_differ(shown: list[Shown]) -> None:
    drawn = [entry.labels for entry in shown]
    for n, view in enumerate(drawn):
        for other in drawn[n + 1 :]:
            assert (view != other).sum() > 50
    assert len({entry.picture for entry in shown}) == 4
