"""Modality profiles: what each takes and refuses, how its values are read, and that CT is what it was."""

import numpy as np
import pydicom
import pytest

from dicom_config.errors import ConfigError, InputError
from dicom_config.modalities import CT, PROFILES
from dicom_config.modalities.profile import BodyScaling
from dicom_config.model import GateSection, IntakeSection, load_settings
from dicom_config.quantities import QUANTITIES
from tests.support.series import edit, edit_all, good_mr_series, good_series
from uair_node.intake.gate import inspect_series
from uair_node.intake.headers import read_headers
from uair_node.intake.trial import try_folder
from uair_node.intensity import display_window, on_training_scale
from uair_node.results.drawing import ct
from uair_node.volume import read_geometry, read_series
from workers.training.phantoms import make_mr_phantom, make_phantom

MR = PROFILES["mr-t1"]


def inspect(paths, *profiles):
    return inspect_series(read_headers(paths), GateSection(), profiles)


@pytest.mark.parametrize(
    ("make", "taken", "others"),
    [(good_mr_series, MR, CT), (good_series, CT, MR)],
    ids=["mr", "ct"],
)
def test_a_node_takes_what_its_profiles_name_and_says_what_it_takes(tmp_path, make, taken, others):
    paths = make(tmp_path)
    assert inspect(paths, taken).refusal is None
    assert inspect(paths, CT, MR).refusal is None
    refused = inspect(paths, others)
    assert refused.refusal.code == "other-modality"
    assert f"no {others.modality} slices" in refused.refusal.sentence
    assert "intake.profiles" in refused.refusal.mend
    assert not refused.may_complete


def test_an_mr_series_without_a_contrast_agent_is_taken_and_the_assumption_named(tmp_path):
    paths = edit_all(good_mr_series(tmp_path), ContrastBolusAgent="")
    verdict = inspect(paths, MR)
    assert verdict.refusal is None
    assert verdict.assumed == ("contrast-agent",)
    assert read_geometry(paths).assumed == ("contrast-agent",)
    edit(paths[3], ContrastBolusAgent="Gadobutrol")
    assert inspect(paths, MR).assumed == ()


def test_what_mr_headers_lack_does_not_stop_a_case(tmp_path):
    paths = edit_all(good_mr_series(tmp_path), ScanningSequence=None, EchoTime=None, RepetitionTime=None)
    assert inspect(paths, MR).refusal is None


def test_mr_values_are_those_stored_and_rescaled_only_where_the_header_says_how(tmp_path):
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


def test_mr_values_beyond_int16_are_kept(tmp_path):
    paths = good_mr_series(tmp_path)
    edit(paths[0], RescaleSlope=100, RescaleIntercept=0)
    assert read_series(paths).array.max() > 300_000


def test_padding_of_mr_is_no_signal(tmp_path):
    paths = good_mr_series(tmp_path)
    dataset = pydicom.dcmread(paths[0])
    stored = dataset.pixel_array.copy()
    stored[2, 3] = 4095
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", "US", 4095)
    dataset.save_as(paths[0], enforce_file_format=True)
    volume = read_series(paths)
    assert volume.array[[one.path for one in volume.slices].index(paths[0])][2, 3] == 0


def test_an_mr_rescale_beyond_all_numbers_is_refused(tmp_path):
    paths = edit_all(good_mr_series(tmp_path), RescaleSlope="1e38", RescaleIntercept="1e38")
    with pytest.raises(InputError) as caught:
        read_series(paths)
    assert caught.value.code == "undecodable-pixels"


def test_ct_is_on_the_scale_of_the_networks_already():
    hu = make_phantom(3, size="small").hu
    assert on_training_scale(hu, CT) is hu
    assert display_window(hu, CT) == ct.WINDOW


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_mr_comes_to_the_scale_of_the_networks_whatever_its_unit(seed):
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


def test_scaling_keeps_the_order_of_values():
    phantom = make_mr_phantom(3, size="small")
    order = np.argsort(phantom.signal, axis=None, kind="stable")
    scaled = on_training_scale(phantom.signal, MR).ravel()[order]
    assert (np.diff(scaled.astype(int)) >= 0).all()


@pytest.mark.parametrize("value", [0, 700])
def test_a_volume_without_contrast_is_scaled_without_an_error(value):
    flat = np.full((4, 16, 16), value, np.float32)
    assert np.isfinite(on_training_scale(flat, MR)).all()
    window = display_window(flat, MR)
    assert window.high > window.low


def test_each_profile_is_whole():
    assert set(PROFILES) == {"ct", "mr-t1"}
    assert set(QUANTITIES) == set(PROFILES)
    classes = [uid for one in PROFILES.values() for uid in one.sop_classes]
    assert len(set(classes)) == len(classes), "a slice belongs to one modality"
    for name, one in PROFILES.items():
        assert one.name == name
        assert one.hounsfield == (one.unit.name == "HU")
        if isinstance(one.scaling, BodyScaling):
            percents, levels = zip(*one.scaling.landmarks, strict=True)
            assert list(percents) == sorted(set(percents))
            assert list(levels) == sorted(set(levels))


def test_profiles_are_configured_by_name(tmp_path):
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


def test_rules_try_tells_what_the_profiles_refuse(tmp_path):
    good_mr_series(tmp_path / "mr")
    good_series(tmp_path / "ct")
    settings = load_settings()
    told = {one.modality: one for one in try_folder(tmp_path, settings)}
    assert (told["CT"].runs, told["MR"].runs, told["MR"].code) == (True, False, "other-modality")
    both = settings.model_copy(
        update={"intake": settings.intake.model_copy(update={"profiles": ("ct", "mr-t1")})}
    )
    assert all(one.runs for one in try_folder(tmp_path, both))
