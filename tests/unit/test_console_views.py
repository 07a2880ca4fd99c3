"""The console's drawings lie where the series lies: any slice order, flips, oblique stacks, frames, MR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dicom_config.errors import InputError
from dicom_config.modalities import CT
from tests.support.enhanced import write_enhanced_ct
from tests.support.series import AXIAL, SHAPE, affine_of, good_mr_series, noise_hu, turned
from uair_node.console.views import ACCEPTED, RoundView, read_round
from uair_node.dicom.intensity import display_window
from uair_node.dicom.volume import read_geometry, read_series
from uair_node.storage.artifacts import StoredCandidate, load_cropped, save_candidates
from workers.phantoms.ct_series import write_ct_series

STACKS = {
    "head first": AXIAL,
    "prone": AXIAL @ np.diag([1, -1, -1]),
    "rows mirrored": AXIAL @ np.diag([-1, 1, -1]),
    "turned in its plane": AXIAL[:, [0, 2, 1]] @ np.diag([1, 1, -1]),
    "oblique": turned(12.0),
}


def _labels(k: int) -> np.ndarray:
    """Liver and a lesion that lie nowhere symmetrically, further on with k."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2 + k : 9 + k, 4:13, 6:17] = 1
    labels[4 + k : 6 + k, 5:9, 7:9] = 2
    return labels


def _view(paths: list[Path], folder: Path) -> RoundView:
    save_candidates(folder / "c.npz", [StoredCandidate(k, _labels(k), "") for k in (1, 2, 3, 4)])
    save_candidates(folder / "a.npz", [StoredCandidate(2, _labels(5), "")])
    return read_round(1, read_geometry(paths), load_cropped(folder / "c.npz"), load_cropped(folder / "a.npz"))


def _check(view: RoundView, paths: list[Path]) -> None:
    """Compare with the whole volume, decoded at once and turned by the code that the engine uses."""
    source = read_series(paths)
    whole = source.canonical()
    for n in range(SHAPE[0]):
        assert np.array_equal(view.values(n), whole.array[n])
    for k, given in [*((k, _labels(k)) for k in (1, 4)), (ACCEPTED, _labels(5))]:
        assert np.array_equal(view.on_source_grid(k), given)
        planes = np.stack([view.plane(k, n) for n in range(SHAPE[0])])
        assert np.array_equal(planes, whole.from_source(given))
        in_box = np.column_stack([np.argwhere(view.of(k) == 2), np.ones(np.count_nonzero(given == 2))])
        in_source = np.column_stack([np.argwhere(given == 2), np.ones(np.count_nonzero(given == 2))])
        found, wanted = in_box @ view.affine.T, in_source @ source.affine.T
        assert np.sort(found, axis=0) == pytest.approx(np.sort(wanted, axis=0), abs=1e-6)


@pytest.mark.parametrize("stack", STACKS)
def test_slices_labels_and_positions_agree_with_the_whole_volume(tmp_path: Path, stack: str) -> None:
    paths = write_ct_series(tmp_path / "ct", noise_hu(), affine_of(STACKS[stack]))
    _check(_view(paths, tmp_path), paths)


@pytest.mark.parametrize("syntax", ["", RLELossless])
def test_frames_of_enhanced_ct_are_slices(tmp_path: Path, syntax: str) -> None:
    slices = write_ct_series(tmp_path / "ct", noise_hu(), affine_of())
    paths = write_enhanced_ct(
        tmp_path / "enhanced", slices[::-1], instances=2, own_rescale=True, transfer_syntax=syntax
    )
    _check(_view(paths, tmp_path), paths)


def test_mr_is_drawn_between_percentiles_of_its_body(tmp_path: Path) -> None:
    paths = good_mr_series(tmp_path / "mr")
    view = _view(paths, tmp_path)
    _check(view, paths)
    whole = display_window(read_series(paths).canonical().array, view.grid.profile)
    assert (view.window.low, view.window.high) == pytest.approx((whole.low, whole.high), rel=0.02)


def test_ct_is_drawn_in_the_window_of_its_profile(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", noise_hu(), affine_of())
    assert _view(paths, tmp_path).window == CT.window


def test_a_damaged_slice_is_told_by_its_number(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", noise_hu(), affine_of())
    view = _view(paths, tmp_path)
    broken = pydicom.dcmread(paths[4])
    broken.PixelData = broken.PixelData[:100]
    broken.save_as(paths[4])
    with pytest.raises(InputError, match="slice 5") as error:
        view.values(4)
    assert error.value.code == "undecodable-pixels"
    assert view.values(5).shape == SHAPE[1:]
