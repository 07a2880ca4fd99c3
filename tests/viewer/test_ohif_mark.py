"""A reader draws a length over a missed lesion in OHIF and stores it: the next round holds the lesion.

The archive is Orthanc with dicom_config/orthanc.lua. It hands on the report as OHIF stored it by STOW-RS.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_config.codes import SelectionClass
from tests.support.drawn_lesions import lesion_of, longest_line
from tests.support.marked import graphics_of
from tests.support.ohif import OhifPage
from tests.support.orthanc import Orthanc
from tests.support.pacs import await_round
from tests.support.ports import wait_until
from tests.support.running_node import Deployment
from tests.viewer.loop import (
    PATIENCE_S,
    SEED,
    looping,
    notice_texts,
    on_screen,
    store_until,
    study_of,
)
from uair_node.dicom.volume import Volume
from workers.phantoms import make_phantom

pytestmark = [pytest.mark.viewer, pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture
def deployment(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """The product with the real engine, whose finder proposes no lesion."""
    yield from looping(tmp_path, orthanc, max_lesions=0)


def _candidates(orthanc: Orthanc, number: int) -> list[pydicom.Dataset]:
    found = await_round(orthanc, number, PATIENCE_S)
    return [pydicom.dcmread(io.BytesIO(orthanc.dicom(series.instances[0]))) for series in found]


def _reports(orthanc: Orthanc) -> list[pydicom.Dataset]:
    """Return the reports that the viewer stored, as the archive has them."""
    stored = [series for series in orthanc.series() if series.tags.get("SeriesDescription") == "PICK"]
    return [pydicom.dcmread(io.BytesIO(orthanc.dicom(series.instances[0]))) for series in stored]


def test_a_length_drawn_over_a_missed_lesion_brings_it_into_the_next_round(
    orthanc: Orthanc, deployment: Deployment, volume: Volume, page: OhifPage
) -> None:
    first = _candidates(orthanc, 1)
    assert all(len(candidate.SegmentSequence) == 1 for candidate in first), "the liver alone is offered"
    deployment.await_state("AWAITING_SELECTION")
    labels = make_phantom(SEED, size="small").labels
    truth = labels == 1 + int(np.bincount(labels[labels > 1]).argmax() - 1)
    k, ends = longest_line(truth)

    def measure_and_store() -> None:
        page.open_study(study_of(volume))
        page.scroll_to(len(labels) - k)  # OHIF shows the top first
        start, end = (on_screen(page, row, column, labels.shape[1]) for row, column in ends)
        page.measure(start, end)
        page.store_report("PICK")

    store_until(lambda: bool(_reports(orthanc)), measure_and_store)
    page.leave()
    (report,) = _reports(orthanc)
    assert report.SOPClassUID == SelectionClass.ENHANCED_SR
    line = np.reshape(graphics_of(report)[0].GraphicData, (2, 2))  # column, row
    assert np.allclose(line, [(column + 0.5, row + 0.5) for row, column in ends], atol=0.6)

    wait_until(lambda: deployment.case()["selections"], "the archive to forward it", PATIENCE_S)
    (said,) = deployment.case()["selections"]
    assert (said["outcome"], said["mechanism"], said["calling_ae"]) == ("effective", "marks", orthanc.aet)
    pixel_mm = float(pydicom.dcmread(volume.slices[0].path).PixelSpacing[0])
    length = pixel_mm * float(np.linalg.norm(np.subtract(*ends)))
    told = f"Lesion 1 added from your measurement of {length:.0f} mm."
    assert said["sentence"] == told
    wait_until(lambda: any(told in text for text in notice_texts(orthanc)), "the notice", PATIENCE_S)

    order = [str(pydicom.dcmread(source.path).SOPInstanceUID) for source in volume.slices]
    drawn = [lesion_of(candidate, order, truth.shape) for candidate in _candidates(orthanc, 2)]
    shares = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in drawn]
    assert len({mask.tobytes() for mask in drawn}) == 4, "four, and no two alike"
    assert max(shares) > 0.6
    middle = tuple(np.argwhere(truth).mean(axis=0).round().astype(int))
    assert all(mask[middle] for mask in drawn), "the lesion's middle is in all four"
