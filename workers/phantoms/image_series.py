"""Shared parts of the DICOM series that this package writes: patient, study, geometry, files.

This module writes the parts that do not depend on the IOD. `ct_series` and `mr_series` write the other parts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

_ORTHONORMAL_TOLERANCE = 1e-4
"""An affine counts as orthogonal if products of its direction cosines differ from 0 by less than this."""

_DEFAULT_ACQUIRED = datetime(2026, 1, 5, 9, 30)


class SeriesText(TypedDict, total=False):
    """Header values of a series; each has a default.

    UIDs without a value are random. SOP Instance UIDs are derived from the series UID. So the same call with
    the same UIDs writes the same series. `acquired` is the date and time of study, series, acquisition and
    content.
    """

    patient_name: str
    patient_id: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_instance_uid: str | None
    series_instance_uid: str | None
    frame_of_reference_uid: str | None
    study_description: str
    series_description: str
    series_number: int
    acquired: datetime


def write_series(
    folder: Path,
    stored: npt.NDArray[np.integer],
    affine: npt.NDArray[np.float64],
    describe: Callable[[Dataset], None],
    **text: Unpack[SeriesText],
) -> list[Path]:
    """Write one file for each slice, in explicit VR little endian.

    Parameters
    ----------
    folder
        The folder. It is made if it does not exist. The files have the names ``ct_0001.dcm`` … in array
        order. The names begin with the Modality.
    stored
        `(Z, Y, X)` stored values, 16-bit unsigned.
    affine
        4x4, maps the homogeneous voxel index (k, j, i, 1) to LPS millimetres. Its three axes are orthogonal.
        They may have any direction and either handedness.
    describe
        A function that sets the attributes of the IOD: SOP Class, Modality, acquisition, pixels.

    Returns
    -------
    list of Path
        The files, in the order of axis 0.

    Raises
    ------
    ValueError
        If `stored` is not three-dimensional, or the affine's axes are not orthogonal.
    """
    if stored.ndim != 3:
        raise ValueError(f"expected (Z, Y, X), got {stored.ndim} dimensions")
    geometry = _Geometry(np.asarray(affine, dtype=np.float64))
    header = _study(text)
    describe(header)
    header.Rows, header.Columns = stored.shape[1:]
    geometry.describe_plane(header)

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, pixels in enumerate(stored):
        path = folder / f"{header.Modality.lower()}_{k + 1:04d}.dcm"
        _write_slice(path, header, geometry, k, pixels)
        paths.append(path)
    return paths


def describe_pixels(header: Dataset, bits_stored: int) -> None:
    """Set the Image Pixel module of grey images with 16-bit unsigned values (PS3.3 C.7.6.3)."""
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = 16
    header.BitsStored = bits_stored
    header.HighBit = bits_stored - 1
    header.PixelRepresentation = 0


class _Geometry:
    """Image Plane attributes (PS3.3 C.7.6.2) of an affine."""

    def __init__(self, affine: npt.NDArray[np.float64]) -> None:
        self._affine = affine
        self._spacing = np.linalg.norm(affine[:3, :3], axis=0)
        self._axes = affine[:3, :3] / self._spacing
        if not np.allclose(self._axes.T @ self._axes, np.eye(3), atol=_ORTHONORMAL_TOLERANCE):
            raise ValueError("the affine's axes are not orthogonal; a CT series cannot hold them")

    def describe_plane(self, header: Dataset) -> None:
        """Set the attributes that all slices share: orientation and spacings."""
        rows_run_along, columns_run_along = self._axes[:, 2], self._axes[:, 1]
        header.ImageOrientationPatient = _decimal([*rows_run_along, *columns_run_along])
        header.PixelSpacing = _decimal(self._spacing[1:])
        header.SliceThickness, header.SpacingBetweenSlices = _decimal([self._spacing[0]] * 2)

    def describe_slice(self, header: Dataset, k: int) -> None:
        """Set the position of slice `k`: the LPS position of its first voxel's centre."""
        position = self._affine[:3, 3] + k * self._affine[:3, 0]
        header.ImagePositionPatient = _decimal(position)
        normal = np.cross(self._axes[:, 2], self._axes[:, 1])
        (header.SliceLocation,) = _decimal([float(normal @ position)])


def _write_slice(
    path: Path, header: Dataset, geometry: _Geometry, k: int, pixels: npt.NDArray[np.integer]
) -> None:
    dataset = Dataset()
    dataset.update(header)
    dataset.SOPInstanceUID = _derived_uid(header.SeriesInstanceUID, f"slice {k}")
    dataset.InstanceNumber = k + 1
    geometry.describe_slice(dataset, k)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def _study(text: SeriesText) -> Dataset:
    """Return patient, study, series and equipment."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = text.get("patient_name", "PHANTOM^LIVER")
    header.PatientID = text.get("patient_id", "PHANTOM-1")
    header.PatientBirthDate = text.get("patient_birth_date", "")
    header.PatientSex = text.get("patient_sex", "O")
    series_uid = text.get("series_instance_uid") or _random_uid()
    header.StudyInstanceUID = text.get("study_instance_uid") or _random_uid()
    header.AccessionNumber = text.get("accession_number", "A1")
    header.StudyDescription = text.get("study_description", "")
    header.SeriesInstanceUID = series_uid
    header.SeriesDescription = text.get("series_description", "")
    header.SeriesNumber = text.get("series_number", 2)
    frame_of_reference = text.get("frame_of_reference_uid")
    header.FrameOfReferenceUID = frame_of_reference or _derived_uid(series_uid, "frame of reference")
    acquired = text.get("acquired", _DEFAULT_ACQUIRED)
    for event in ("Study", "Series", "Acquisition", "Content"):
        setattr(header, f"{event}Date", acquired.strftime("%Y%m%d"))
        setattr(header, f"{event}Time", acquired.strftime("%H%M%S"))
    header.StudyID = "1"
    header.ReferringPhysicianName = ""
    header.BodyPartExamined = "ABDOMEN"
    header.PatientPosition = "HFS"
    header.PositionReferenceIndicator = ""
    header.Manufacturer = "UAIR"
    header.DeviceSerialNumber = "0"
    header.SoftwareVersions = "1"
    header.AcquisitionNumber = 1
    return header


def _decimal(values: Sequence[float] | npt.NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2), about 13 significant digits."""
    return [format_number_as_ds(float(value)) for value in values]


def _random_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def _derived_uid(series_uid: str, part: str) -> str:
    """Return a UID derived from a series UID and a part. It is always the same (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid}/{part}').int}"
