"""A series that holds several acquisitions: each is a case of its own, or is refused by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from dicom_config.errors import ConfigError
from dicom_config.model import Settings, load_settings
from tests.support.cases import publish_round
from tests.support.enhanced import write_enhanced_ct
from tests.support.intake import context_in, received
from tests.support.selections import key_object
from tests.support.series import affine_of, edit, noise_hu
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, WorkItem
from uair_node.cli import app
from uair_node.context import Context
from uair_node.dicom.headers import read_headers
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.intake.rules_dry_run import dry_run
from uair_node.intake.series_parts import inspect_parts
from uair_node.results.provenance import Provenance
from uair_node.results.seg import SegRequest
from workers.phantoms.ct_series import write_ct_series

S = CaseState
SERIES, STUDY, FRAME = "2.25.81", "2.25.82", "2.25.83"
Value = Callable[[int], object]


def phase(folder: Path, offset_mm: float = 0.0, slices: int = 16, **attributes: object) -> list[Path]:
    """Write one acquisition of the series; a callable value gets the slice's number from 0."""
    hu = noise_hu((slices, 16, 16), seed=int(10 * offset_mm))
    paths = write_ct_series(folder, hu, affine_of(origin_mm=(-80.0, -90.0, 35.5 + offset_mm)))
    for k, path in enumerate(paths):
        own = {name: value(k) if callable(value) else value for name, value in attributes.items()}
        edit(
            path,
            SeriesInstanceUID=SERIES,
            StudyInstanceUID=STUDY,
            FrameOfReferenceUID=FRAME,
            SOPInstanceUID=generate_uid(entropy_srcs=[str(folder), str(k)]),
            **own,
        )
    return paths


def two_phases(folder: Path, offset_mm: float = 2.5) -> tuple[list[Path], list[Path]]:
    first = phase(folder / "1", AcquisitionNumber=1)
    return first, phase(folder / "2", offset_mm, AcquisitionNumber=2)


def _uids(paths: Sequence[Path]) -> set[str]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths}


def _found(paths: Sequence[Path], settings: Settings | None = None) -> dict[str, tuple[str, int]]:
    parts = inspect_parts(read_headers(paths), settings or Settings())
    return {
        part.acquisition: (part.verdict.refusal.code if part.verdict.refusal else "", len(part.headers))
        for part in parts
    }


def _send(context: Context, paths: Sequence[Path]) -> list[tuple[str, CaseState]]:
    inbox = Inbox(context)
    for path in paths:
        inbox.receive(received(path))
    time.sleep(0.02)  # the quiet period of these tests
    assemble(context)
    return _cases(context)


def _cases(context: Context) -> list[tuple[str, CaseState]]:
    with context.database.transaction() as session:
        return [(case.acquisition, case.state) for case in session.query(Case).order_by(Case.id)]


ONE, TWO = ("Acquisition Number 1", S.READY), ("Acquisition Number 2", S.READY)


