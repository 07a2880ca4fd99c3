"""The series of the demonstration: the largest CT series of a folder, or a phantom with its truth."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_config.errors import InputError
from dicom_config.modalities import CT
from uair_node.dicom.headers import SliceHeader, read_slices
from uair_node.dicom.volume import Volume, read_series
from uair_node.storage.artifacts import Labels
from workers.phantoms import make_mr_phantom, make_phantom
from workers.phantoms.ct_series import write_ct_series
from workers.phantoms.mr_series import write_mr_series
from workers.truth.masks import load_truth

PHANTOM_SEED = 34
"""Seed of a phantom with a median gain in Dice: rank 20 of 40 by the gain of two picks.

`scripts.demo_phantoms` computed the ranks.
"""


@dataclass(frozen=True)
class Input:
    """A series on disk with its volume. `truth` is on the source grid; None if it is unknown."""

    paths: list[Path]
    volume: Volume
    truth: Labels | None


def phantom_input(folder: Path) -> Input:
    """Write a phantom with liver, vessels, neighbours and lesions of different contrast as a CT series."""
    phantom = make_phantom(PHANTOM_SEED, size="demo")
    affine = _canonical_affine(phantom.spacing_mm)
    paths = write_ct_series(folder, phantom.hu, affine, patient_name="PHANTOM^DEMO", accession_number="DEMO1")
    volume = read_series(paths)
    return Input(paths, volume, volume.canonical().to_source(phantom.labels))


def write_mr_phantom(folder: Path) -> list[Path]:
    """Write the same phantom as MR, T1-weighted after contrast medium."""
    phantom = make_mr_phantom(PHANTOM_SEED, size="demo")
    affine = _canonical_affine(phantom.spacing_mm)
    return write_mr_series(
        folder, phantom.signal, affine, patient_name="PHANTOM^DEMO", accession_number="DEMO2"
    )


def folder_input(ct: Path, masks: Path | None) -> Input:
    """Return the largest CT series of a folder, unchanged.

    Raises
    ------
    InputError
        ``no-ct-series``, or an error from the reading of the series or the masks.
    """
    slices: dict[str, list[Path]] = defaultdict(list)  # series UID -> the file of each slice
    for path in sorted(path for path in ct.rglob("*") if path.is_file()):
        for header in _ct_slices(path):
            slices[header.series_instance_uid].append(path)
    if not slices:
        raise InputError(
            "no-ct-series", f"There is no CT series in {ct}.", "Name a folder with DICOM CT slices."
        )
    largest = max(slices, key=lambda uid: len(slices[uid]))
    paths = list(dict.fromkeys(slices[largest]))
    volume = read_series(paths)
    return Input(paths, volume, load_truth(masks, volume) if masks else None)


def _ct_slices(path: Path) -> list[SliceHeader]:
    try:
        return [header for header in read_slices(path) if header.sop_class_uid in CT.sop_classes]
    except (InputError, OSError):
        return []


def _canonical_affine(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the affine of canonical axes (superior, posterior, left) centred on the patient's axis."""
    z, y, x = spacing_mm
    affine = np.array([[0, 0, x, 0], [0, y, 0, 0], [z, 0, 0, 0], [0, 0, 0, 1]], float)
    affine[:3, 3] = (-200.0, -200.0, 0.0)
    return affine
