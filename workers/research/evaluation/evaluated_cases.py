"""The evaluated cases: scans with truth, and the sources from which they are loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_config.modalities import PROFILES
from uair_node.dicom.intensity import on_training_scale
from uair_node.dicom.volume import Volume, read_series
from workers.phantoms import TEST, MrPhantom, Phantom, Setting, make_mr_phantom, make_phantom
from workers.phantoms.phantom import Size
from workers.truth.masks import load_truth
from workers.truth.metrics import FIRST_LESION, Labels, Mask
from workers.truth.nifti import read_nifti_ct
from workers.uair.grids import Spacing

PhantomProfile = Literal["ct", "mr-t1"]
"""Modality profiles for which phantoms exist."""


@dataclass(frozen=True)
class EvaluationCase:
    """A scan with truth on the canonical grid.

    Attributes
    ----------
    name
        Name of the case. It does not identify the patient.
    hu, truth
        ``(Z, Y, X)``. `hu` has values on the scale of the networks. `truth` has 0 for background, 1 for liver
        without lesions, 1 + n for lesion n.
    spacing_mm
        (z, y, x).
    rims_mm
        Lesion number -> thickness of this lesion's rim in mm, for lesions with a known rim.
    """

    name: str
    hu: NDArray[np.int16]
    spacing_mm: Spacing
    truth: Labels
    rims_mm: Mapping[int, float] = field(default_factory=dict)

    @property
    def lesions(self) -> tuple[int, ...]:
        """Label values of the true lesions, ascending."""
        return tuple(int(value) for value in np.unique(self.truth[self.truth >= FIRST_LESION]))

    def lesion(self, value: int) -> Mask:
        """Return the mask ``(Z, Y, X)`` of the lesion with label `value`."""
        return np.asarray(self.truth == value)


class CaseSource(Protocol):
    """The source of a case. It is small, so that it can be sent to another process."""

    @property
    def name(self) -> str:
        """The name of the case."""
        ...

    def load(self) -> EvaluationCase:
        """Read or make the case.

        Raises
        ------
        InputError
            The series or the truth cannot be used.
        """
        ...


@dataclass(frozen=True)
class PhantomSource:
    """The phantom of a seed. Training does not use the default setting.

    CT phantoms have a random contrast phase, MR phantoms the portal-venous phase.
    """

    seed: int
    size: Size = "standard"
    setting: Setting = TEST
    profile: PhantomProfile = "ct"

    @property
    def name(self) -> str:
        """The name of the case."""
        return f"{'' if self.profile == 'ct' else 'MR '}phantom {self.seed}"

    def load(self) -> EvaluationCase:
        """Make the phantom."""
        if self.profile == "ct":
            phantom = make_phantom(self.seed, size=self.size, phase=None, setting=self.setting)
            return self._case(phantom, phantom.hu)
        mr = make_mr_phantom(self.seed, size=self.size, setting=self.setting)
        return self._case(mr, on_training_scale(mr.signal, PROFILES[self.profile]))

    def _case(self, phantom: Phantom | MrPhantom, values: NDArray[np.int16]) -> EvaluationCase:
        rims = {lesion.number: lesion.rim_mm for lesion in phantom.meta.lesions if lesion.rim_mm > 0}
        return EvaluationCase(self.name, values, phantom.spacing_mm, phantom.labels, rims)


@dataclass(frozen=True)
class SeriesSource:
    """A DICOM series (its files, or one zip file) and its truth (see `load_truth`)."""

    name: str
    ct: tuple[Path, ...]
    truth: Path

    def load(self) -> EvaluationCase:
        """Read the series and its truth."""
        if not zipfile.is_zipfile(self.ct[0]):
            return _case(self.name, read_series(self.ct), self.truth)
        with TemporaryDirectory() as folder, zipfile.ZipFile(self.ct[0]) as archive:
            archive.extractall(folder)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return _case(self.name, read_series(files), self.truth)


@dataclass(frozen=True)
class NiftiSource:
    """A NIfTI CT and its truth (see `load_truth`)."""

    name: str
    ct: Path
    truth: Path

    def load(self) -> EvaluationCase:
        """Read the CT and its truth."""
        return _case(self.name, read_nifti_ct(self.ct), self.truth)


def _case(name: str, volume: Volume, truth: Path) -> EvaluationCase:
    view = volume.canonical()
    values = on_training_scale(view.array, view.profile)
    return EvaluationCase(name, values, view.spacing_mm, view.from_source(load_truth(truth, volume)))
