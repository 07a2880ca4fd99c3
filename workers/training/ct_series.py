"""An array of Hounsfield units as a DICOM CT series on disk.

Owns the CT Image IOD as we write it (PS3.3 A.3): demonstration series, phantoms and test input. It must not
know where the array comes from, nor read DICOM (that is `uair_node.volume`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

RESCALE_INTERCEPT = -1024
"""Stored value 0 is -1024 HU, as most scanners write it (PS3.3 C.8.2.1, Rescale Intercept)."""

_ORTHONORMAL_TOLERANCE = 1e-4
"""Largest deviation of a direction cosine product from 0; below it the affine counts as orthogonal."""

_DEFAULT_ACQUIRED = datetime(2026, 1, 5, 9, 30)


def write_ct_series(
    folder: Path,
    hu: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    *,
    patient_name: str = "PHANTOM^LIVER",
    patient_id: str = "PHANTOM-1",
    patient_birth_date: str = "",
    patient_sex: str = "O",
    accession_number: str = "A1",
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    frame_of_reference_uid: str | None = None,
    study_description: str = "CT abdomen",
    series_description: str = "Portal venous phase",
    series_number: int = 2,
    acquired: datetime = _DEFAULT_ACQUIRED,
) -> list[Path]:
    """Write one file for each slice of `hu`, in explicit VR little endian.

    Parameters
    ----------
    folder
        Made if absent; the files are ``ct_0001.dcm`` … in array order.
    hu
        Array `(Z, Y, X)` in HU. Values below -1024 HU are stored as -1024 HU. Slices have 12 bits stored, or
        16 where a value exceeds 3071 HU.
    affine
        4x4, maps the homogeneous voxel index (k, j, i, 1) to LPS millimetres; its three axes are
        orthogonal, in any direction and of either handedness.
    study_instance_uid, series_instance_uid, frame_of_reference_uid
        Random unless given. SOP Instance UIDs follow from the series UID, so the same call with the same UIDs
        writes the same series.
    acquired
        Date and time of study, series, acquisition and content.

    Returns
    -------
    list of Path
        The files, in the order of axis 0.

    Raises
    ------
    ValueError
        If `hu` is not three-dimensional, or the affine's axes are not orthogonal.
    """
    if hu.ndim != 3:
        raise ValueError(f"expected (Z, Y, X), got {hu.ndim} dimensions")
    geometry = _Geometry(np.asarray(affine, dtype=np.float64))
    stored = np.maximum(np.rint(hu).astype(np.int32) - RESCALE_INTERCEPT, 0)
    bits_stored = 12 if stored.max(initial=0) < 1 << 12 else 16

    series_uid = series_instance_uid or _random_uid()
    header = Dataset()
    _patient(header, patient_name, patient_id, patient_birth_date, patient_sex)
    header.StudyInstanceUID = study_instance_uid or _random_uid()
    header.AccessionNumber = accession_number
    header.StudyDescription = study_description
    header.SeriesInstanceUID = series_uid
    header.SeriesDescription = series_description
    header.SeriesNumber = series_number
    header.FrameOfReferenceUID = frame_of_reference_uid or _derived_uid(series_uid, "frame of reference")
    _study_and_equipment(header, acquired)
    _acquisition(header, bits_stored)
    header.Rows, header.Columns = hu.shape[1:]
    geometry.describe_plane(header)

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, pixels in enumerate(stored):
        path = folder / f"ct_{k + 1:04d}.dcm"
        _write_slice(path, header, geometry, k, pixels)
        paths.append(path)
    return paths


class _Geometry:
    """Image Plane attributes (PS3.3 C.7.6.2) of an affine."""

    def __init__(self, affine: npt.NDArray[np.float64]) -> None:
        self._affine = affine
        self._spacing = np.linalg.norm(affine[:3, :3], axis=0)
        self._axes = affine[:3, :3] / self._spacing
        if not np.allclose(self._axes.T @ self._axes, np.eye(3), atol=_ORTHONORMAL_TOLERANCE):
            raise ValueError("the affine's axes are not orthogonal; a CT series cannot hold them")

    def describe_plane(self, header: Dataset) -> None:
        """Set what all slices share: orientation and spacings."""
        rows_run_along, columns_run_along = self._axes[:, 2], self._axes[:, 1]
        header.ImageOrientationPatient = _decimal([*rows_run_along, *columns_run_along])
        header.PixelSpacing = _decimal(self._spacing[1:])
        header.SliceThickness, header.SpacingBetweenSlices = _decimal([self._spacing[0]] * 2)

    def describe_slice(self, header: Dataset, k: int) -> None:
        """Set what slice `k` has of its own: the LPS position of its first voxel's centre."""
        position = self._affine[:3, 3] + k * self._affine[:3, 0]
        header.ImagePositionPatient = _decimal(position)
        normal = np.cross(self._axes[:, 2], self._axes[:, 1])
        (header.SliceLocation,) = _decimal([float(normal @ position)])


def _write_slice(
    path: Path, header: Dataset, geometry: _Geometry, k: int, pixels: npt.NDArray[np.int32]
) -> None:
    dataset = Dataset()
    dataset.update(header)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = _derived_uid(header.SeriesInstanceUID, f"slice {k}")
    dataset.InstanceNumber = k + 1
    geometry.describe_slice(dataset, k)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def _patient(header: Dataset, name: str, patient_id: str, birth_date: str, sex: str) -> None:
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = name
    header.PatientID = patient_id
    header.PatientBirthDate = birth_date
    header.PatientSex = sex


def _study_and_equipment(header: Dataset, acquired: datetime) -> None:
    date, time = acquired.strftime("%Y%m%d"), acquired.strftime("%H%M%S")
    for event in ("Study", "Series", "Acquisition", "Content"):
        setattr(header, f"{event}Date", date)
        setattr(header, f"{event}Time", time)
    header.StudyID = "1"
    header.ReferringPhysicianName = ""
    header.Modality = "CT"
    header.BodyPartExamined = "ABDOMEN"
    header.PatientPosition = "HFS"
    header.PositionReferenceIndicator = ""
    header.Manufacturer = "UAIR"
    header.ManufacturerModelName = "Procedural CT"
    header.DeviceSerialNumber = "0"
    header.SoftwareVersions = "1"


def _acquisition(header: Dataset, bits_stored: int) -> None:
    """CT Image, Image Pixel and VOI LUT modules (PS3.3 C.8.2.1, C.7.6.3, C.11.2)."""
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.AcquisitionNumber = 1
    header.KVP = 120
    header.ConvolutionKernel = "SOFT"
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = 16
    header.BitsStored = bits_stored
    header.HighBit = bits_stored - 1
    header.PixelRepresentation = 0
    header.RescaleIntercept = RESCALE_INTERCEPT
    header.RescaleSlope = 1
    header.RescaleType = "HU"
    header.WindowCenter = 60
    header.WindowWidth = 400


def _decimal(values: Sequence[float] | npt.NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2), about 13 significant digits."""
    return [format_number_as_ds(float(value)) for value in values]


def _random_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def _derived_uid(series_uid: str, part: str) -> str:
    """Derive a UID that is always the same for this series and part (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid}/{part}').int}"
