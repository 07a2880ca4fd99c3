"""The loop on MR: a T1-weighted phantom from DCMTK through the node to Orthanc, picked and accepted there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage

from tests.e2e.conftest import running
from tests.support.iods import iod_errors
from tests.support.pacs import await_pages, await_round, objects_in, seg_series
from tests.support.peers import Dcmtk, Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from uair_node.dicom.volume import read_series
from workers.phantoms import MrPhantom, make_mr_phantom
from workers.phantoms.mr_series import write_mr_series

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def phantom() -> MrPhantom:
    return make_mr_phantom(3, size="small")


@pytest.fixture(scope="module")
def mr_series(phantom: MrPhantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    z, y, x = phantom.spacing_mm
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    return write_mr_series(tmp_path_factory.mktemp("mr"), phantom.signal, affine)


@pytest.fixture
def mr_node(tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """A node that takes MR only, with the smallest ensemble and two lesions, Orthanc as its PACS."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    settings = quick([pacs], intake={"profiles": ["mr-t1"]})
    made = embedded(tmp_path, {**settings, "engine": {"members": 8, "max_lesions": 2}})
    yield from running(made, orthanc)


def test_mr_goes_through_the_whole_loop_and_ct_is_refused(
    mr_node: Deployment,
    dcmtk: Dcmtk,
    orthanc: Orthanc,
    phantom: MrPhantom,
    mr_series: list[Path],
    phantom_series: list[Path],
    tmp_path: Path,
) -> None:
    for paths in (phantom_series, mr_series):
        assert dcmtk.storescu(HOST, mr_node.port, "UAIR", "ROUTER", paths).returncode == 0
    first = await_round(orthanc, 1)
    await_pages(orthanc, 1)
    orthanc.store(first[1].id, "UAIR_PICK")
    second = await_round(orthanc, 2)
    orthanc.store(second[0].id, "UAIR_ACCEPT")
    wait_until(lambda: len(seg_series(orthanc, "UAIR FINAL")) == 1, "the final segmentation in the PACS")
    wait_until(
        lambda: "SR" in {found_series.modality for found_series in orthanc.series()}, "the report in the PACS"
    )

    states = {case["code"]: case for case in mr_node.cases()}
    assert states["other-modality"]["state"] == "REJECTED"
    assert "not MR slices" in states["other-modality"]["sentence"]
    assert "intake.profiles" in states["other-modality"]["remedy"]
    assert states[""]["state"] == "ACCEPTED"

    slices = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in mr_series}
    checked = {"SEG": 0, "SR": 0}
    for path, made in objects_in(orthanc, tmp_path):
        if made.Modality == "SEG":
            assert iod_errors(path, "Segmentation") == []
            _check_sources(made, slices)
            checked["SEG"] += 1
        elif made.Modality == "SR":
            assert iod_errors(path, "Comprehensive3DSR") == []
            _check_report(made, phantom)
            checked["SR"] += 1
    assert checked == {"SEG": 9, "SR": 1}
    final = dcmread(next(path for path, dataset in objects_in(orthanc, tmp_path) if _is_final(dataset)))
    assert _dice(final, mr_series, phantom) > 0.85

    told = mr_node.command_line("case", "measurements", str(states[""]["case"])).stdout
    assert "mean_signal" in told
    assert "_hu" not in told


def _is_final(made: Dataset) -> bool:
    return str(made.SeriesDescription).startswith("UAIR FINAL") and made.Modality == "SEG"


def _check_sources(seg: Dataset, slices: set[str]) -> None:
    (series,) = seg.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == slices
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPClassUID == MRImageStorage
        assert source.ReferencedSOPInstanceUID in slices


def _check_report(report: Dataset, phantom: MrPhantom) -> None:
    """No Hounsfield unit anywhere; signals are in arbitrary units, within what the phantom has."""
    units = [(item.ConceptNameCodeSequence[0].get("CodeValue"), item) for item in _numbers(report)]
    signals = [item for name, item in units if name == "110852"]
    assert signals, "MR signal intensity is stated"
    for item in signals:
        value = item.MeasuredValueSequence[0]
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "[arb'U]"
        assert 0 <= float(value.NumericValue) <= phantom.signal.max()
    named = {item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue for _, item in units}
    assert "[hnsf'U]" not in named
    assert "112031" not in {name for name, _ in units}, "nothing claims an attenuation"


def _numbers(item: Dataset) -> Iterator[Dataset]:
    if item.get("ValueType") == "NUM":
        yield item
    for inner in item.get("ContentSequence", []):
        yield from _numbers(inner)


def _dice(seg: Dataset, paths: list[Path], phantom: MrPhantom) -> float:
    """Return the Dice of the union of all segments with the phantom's liver, slice by slice."""
    truth = read_series(paths).canonical().to_source(phantom.labels) > 0
    order = {slice_.sop_instance_uid: k for k, slice_ in enumerate(read_series(paths).slices)}
    drawn = np.zeros(truth.shape, bool)
    for frame, functional in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = functional.DerivationImageSequence[0].SourceImageSequence
        drawn[order[source.ReferencedSOPInstanceUID]] |= frame > 0
    return float(2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()))
