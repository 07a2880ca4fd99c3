"""CT series with one fault each, made by editing the files of a good series.

The faults occur in departments: a lost slice, a scout among the slices, a tilted gantry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)

from workers.phantoms.ct_series import write_ct_series
from workers.phantoms.mr_series import write_mr_series

ORIGIN_MM = (-80.0, -90.0, 35.5)
SPACING_MM = (5.0, 0.8, 0.8)
SHAPE = (16, 24, 20)
AXIAL = np.column_stack([(0, 0, 1), (0, 1, 0), (1, 0, 0)]).astype(float)
"""Axes k, j, i as columns: an axial stack in ascending order, as most scanners write axial stacks."""


def affine_of(
    axes: Any = AXIAL,
    spacing_mm: Sequence[float] = SPACING_MM,
    origin_mm: Sequence[float] = ORIGIN_MM,
) -> np.ndarray:
    """Return the affine of unit axes (columns k, j, i in LPS), spacing (z, y, x) and first voxel."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, float) * np.asarray(spacing_mm, float)
    affine[:3, 3] = origin_mm
    return affine


def turned(degrees: float, axes: Any = AXIAL) -> np.ndarray:
    """Return `axes` turned by `degrees` about the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.asarray(axes, float)


def noise_hu(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Return voxels with different values, so that a test finds exchanged voxels."""
    return np.random.default_rng(seed).integers(-1024, 1500, shape).astype(np.int16)


def good_series(folder: Path, **keywords: Any) -> list[Path]:
    """Write a small series that the gate passes."""
    return write_ct_series(folder, noise_hu(), affine_of(), **keywords)


def good_mr_series(folder: Path, **keywords: Any) -> list[Path]:
    """Write a small MR series that the gate passes if the profile mr-t1 is accepted."""
    signal = np.random.default_rng(0).integers(0, 4096, SHAPE)
    return write_mr_series(folder, signal, affine_of(), **keywords)


def edit(path: Path, **attributes: Any) -> None:
    """Set attributes of a DICOM file; None deletes one."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def edit_all(paths: Sequence[Path], **attributes: Any) -> list[Path]:
    """Edit every file of a series in the same way."""
    for path in paths:
        edit(path, **attributes)
    return list(paths)


def move(path: Path, offset_mm: Sequence[float]) -> None:
    """Shift a slice's position."""
    position = np.asarray(pydicom.dcmread(path).ImagePositionPatient, float) + offset_mm
    edit(path, ImagePositionPatient=[round(float(value), 6) for value in position])


def compress(path: Path, transfer_syntax: str = RLELossless) -> None:
    """Compress a file's pixels in place."""
    dataset = pydicom.dcmread(path)
    dataset.compress(transfer_syntax)
    dataset.save_as(path, enforce_file_format=True)


@dataclass(frozen=True)
class Fault:
    """A series with one fault: its name, the expected gate code, and the function that makes it."""

    name: str
    code: str
    make: Callable[[Path], list[Path]]


def _one_edited(**attributes: Any) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        paths = good_series(folder)
        edit(paths[7], **attributes)
        return paths

    return make


def _all_edited(**attributes: Any) -> Callable[[Path], list[Path]]:
    return lambda folder: edit_all(good_series(folder), **attributes)


def _mr_edited(**attributes: Any) -> Callable[[Path], list[Path]]:
    return lambda folder: edit_all(good_mr_series(folder), **attributes)


def _with_geometry(
    shape: tuple[int, int, int] = SHAPE, axes: Any = AXIAL, spacing_mm: Sequence[float] = SPACING_MM
) -> Callable[[Path], list[Path]]:
    return lambda folder: write_ct_series(folder, noise_hu(shape), affine_of(axes, spacing_mm))


def _moved(index: int, offset_mm: Sequence[float]) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        paths = good_series(folder)
        move(paths[index], offset_mm)
        return paths

    return make


def _tilted(folder: Path) -> list[Path]:
    paths = good_series(folder)
    for k, path in enumerate(paths):
        move(path, (0.0, k * SPACING_MM[0] * np.tan(np.radians(12.0)), 0.0))
    return paths


def _without(*indices: int) -> Callable[[Path], list[Path]]:
    return lambda folder: [path for k, path in enumerate(good_series(folder)) if k not in indices]


def _two_acquisitions(folder: Path) -> list[Path]:
    first = good_series(folder / "a", series_instance_uid="2.25.1")
    return first + edit_all(
        write_ct_series(folder / "b", noise_hu(seed=1), affine_of(), series_instance_uid="2.25.2"),
        SeriesInstanceUID="2.25.1",
        StudyInstanceUID=str(pydicom.dcmread(first[0]).StudyInstanceUID),
        FrameOfReferenceUID=str(pydicom.dcmread(first[0]).FrameOfReferenceUID),
    )


def _radial(folder: Path) -> list[Path]:
    """One slice turned by five degrees."""
    paths = good_series(folder)
    axes = turned(5.0)
    edit(paths[7], ImageOrientationPatient=[round(float(c), 9) for c in (*axes[:, 2], *axes[:, 1])])
    return paths


def _cropped_slice(folder: Path) -> list[Path]:
    paths = good_series(folder)
    dataset = pydicom.dcmread(paths[7])
    cropped = np.ascontiguousarray(dataset.pixel_array[:-4])
    dataset.Rows, dataset.PixelData = cropped.shape[0], cropped.tobytes()
    dataset.save_as(paths[7], enforce_file_format=True)
    return paths