@pytest.mark.parametrize("offset_mm", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(
    ("attribute", "values", "names"),
    [
        ("AcquisitionNumber", (1, 2), ("Acquisition Number 1", "Acquisition Number 2")),
        ("TemporalPositionIdentifier", (4, 9), ("Temporal Position 4", "Temporal Position 9")),
        ("KVP", ("80", "140"), ("KVP 80", "KVP 140")),
        ("ConvolutionKernel", ("Br40", "Br64"), ("Convolution Kernel 1 of 2", "Convolution Kernel 2 of 2")),
        ("AcquisitionTime", ("093000", "093045"), ("Acquisition Time 1 of 2", "Acquisition Time 2 of 2")),
        ("ContentTime", ("093000", "093045"), ("Content Time 1 of 2", "Content Time 2 of 2")),
        (
            "IrradiationEventUID",
            ("2.25.91", "2.25.92"),
            ("Irradiation Event 1 of 2", "Irradiation Event 2 of 2"),
        ),
        ("TriggerTime", ("0", "350"), ("Trigger Time 1 of 2", "Trigger Time 2 of 2")),
        (
            "InstanceNumber",
            (lambda k: 1 + k, lambda k: 17 + k),
            ("Instance Number 1 to 16", "Instance Number 17 to 32"),
        ),
        (
            "InstanceNumber",
            (lambda k: 16 - k, lambda k: 17 + k),
            ("Instance Number 1 to 16", "Instance Number 17 to 32"),
        ),
        (
            "AcquisitionTime",
            (lambda k: f"0930{k:02}", lambda k: f"0931{k:02}.5"),
            ("Acquisition Time 1 of 2", "Acquisition Time 2 of 2"),
        ),
        (
            "AcquisitionNumber",
            (lambda k: 1 + k // 8, lambda k: 3 + k // 8),
            ("Acquisition Number 1 to 2", "Acquisition Number 3 to 4"),
        ),
        (
            "AcquisitionNumber",
            (lambda k: 16 - k, lambda k: 32 - k),
            ("Acquisition Number 1 to 16", "Acquisition Number 17 to 32"),
        ),
        (
            "AcquisitionNumber",
            (lambda k: 1 + k, lambda k: 17 + k),
            ("Acquisition Number 1 to 16", "Acquisition Number 17 to 32"),
        ),
    ],
)
def test_overlapping_acquisitions_are_divided(
    tmp_path: Path, attribute: str, values: tuple[object, object], names: tuple[str, str], offset_mm: float
) -> None:
    first = phase(tmp_path / "1", **{attribute: values[0]})
    second = phase(tmp_path / "2", offset_mm, **{attribute: values[1]})
    parts = inspect_parts(read_headers(second + first), Settings())
    assert {part.acquisition: part.verdict.refusal for part in parts} == dict.fromkeys(names)
    held = {part.acquisition: {header.sop_instance_uid for header in part.headers} for part in parts}
    assert [held[name] for name in names] == [_uids(first), _uids(second)]


def test_acquisition_datetime_stands_in_for_a_time_that_is_absent(tmp_path: Path) -> None:
    times = ("20260105093000.5+0100", "20260105093045.5+0100")
    first, second = (
        phase(tmp_path / time, offset_mm, AcquisitionTime=None, AcquisitionDateTime=time)
        for time, offset_mm in zip(times, (0.0, 2.5), strict=True)
    )
    assert _found(first + second) == {f"Acquisition Time {n} of 2": ("", 16) for n in (1, 2)}


def test_phases_of_two_kernels_are_four_acquisitions(tmp_path: Path) -> None:
    paths = [
        path
        for n in (1, 2)
        for kernel in ("Br40", "Br64")
        for path in phase(
            tmp_path / f"{n}{kernel}", 2.5 * (n - 1), AcquisitionNumber=n, ConvolutionKernel=kernel
        )
    ]
    assert _found(paths) == {
        f"Acquisition Number {n}, Convolution Kernel {k} of 2": ("", 16) for n in (1, 2) for k in (1, 2)
    }


def test_a_4d_series_is_a_case_a_phase_in_order_of_time(tmp_path: Path) -> None:
    paths = [
        path
        for n in (3, 1, 12, 2)
        for path in phase(tmp_path / str(n), TemporalPositionIdentifier=n, AcquisitionTime=f"09{n:02}00")
    ]
    assert list(_found(paths)) == [f"Temporal Position {n}" for n in (1, 2, 3, 12)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"ContentTime": lambda k: f"0930{(k ^ 1):02}"},  # images are made out of order
        {"ContentTime": lambda k: f"0930{7 * k % 16:02}"},
        {"AcquisitionNumber": lambda k: (1, 3, 2, 2)[k // 4]},  # the middle is scanned last
        {"AcquisitionTime": lambda k: f"0930{k:02}", "AcquisitionNumber": lambda k: k + 1},
        {"InstanceNumber": lambda k: 16 - k},
        {"InstanceNumber": lambda k: 1 + 7 * k % 16},  # an archive counted anew
        {"InstanceNumber": lambda k: 1 + k % 8},  # each half was counted by itself
        {"InstanceNumber": 1},
        {"IrradiationEventUID": lambda k: f"2.25.9{k // 6}"},
        {"TriggerTime": lambda k: 300 * (7 * k % 16)},
        {"XRayTubeCurrent": lambda k: 100 + 7 * (k % 5), "AcquisitionNumber": 3},
    ],
)
def test_one_scan_stays_one_series(tmp_path: Path, attributes: dict[str, object]) -> None:
    assert _found(phase(tmp_path, **attributes)) == {"": ("", 16)}


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: [edit(path, AcquisitionNumber=None) for path in second[:1]],
        lambda first, second: [path.unlink() for path in (*first[3:9], *second[3:9])],
    ],
    ids=["one-without-number", "none-whole"],
)
def test_what_cannot_be_divided_is_refused_whole(tmp_path: Path, change: Callable[..., object]) -> None:
    first, second = two_phases(tmp_path)
    third = phase(tmp_path / "3", 1.0, slices=5, AcquisitionNumber=3)
    change(first, second)
    paths = [path for path in (*first, *second, *third) if path.exists()]
    assert list(_found(paths).values()) == [("several-acquisitions", len(paths))]


