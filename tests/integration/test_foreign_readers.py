"""SEG in the eyes of programs that share no code with ours: each voxel and each name is what we wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_config import codes
from dicom_config.model import Verb
from dicom_config.profiles import NEEDS, Profile
from tests.support.dcmqi import ReadSegment
from tests.support.edited import returned, segment
from tests.support.enhanced import write_enhanced_ct
from tests.support.foreign_readers import PROGRAMS, SegOnSeries, read_segs
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.seg_grids import GRIDS, affine_on, centres_mm, series_of_labels, written
from uair_node.cases.tables import ResultKind, WorkKind
from uair_node.dicom.volume import read_series
from uair_node.results.uids import lesion_uid

pytestmark = pytest.mark.integration

FORMS = {"strict": "", "ohif": "-ohif", "weasis": "-weasis"}
DESTINATIONS = [
    {"name": form, "profile": form, "ae_title": "PACS", "host": "127.0.0.1", "port": 1} for form in FORMS
]


@dataclass(frozen=True)
class Expected:
    """A SEG on its series, and the label volume that it was written from: 1 liver, 1 + n lesion n."""

    on_series: SegOnSeries
    labels: np.ndarray


def _on_every_grid(folder: Path) -> Mapping[str, Expected]:
    made = {}
    for number, grid in enumerate(GRIDS):
        affine = affine_on(grid)
        place = folder / f"grid-{number}"
        paths, volume, labels = series_of_labels(place, affine)
        seg = written(volume, (volume.array // 100).astype(np.uint8), place)
        made[grid] = Expected(SegOnSeries(seg, paths, affine), labels)
    return made


def _expected(offered: OfferedCase, path: Path, labels: np.ndarray) -> Expected:
    slices = [slice_.path for slice_ in offered.volume.slices]
    return Expected(SegOnSeries(path, slices, offered.volume.affine), labels)


def _of_a_case(folder: Path) -> Mapping[str, Expected]:
    """Candidates of two rounds and the final result, in the form for each viewer."""
    made = {}
    with offered_case(folder, destinations=DESTINATIONS) as offered:
        offered.send(offered.candidate(3), Verb.PICK)
        offered.compute()
        offered.work(WorkKind.PUBLISH)
        offered.send_file(_file(offered, ResultKind.CANDIDATE, "R2C2"), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        for round_, k in ((1, 1), (2, 4)):
            for form in FORMS:
                path = _file(offered, ResultKind.CANDIDATE, f"R{round_}C{k}", form)
                name = f"round {round_}, candidate {k}, {form}"
                made[name] = _expected(offered, path, candidate_labels(k))
        for form in FORMS:
            path = _file(offered, ResultKind.FINAL, "FINAL-R2C2", form)
            made[f"final, {form}"] = _expected(offered, path, candidate_labels(2))
    return made


def _on_enhanced_ct(folder: Path) -> Mapping[str, Expected]:
    """SEGs on multi-frame images, whose frames viewers name by number."""
    made = {}
    for name, (grid, instances, profile) in ENHANCED.items():
        place = folder / name.replace(" ", "-").replace(",", "")
        affine = affine_on(grid)
        single, _, labels = series_of_labels(place, affine)
        images = write_enhanced_ct(place / "multi", single, instances=instances)
        volume = read_series(images)
        drawn = (volume.array // 100).astype(np.uint8)
        seg = written(volume, drawn, place, needs=NEEDS[profile])
        slices = [images[n % instances] for n in range(len(single))]
        frames = [n // instances + 1 for n in range(len(single))]
        made[name] = Expected(SegOnSeries(seg, slices, affine, frames), labels)
    return made


def _file(offered: OfferedCase, kind: ResultKind, name: str, form: str = "strict") -> Path:
    (path,) = [
        path
        for path in map(offered.path, offered.results(kind))
        if path.stem.removeprefix("UAIR-") == name + FORMS[form]
    ]
    return path


def _of_an_edit(folder: Path) -> Mapping[str, Expected]:
    """A reader accepts candidate 3 with less of lesion 1, more of the liver, and a lesion of their own."""
    labels = candidate_labels(3)
    labels[7][labels[7] == 2] = 1
    labels[13, 5:9, 4:9] = 1
    labels[6, 8:10, 9:12] = 4
    with offered_case(folder) as offered:
        described = [
            segment(1, "Liver", codes.LIVER),
            *(segment(1 + n, "a", codes.LESION, lesion_uid(offered.case().digest, n)) for n in (1, 2)),
            segment(4, "b", codes.LESION),
        ]
        sources = [dcmread(path) for path in offered.paths]
        offered.send(returned(sources, labels, described), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        (final,) = offered.results(ResultKind.FINAL)
        return {"final, edited": _expected(offered, offered.path(final), labels)}


ENHANCED = {
    "Enhanced CT, one image": ("upright", 1, Profile.STRICT),
    "Enhanced CT, one image, ohif": ("upright", 1, Profile.OHIF),
    "Enhanced CT, two images": ("slices downwards", 2, Profile.STRICT),
    "Enhanced CT, oblique": ("oblique, slices downwards, columns flipped", 3, Profile.STRICT),
}
"""Grid, number of images whose frames lie in turn, and profile of the destination."""
KINDS = [f"round {round_}, candidate {k}, {form}" for round_, k in ((1, 1), (2, 4)) for form in FORMS]
KINDS += [*(f"final, {form}" for form in FORMS), "final, edited"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Expected]:
    folder = tmp_path_factory.mktemp("written")
    (folder / "case").mkdir()
    (folder / "edit").mkdir()
    (folder / "enhanced").mkdir()
    return {
        **_on_every_grid(folder / "grids"),
        **_of_a_case(folder / "case"),
        **_of_an_edit(folder / "edit"),
        **_on_enhanced_ct(folder / "enhanced"),
    }


@pytest.fixture(scope="module", params=PROGRAMS)
def read(
    request: pytest.FixtureRequest,
    expected: Mapping[str, Expected],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, list[ReadSegment]]:
    """The segments that a program reads; it is started once for all objects."""
    objects = [expectation.on_series for expectation in expected.values()]
    found = read_segs(request.param, objects, tmp_path_factory.mktemp("read"))
    return dict(zip(expected, found, strict=True))


@pytest.mark.parametrize("name", [*GRIDS, *KINDS, *ENHANCED])
def test_a_foreign_program_reads_each_voxel(
    read: Mapping[str, list[ReadSegment]], expected: Mapping[str, Expected], name: str
) -> None:
    on_series, labels = expected[name].on_series, expected[name].labels
    present = [int(value) for value in np.unique(labels) if value]
    segments = read[name]
    assert [found.label for found in segments] == ["Liver" if v == 1 else f"Lesion {v - 1}" for v in present]
    described = dcmread(on_series.segmentation, stop_before_pixels=True).SegmentSequence
    assert [found.tracking_uid for found in segments] == [item.get("TrackingUID", "") for item in described]
    for found, value in zip(segments, present, strict=True):
        assert found.covers_exactly(centres_mm(labels == value, on_series.affine))


def test_every_kind_is_read(expected: Mapping[str, Expected]) -> None:
    assert list(expected) == [*GRIDS, *KINDS, *ENHANCED]