def _broken_stream(folder: Path) -> list[Path]:
    """A series with an RLE slice whose segment table is overwritten."""
    paths = good_series(folder)
    compress(paths[7])
    dataset = pydicom.dcmread(paths[7])
    data = bytearray(dataset.PixelData)
    data[16:32] = b"\xff" * 16
    dataset.PixelData = bytes(data)
    dataset.save_as(paths[7], enforce_file_format=True)
    return paths


def _truncated(folder: Path) -> list[Path]:
    paths = good_series(folder)
    dataset = pydicom.dcmread(paths[7])
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.save_as(paths[7], enforce_file_format=True)
    return paths


def _report(folder: Path) -> list[Path]:
    """A structured report, without any image attribute."""
    source = pydicom.dcmread(good_series(folder)[0])
    report = Dataset()
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = "2.25.77"
    report.Modality = "SR"
    report.StudyInstanceUID, report.SeriesInstanceUID = source.StudyInstanceUID, source.SeriesInstanceUID
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / "report.dcm"
    report.save_as(path, enforce_file_format=True)
    return [path]


HEADER_FAULTS: tuple[Fault, ...] = (
    Fault("pet", "other-modality", _all_edited(SOPClassUID=PositronEmissionTomographyImageStorage)),
    Fault("ct-said-to-be-mr", "other-modality", _all_edited(Modality="MR")),
    Fault("diffusion", "wrong-sequence", _mr_edited(ScanningSequence=["SE", "EP"])),
    Fault("t2", "wrong-sequence", _mr_edited(ScanningSequence="SE", EchoTime=90, RepetitionTime=900)),
    Fault("long-repetition", "wrong-sequence", _mr_edited(RepetitionTime=2500)),
    Fault("fat-image", "other-modality", _mr_edited(ImageType=["DERIVED", "PRIMARY", "M", "FAT"])),
    Fault("report", "other-modality", _report),
    Fault("screen-save", "other-modality", _one_edited(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])),
    Fault("enhanced-ct", "multi-frame", _all_edited(SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=8)),
    Fault("enhanced-mr", "multi-frame", _mr_edited(SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=8)),
    Fault("scout", "localizer", _one_edited(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    Fault("position-gone", "no-position", _one_edited(ImagePositionPatient=None)),
    Fault("orientation-gone", "no-position", _all_edited(ImageOrientationPatient=None)),
    Fault("orientation-empty", "no-position", _one_edited(ImageOrientationPatient=[])),
    Fault("orientation-zero", "no-position", _all_edited(ImageOrientationPatient=[0, 0, 0, 0, 0, 0])),
    Fault("orientation-skewed", "no-position", _all_edited(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0])),
    Fault("pixel-spacing-gone", "no-position", _all_edited(PixelSpacing=None)),
    Fault("pixel-spacing-zero", "no-position", _all_edited(PixelSpacing=[0, 0])),
    Fault("slope-gone", "no-rescale", _one_edited(RescaleSlope=None)),
    Fault("slope-zero", "no-rescale", _all_edited(RescaleSlope=0)),
    Fault("intercept-gone", "no-rescale", _all_edited(RescaleIntercept=None)),
    Fault("iodine-map", "not-hounsfield", _all_edited(RescaleType="MGML")),
    Fault("two-studies", "mixed-patient", _one_edited(StudyInstanceUID="2.25.6")),
    Fault("two-energies", "several-acquisitions", _one_edited(KVP="80")),
    Fault("two-frames-of-reference", "mixed-frame-of-reference", _one_edited(FrameOfReferenceUID="2.25.5")),
    Fault("cropped-slice", "mixed-size", _cropped_slice),
    Fault("zoomed-slice", "mixed-size", _one_edited(PixelSpacing=[0.4, 0.4])),
    Fault("large-slices", "too-large", _all_edited(Rows=4096, Columns=4096)),
    Fault("turned-slice", "mixed-orientation", _radial),
    Fault("coronal", "not-axial", _with_geometry(axes=turned(90.0))),
    Fault("steep", "not-axial", _with_geometry(axes=turned(50.0))),
    Fault("two-phases-in-one", "duplicate-position", _two_acquisitions),
    Fault("tilted-gantry", "gantry-tilt", _tilted),
    Fault("seven-slices", "too-few-slices", _with_geometry(shape=(7, 24, 20))),
    Fault("one-slice", "too-few-slices", _with_geometry(shape=(1, 24, 20))),
    Fault("lost-slice", "missing-slice", _without(6)),
    Fault("lost-slices", "missing-slice", _without(3, 8, 9)),
    Fault("uneven", "irregular-spacing", _moved(7, (0.0, 0.0, 1.5))),
    Fault("shifted-slice", "irregular-spacing", _moved(7, (6.0, 0.0, 0.0))),
    Fault("thick", "spacing-too-wide", _with_geometry(spacing_mm=(12.0, 0.8, 0.8))),
    Fault("short", "coverage-misses-liver", _with_geometry(spacing_mm=(3.0, 0.8, 0.8))),
)
"""Faults that the headers show, if CT and MR are accepted."""

PIXEL_FAULTS: tuple[Fault, ...] = (
    Fault("truncated", "undecodable-pixels", _truncated),
    Fault("broken-stream", "undecodable-pixels", _broken_stream),
    Fault("pixels-gone", "undecodable-pixels", _one_edited(PixelData=None)),
)
"""Faults that only the decoding of pixels shows."""