def test_halves_of_two_kernels_are_no_acquisitions(tmp_path: Path) -> None:
    lower = phase(tmp_path / "1", ConvolutionKernel="Br40")
    upper = phase(tmp_path / "2", 80.0, ConvolutionKernel="Br64")
    assert _found(lower + upper) == {"": ("several-acquisitions", 32)}


@pytest.mark.parametrize(
    ("attribute", "name"), [("TemporalPositionIndex", "Temporal Position"), ("StackID", "Stack ID")]
)
@pytest.mark.parametrize("apart", [True, False])
def test_enhanced_ct_is_divided_where_its_images_hold_one_acquisition_each(
    tmp_path: Path, attribute: str, name: str, apart: bool
) -> None:
    """An image that holds frames of two acquisitions is refused by name."""
    first, second = two_phases(tmp_path)
    images = [
        *write_enhanced_ct(tmp_path / "a", [*first[:8], *second[8:]] if not apart else first),
        *write_enhanced_ct(tmp_path / "b", [*second[:8], *first[8:]] if not apart else second),
    ]
    for number, path in enumerate(images):
        image = dcmread(path)
        for k, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence[0].FrameAcquisitionNumber = 1
            value = 1 + (number + (0 if apart else k // 8)) % 2
            setattr(frame.FrameContentSequence[0], attribute, str(value) if attribute == "StackID" else value)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}"
        image.save_as(path)
    names = [f"{name} {n} of 2" if attribute == "StackID" else f"{name} {n}" for n in (1, 2)]
    refused = {"": ("several-acquisitions", 32)}
    assert _found(images) == (dict.fromkeys(names, ("", 16)) if apart else refused)


def test_interleaved_phases_are_two_cases_of_their_own_slices(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    with context_in(tmp_path / "data", database_url) as context:
        mixed = [path for pair in zip(first, second, strict=True) for path in pair]
        assert _send(context, mixed) == [ONE, TWO]
        with context.database.transaction() as session:
            case_1, case_2 = session.query(Case).order_by(Case.id)
            assert [{i.sop_instance_uid for i in case.instances} for case in (case_1, case_2)] == [
                _uids(first),
                _uids(second),
            ]
            assert case_1.digest != case_2.digest
            assert (case_1.instance_count, case_2.instance_count) == (16, 16)
            due = {(item.kind, item.case_id) for item in session.query(WorkItem).filter_by(open=True)}
            assert due == {("compute", case_1.id), ("compute", case_2.id)}
        assert _send(context, mixed) == [ONE, TWO]
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "database": {"url": database_url}}))
    shown = CliRunner().invoke(app, ["case", "show", "2", "--config", str(site)])
    assert "16 slices, Acquisition Number 2" in " ".join(shown.stdout.split())
    listed = CliRunner().invoke(app, ["cases", "--json", "--config", str(site)])
    assert [row["acquisition"] for row in json.loads(listed.stdout)] == [TWO[0], ONE[0]]


