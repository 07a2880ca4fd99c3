"""The loop on an Enhanced CT: through Orthanc to the node, picked, edited and accepted from there."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedCTImageStorage

from tests.e2e.conftest import running
from tests.support.enhanced import write_enhanced_ct
from tests.support.iods import iod_errors
from tests.support.pacs import await_round, objects_in, seg_series
from tests.support.peers import Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from tests.support.selections import new_uid

pytestmark = pytest.mark.integration


@pytest.fixture
def small_engine(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """The product with the smallest ensemble and one lesion, Orthanc as its PACS."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    settings = {**quick([pacs]), "engine": {"members": 8, "max_lesions": 1}}
    made = embedded(tmp_path, settings)
    yield from running(made, orthanc)


def _edited(candidate: Dataset) -> bytes:
    """The candidate as a viewer would save it after the reader cut a quarter of its frames away."""
    candidate.SOPInstanceUID = candidate.file_meta.MediaStorageSOPInstanceUID = new_uid()
    candidate.SeriesInstanceUID, candidate.SeriesDescription = new_uid(), "Segmentation"
    cut = len(candidate.PixelData) // 4
    candidate.PixelData = bytes(cut) + candidate.PixelData[cut:]
    buffer = BytesIO()
    candidate.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_enhanced_ct_goes_through_the_whole_loop(
    small_engine: Deployment, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    paths = write_enhanced_ct(tmp_path / "enhanced", phantom_series, instances=2, own_rescale=True)
    images = {orthanc.upload(path.read_bytes()): dcmread(path, stop_before_pixels=True) for path in paths}
    orthanc.store(list(images), "UAIR")
    first = await_round(orthanc, 1)
    assert small_engine.await_state("AWAITING_SELECTION")["slices"] == len(phantom_series)

    orthanc.store(first[1].id, "UAIR_PICK")
    second = await_round(orthanc, 2)
    case = small_engine.await_state("AWAITING_SELECTION")
    assert (case["selections"][0]["mechanism"], case["selections"][0]["picked"]) == ("seg", 2)

    drawn = orthanc.upload(_edited(dcmread(BytesIO(orthanc.dicom(second[0].instances[0])))))
    orthanc.store(drawn, "UAIR_ACCEPT")
    case = small_engine.await_state("ACCEPTED")
    assert case["selections"][1]["mechanism"] == "edited-seg"
    wait_until(lambda: len(seg_series(orthanc, "UAIR FINAL")) == 1, "the final segmentation in the PACS")
    wait_until(
        lambda: "SR" in {found_series.modality for found_series in orthanc.series()}, "the report in the PACS"
    )

    frames = {
        (image.SOPInstanceUID, number)
        for image in images.values()
        for number in range(1, image.NumberOfFrames + 1)
    }
    checked = 0
    for path, made in objects_in(orthanc, tmp_path):
        if made.Modality != "SEG" or not made.SeriesDescription.startswith("UAIR"):
            continue
        assert iod_errors(path, "Segmentation") == []
        for frame in made.PerFrameFunctionalGroupsSequence:
            (source,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert source.ReferencedSOPClassUID == EnhancedCTImageStorage
            assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) in frames
        checked += 1
    assert checked == 9, "four, four and the final one"
