"""A reader measures a lesion that no candidate holds: the next four candidates hold it, at that place."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.e2e.conftest import running
from tests.support.drawn_lesions import lesion_of, longest_line
from tests.support.marked import Drawn, marked_report
from tests.support.pacs import await_round
from tests.support.peers import Dcmtk, Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from workers.phantoms import make_phantom

pytestmark = pytest.mark.integration


@pytest.fixture
def finding_nothing(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """The product with the real engine, whose finder proposes no lesion."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    yield from running(embedded(tmp_path, {**quick([pacs]), "engine": {"max_lesions": 0}}), orthanc)


def test_one_measurement_adds_a_missedlesion_of(
    finding_nothing: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    node = finding_nothing
    assert dcmtk.storescu(HOST, node.port, "UAIR", "ROUTER", phantom_series).returncode == 0
    first = [dcmread(BytesIO(orthanc.dicom(series.instances[0]))) for series in await_round(orthanc, 1)]
    assert all(len(candidate.SegmentSequence) == 1 for candidate in first), "the liver alone is offered"
    node.await_state("AWAITING_SELECTION")

    labels = make_phantom(3, size="small").labels
    truth = labels == 1 + int(np.bincount(labels[labels > 1]).argmax() - 1)
    headers = (dcmread(path) for path in phantom_series)
    images = sorted(headers, key=lambda image: image.ImagePositionPatient[2])
    k, ends = longest_line(truth)
    line = Drawn("POLYLINE", [(column + 0.5, row + 0.5) for row, column in ends], images[k])
    path = tmp_path / "measured.dcm"
    marked_report([line]).save_as(path, enforce_file_format=True)
    assert dcmtk.storescu(HOST, node.port, "UAIR_PICK", "VIEWER", [path]).returncode == 0

    wait_until(lambda: len(node.case()["selections"]) == 1, "the report to be understood", 60.0)
    (row,) = node.case()["selections"]
    assert (row["outcome"], row["mechanism"]) == ("effective", "marks")
    assert row["sentence"].startswith("Lesion 1 added from your measurement of ")
    second = [dcmread(BytesIO(orthanc.dicom(series.instances[0]))) for series in await_round(orthanc, 2)]
    order = [str(image.SOPInstanceUID) for image in images]
    drawn = [lesion_of(candidate, order, truth.shape) for candidate in second]
    shares = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in drawn]
    assert len({mask.tobytes() for mask in drawn}) == 4, "four, and no two alike"
    assert min(shares) > 0.3
    assert max(shares) > 0.6
    middle = tuple(np.argwhere(truth).mean(axis=0).round().astype(int))
    assert all(mask[middle] for mask in drawn), "the lesion's middle is in all four"