def test_a_later_phase_leaves_the_case_of_the_first(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    with context_in(tmp_path / "data", database_url) as context:
        assert _send(context, first) == [("", S.READY)]
        assert _send(context, second) == [("", S.READY), TWO]
        late = phase(tmp_path / "late", 82.5, slices=2, AcquisitionNumber=2)
        assert _send(context, late) == [("", S.READY), (TWO[0], S.SUPERSEDED), TWO]
        with context.database.transaction() as session:
            assert [len(case.instances) for case in session.query(Case).order_by(Case.id)] == [16, 16, 18]


def test_a_correction_supersedes_each_acquisition_by_its_own(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    with context_in(tmp_path / "data", database_url) as context:
        _send(context, first + second)
        for path in first + second:
            edit(path, PatientID="RIGHT-1")
        gone = [(name, S.SUPERSEDED) for name, _ in (ONE, TWO)]
        assert _send(context, first + second) == [*gone, ONE, TWO]
        with context.database.transaction() as session:
            assert [session.get(Case, n).sentence.split(";")[1] for n in (1, 2)] == [
                " case 3 replaces this case.",
                " case 4 replaces this case.",
            ]


@pytest.mark.parametrize("left_out", [slice(5, 6), slice(4, 16)])
def test_a_broken_acquisition_is_waited_for_and_refused_beside_a_whole_one(
    database_url: str, tmp_path: Path, left_out: slice
) -> None:
    first, second = two_phases(tmp_path)
    missing = second[left_out]
    del second[left_out]
    code = "missing-slice" if len(missing) == 1 else "too-few-slices"
    with context_in(tmp_path / "data", database_url) as context:
        assert _send(context, first + second) == [("", S.RECEIVING)]
        with context.database.transaction() as session:
            assert session.query(Case).one().code == code
    intake = {"quiet_s": 0.01, "max_wait_s": 0.01, "min_free_bytes": 0}
    with context_in(tmp_path / "data", database_url, intake=intake) as context:
        assemble(context)
        assert _cases(context) == [ONE, (TWO[0], S.REJECTED)]
        with context.database.transaction() as session:
            refused = session.get(Case, 2)
            assert (refused.code, refused.instance_count) == (code, len(second))
        assert _send(context, missing) == [ONE, (TWO[0], S.SUPERSEDED), TWO]


def test_only_the_configured_acquisition_is_segmented(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    intake = {"quiet_s": 0.01, "min_free_bytes": 0, "acquisitions": 2}
    with context_in(tmp_path / "data", database_url, intake=intake) as context:
        assert _send(context, first + second) == [(ONE[0], S.REJECTED), TWO]
        with context.database.transaction() as session:
            refused = session.get(Case, 1)
            assert refused.code == "other-acquisition-chosen"
            assert "2 acquisitions. Only acquisition 2, in order of time" in refused.sentence
            assert ONE[0] in refused.sentence


def test_a_site_refuses_series_of_several_acquisitions(tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    settings = Settings(intake={"acquisitions": "refuse"})
    assert _found(first + second, settings) == {"": ("several-acquisitions", 32)}


@pytest.mark.parametrize("value", ["0", "all", "-1", "1.5"])
def test_a_wrong_choice_of_acquisitions_is_answered_with_its_key(tmp_path: Path, value: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"intake: {{acquisitions: {value}}}")
    with pytest.raises(ConfigError, match=r"intake\.acquisitions"):
        load_settings(site)


RULES = {
    "per_study": 1,
    "series": [{"name": "venous", "score": 5, "contrast": True, "delay_s": {"min": 55, "max": 100}}],
}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_a_rule_chooses_the_phase_by_its_delay(
    database_url: str, tmp_path: Path, order: tuple[int, ...]
) -> None:
    minutes = {1: "093025", 2: "093110", 3: "093500"}
    phases = {
        n: phase(
            tmp_path / "ct" / str(n),
            AcquisitionNumber=n,
            AcquisitionTime=minutes[n],
            ContrastBolusAgent="agent",
            ContrastBolusStartTime="093000",
        )
        for n in minutes
    }
    with context_in(tmp_path / "data", database_url, rules=RULES) as context:
        states = dict(_send(context, [path for n in order for path in phases[n]]))
    assert states == {f"Acquisition Number {n}": S.READY if n == 2 else S.REJECTED for n in minutes}
    tried = dry_run(tmp_path / "ct", Settings(rules=RULES))
    assert {(series.acquisition, series.runs, series.code) for series in tried} == {
        ("Acquisition Number 1", False, "other-series-chosen"),
        ("Acquisition Number 2", True, ""),
        ("Acquisition Number 3", False, "other-series-chosen"),
    }


def test_a_phase_that_comes_after_the_choice_finds_the_place_taken(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    with context_in(tmp_path / "data", database_url, rules={"per_study": 1}) as context:
        _send(context, first)
        assert _send(context, second) == [("", S.READY), (TWO[0], S.REJECTED)]


def test_a_rejection_of_one_acquisition_leaves_the_other(database_url: str, tmp_path: Path) -> None:
    first, second = two_phases(tmp_path)
    with context_in(tmp_path / "data", database_url) as context:
        _send(context, first + second)
        with context.database.transaction() as session:
            for case in session.query(Case):
                publish_round(session, case)
        note = tmp_path / "note.dcm"
        images = [dcmread(path, stop_before_pixels=True) for path in first]
        key_object(images, Code("113001", "DCM", "Rejected")).save_as(note, enforce_file_format=True)
        waiting = (TWO[0], S.AWAITING_SELECTION)
        assert _send(context, [note]) == [(ONE[0], S.REJECTED), waiting]
        part = tmp_path / "part.dcm"
        images = [dcmread(path, stop_before_pixels=True) for path in second[-2:]]
        key_object(images, Code("113001", "DCM", "Rejected")).save_as(part, enforce_file_format=True)
        assert _send(context, [part])[1][1] == S.SUPERSEDED


def test_the_series_description_names_the_acquisition() -> None:
    request = SegRequest(
        sop_instance_uid="1.2",
        series_instance_uid="1.3",
        k=3,
        character="most inclusive",
        provenance=Provenance(
            round=1,
            model_name="m",
            model_digest="0",
            software_version="0",
            case_digest="0",
            content_datetime=datetime(2026, 1, 1),
        ),
        acquisition="Temporal Position 2",
    )
    assert request.description == "UAIR R1C3 most inclusive, Temporal Position 2"
