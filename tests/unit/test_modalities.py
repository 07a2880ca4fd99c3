"""Modality profiles: what each takes and refuses, how its values are read, and that CT is what it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import typer
from typer.testing import CliRunner

from dicom_config.errors import ConfigError, InputError
from dicom_config.modalities import CT, PROFILES, ModalityProfile
from dicom_config.modalities.profile import BodyScaling, FixedWindow
from dicom_config.model import GateSection, IntakeSection, load_settings
from dicom_config.quantities import QUANTITIES
from tests.support.intake import context_in, received
from tests.support.iods import iod_errors
from tests.support.series import affine_of, edit, edit_all, good_mr_series, good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.dicom.gate import GateResult, inspect_series
from uair_node.dicom.headers import read_headers
from uair_node.dicom.intensity import display_window, on_training_scale
from uair_node.dicom.volume import read_geometry, read_series
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.intake.rules_dry_run import dry_run
from uair_node.operations.checks.finding import Level
from uair_node.operations.checks.modalities import check_profiles
from workers.demo.cli import phantom as phantom_command
from workers.phantoms import PLAIN, make_mr_phantom, make_phantom
from workers.phantoms.ct_series import write_ct_series
from workers.research.evaluation.evaluated_cases import PhantomSource

MR = PROFILES["mr-t1"]


def inspect(paths: Sequence[Path], *profiles: ModalityProfile) -> GateResult:
    return inspect_series(read_headers(paths), GateSection(), profiles)


@pytest.mark.parametrize(
    ("make", "taken", "others"),
    [(good_mr_series, MR, CT), (good_series, CT, MR)],
    ids=["mr", "ct"],
)
def test_a_node_takes_what_its_profiles_name_and_says_what_it_takes(
    tmp_path: Path, make: Callable[..., Any], taken: Any, others: Any
) -> None:
    paths = make(tmp_path)
    assert inspect(paths, taken).refusal is None
    assert inspect(paths, CT, MR).refusal is None
    refused = inspect(paths, others)
    assert refused.refusal.code == "other-modality"
    assert f"not {others.modality} slices" in refused.refusal.sentence
    assert "intake.profiles" in refused.refusal.remedy
    assert not refused.may_complete


def test_an_mr_series_without_a_contrast_agent_is_taken_and_the_assumption_named(tmp_path: Path) -> None:
    paths = edit_all(good_mr_series(tmp_path), ContrastBolusAgent="")
    verdict = inspect(paths, MR)
    assert verdict.refusal is None
    assert verdict.assumed == ("contrast-agent",)
    assert read_geometry(paths).assumed == ("contrast-agent",)
    edit(paths[3], ContrastBolusAgent="Gadobutrol")
    assert inspect(paths, MR).assumed == ()


def test_what_mr_headers_lack_does_not_stop_a_case(tmp_path: Path) -> None:
    paths = edit_all(good_mr_series(tmp_path), ScanningSequence=None, EchoTime=None, RepetitionTime=None)
    assert inspect(paths, MR).refusal is None


def test_mr_values_are_those_stored_and_rescaled_only_where_the_header_says_how(tmp_path: Path) -> None:
    paths = good_mr_series(tmp_path)
    stored = pydicom.dcmread(paths[4]).pixel_array
    edit(paths[4], RescaleSlope="0.5", RescaleIntercept="3.25")
    edit(paths[5], RescaleSlope="0.5")
    volume = read_series(paths)
    assert volume.profile == MR
    assert volume.array.dtype == np.float32
    places = {source.path: k for k, source in enumerate(volume.slices)}
    np.testing.assert_array_equal(volume.array[places[paths[4]]], stored * np.float32(0.5) + 3.25)
    alone = pydicom.dcmread(paths[5]).pixel_array
    np.testing.assert_array_equal(volume.array[places[paths[5]]], alone)


def test_mr_values_beyond_int16_are_kept(tmp_path: Path) -> None:
    paths = good_mr_series(tmp_path)
    edit(paths[0], RescaleSlope=100, RescaleIntercept=0)
    assert read_series(paths).array.max() > 300_000


def test_padding_of_mr_is_no_signal(tmp_path: Path) -> None:
    paths = good_mr_series(tmp_path)
    dataset = pydicom.dcmread(paths[0])
    stored = dataset.pixel_array.copy()
    stored[2, 3] = 4095
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", "US", 4095)
    dataset.save_as(paths[0], enforce_file_format=True)
    volume = read_series(paths)
    assert volume.array[[slice_.path for slice_ in volume.slices].index(paths[0])][2, 3] == 0


def test_an_mr_rescale_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    paths = edit_all(good_mr_series(tmp_path), RescaleSlope="1e38", RescaleIntercept="1e38")
    with pytest.raises(InputError) as caught:
        read_series(paths)
    assert caught.value.code == "undecodable-pixels"


def test_ct_reaches_networks_and_pages_as_the_scanner_wrote_it(tmp_path: Path) -> None:
    """Through DICOM and profile, voxel by voxel: the same values, the same type, hence the same masks."""
    hu = make_phantom(3, size="small").hu
    view = read_series(write_ct_series(tmp_path, hu, affine_of())).canonical()
    given = on_training_scale(view.array, view.profile)
    assert given is view.array
    assert given.dtype == np.int16
    np.testing.assert_array_equal(given, np.maximum(hu, -1024))
    assert display_window(view.array, view.profile) == FixedWindow(-110.0, 190.0)


@pytest.mark.parametrize(
    ("make", "profiles", "state", "code"),
    [
        (good_mr_series, ["ct"], CaseState.REJECTED, "other-modality"),
        (good_series, ["mr-t1"], CaseState.REJECTED, "other-modality"),
        (good_mr_series, ["ct", "mr-t1"], CaseState.READY, ""),
    ],
    ids=["mr to a ct node", "ct to an mr node", "mr to a node of both"],
)
def test_a_node_decides_by_its_configuration(
    tmp_path: Path, make: Callable[..., Any], profiles: list[str], state: CaseState, code: str
) -> None:
    intake = {"quiet_s": 0.01, "max_wait_s": 60, "min_free_bytes": 0, "profiles": profiles}
    url = f"sqlite:///{tmp_path / 'node.sqlite'}"
    with context_in(tmp_path / "data", url, intake=intake) as context:
        for path in make(tmp_path / "series"):
            Inbox(context).receive(received(path))
        time.sleep(0.02)
        assert assemble(context) == 1
        with context.database.transaction() as session:
            (case,) = session.query(Case)
            assert (case.state, case.code) == (state, code)
            assert bool(case.remedy) == bool(code)


def test_the_same_seed_gives_the_same_mr_phantom_of_the_ct_phantom_s_anatomy() -> None:
    phantom = make_mr_phantom(3, size="small")
    np.testing.assert_array_equal(phantom.signal, make_mr_phantom(3, size="small").signal)
    plain = make_phantom(3, size="small")
    np.testing.assert_array_equal(phantom.labels, plain.labels)
    liver, air = phantom.signal[phantom.labels == 1], phantom.signal[plain.hu < -950]
    fat = phantom.signal[(plain.hu > -115) & (plain.hu < -85)]
    assert np.median(air) < 0.2 * np.median(liver)
    assert np.median(fat) < 0.5 * np.median(liver), "fat is suppressed"
    assert air.min() >= 0
    assert np.mean(air) > 0, "a magnitude has noise above nothing"
    assert not np.array_equal(phantom.signal, make_mr_phantom(4, size="small").signal)


@pytest.mark.integration
def test_dciodvfy_finds_no_error_in_an_mr_series(tmp_path: Path) -> None:
    for path in good_mr_series(tmp_path)[:2]:
        assert iod_errors(path, "MRImage") == []


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_mr_comes_to_the_scale_of_the_networks_whatever_its_unit(seed: int) -> None:
    phantom = make_mr_phantom(seed, size="small")
    scaled = on_training_scale(phantom.signal, MR)
    assert scaled.dtype == np.int16
    liver = float(np.median(scaled[phantom.labels == 1]))
    assert 70 < liver < 145, "portal-venous CT has livers of 75 to 145 HU"
    corner = scaled[:, :8, :8]
    assert np.median(corner) < -300, "air is air"
    other_unit = phantom.signal.astype(np.float32) * np.float32(7.3)
    apart = on_training_scale(other_unit, MR).astype(int) - scaled
    assert np.abs(apart).max() <= 1, "the unit does not matter"
    low, high = (float(np.percentile(phantom.signal[phantom.labels > 0], percent)) for percent in (1.0, 99.0))
    window = display_window(phantom.signal, MR)
    assert window.low < low
    assert window.high > 0.8 * high, "the liver is not burnt out"


def test_scaling_keeps_the_order_of_values() -> None:
    phantom = make_mr_phantom(3, size="small")
    order = np.argsort(phantom.signal, axis=None, kind="stable")
    scaled = on_training_scale(phantom.signal, MR).ravel()[order]
    assert (np.diff(scaled.astype(int)) >= 0).all()


@pytest.mark.parametrize("value", [0, 700])
def test_a_volume_without_contrast_is_scaled_without_an_error(value: int) -> None:
    flat = np.full((4, 16, 16), value, np.float32)
    assert np.isfinite(on_training_scale(flat, MR)).all()
    window = display_window(flat, MR)
    assert window.high > window.low


def test_each_profile_is_whole() -> None:
    assert set(PROFILES) == {"ct", "mr-t1"}
    assert set(QUANTITIES) == set(PROFILES)
    classes = [uid for profile in PROFILES.values() for uid in profile.sop_classes]
    assert len(set(classes)) == len(classes), "a slice belongs to one modality"
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert profile.hounsfield == (profile.unit.name == "HU")
        if isinstance(profile.scaling, BodyScaling):
            percents, levels = zip(*profile.scaling.landmarks, strict=True)
            assert list(percents) == sorted(set(percents))
            assert list(levels) == sorted(set(levels))


def test_the_examples_of_the_documentation_are_profiles() -> None:
    text = (Path(__file__).parents[2] / "docs" / "modalities.md").read_text("utf-8")
    found = {}
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        names: dict = {}
        exec(example, names)
        found[names["PROFILE"].name] = names["PROFILE"]
    assert set(found) == {"mr-t2", "ct-spleen"}
    t2 = found["mr-t2"].acquisition
    assert t2.fits(("SE",), 90.0, 900.0)
    assert not MR.acquisition.fits(("SE",), 90.0, 900.0)
    assert not t2.fits(("GR",), 2.0, 4.0)


def test_profiles_are_configured_by_name(tmp_path: Path) -> None:
    assert load_settings().intake.modalities == (CT,)
    site = tmp_path / "site.yaml"
    site.write_text("intake: {profiles: [mr-t1]}\n", "utf-8")
    assert load_settings(site).intake.modalities == (MR,)
    for wrong, words in (("[us]", "ct, mr-t1"), ("[]", "at least 1")):
        site.write_text(f"intake: {{profiles: {wrong}}}\n", "utf-8")
        with pytest.raises(ConfigError, match=words) as caught:
            load_settings(site)
        assert "intake.profiles" in str(caught.value)
    assert IntakeSection(profiles=("ct", "mr-t1")).modalities == (CT, MR)


def test_rules_try_tells_what_the_profiles_refuse(tmp_path: Path) -> None:
    good_mr_series(tmp_path / "mr")
    good_series(tmp_path / "ct")
    settings = load_settings()
    told = {series.modality: series for series in dry_run(tmp_path, settings)}
    assert (told["CT"].runs, told["MR"].runs, told["MR"].code) == (True, False, "other-modality")
    both = settings.model_copy(
        update={"intake": settings.intake.model_copy(update={"profiles": ("ct", "mr-t1")})}
    )
    assert all(series.runs for series in dry_run(tmp_path, both))


def test_a_phantom_of_either_kind_is_written_and_evaluated(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(phantom_command)
    done = CliRunner().invoke(app, [str(tmp_path / "mr"), "--profile", "mr-t1"])
    assert done.exit_code == 0
    paths = sorted((tmp_path / "mr").iterdir())
    assert inspect(paths, MR).refusal is None
    case = PhantomSource(4, "small", PLAIN, "mr-t1").load()
    phantom = make_mr_phantom(4, size="small")
    np.testing.assert_array_equal(case.truth, phantom.labels)
    np.testing.assert_array_equal(case.hu, on_training_scale(phantom.signal, MR))


def test_uair_check_warns_of_weights_that_know_no_mr() -> None:
    intake = IntakeSection(profiles=("ct", "mr-t1"))
    known, unknown = check_profiles(load_settings().model_copy(update={"intake": intake}))
    assert (known.what, known.level) == ("profile ct", Level.OK)
    assert (unknown.what, unknown.level, unknown.code) == (
        "profile mr-t1",
        Level.WARNING,
        "profile-untrained",
    )
    assert unknown.remedy
