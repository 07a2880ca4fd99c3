"""Pair NIfTI labels with their CT by file names. Both files have the same grid. Unclear pairs are errors.

Words that only distinguish CT and labels (`ct`, `volume`, `seg`, …) are ignored. So `a_ct` and `a_seg` are a
pair. Other pairs are `volume-1` and `segmentation-1`, or `img0001` and `label0001`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_config.errors import InputError
from workers.truth.nifti import is_nifti, read_nifti

LABELS_NAME = re.compile(r"seg|label|mask|truth|gt(?=[._-])", re.IGNORECASE)
_CT_NAME = re.compile(r"(^|[._-])(ct|vol|volume|image|img|imaging|0000)(?=[._-])", re.IGNORECASE)
_IMAGES_FOLDER = re.compile(r"(?:images?|imgs?|cts?|scans?|volumes?)([._-]?(?:tr|ts|val|train|test)?)", re.I)
_LABELS_FOLDER = re.compile(
    r"(?:labels?|masks?|segs?|segmentations?|gts?|truths?)([._-]?(?:tr|ts|val|train|test)?)", re.I
)
_CHANNEL = re.compile(r"_0000$")
"""nnU-Net's suffix of an image's first channel. Labels do not have it."""
_ROLE = re.compile(
    "ct|vol|volume|images?|imaging|img|scan|d?seg|segmentations?|labels?|masks?|ground|truth|gt|"
    "liver|tumou?rs?|lesions?|and"
)
"""Words that distinguish a CT from its labels. They do not distinguish cases."""
_EQUAL, _CONTAINED, _UNRELATED = 2, 1, 0
_SAME_MM = 0.05


def pairs(named: Sequence[Path], among: Sequence[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield each CT of `named` with its labels from `among`, or with None if it has no labels.

    Raises
    ------
    InputError
        ``nifti-unreadable``. ``truth-ambiguous``: several label files could belong to a CT, or several CTs to
        a label file.
    """
    volumes = {path: _volume(path) for path in dict.fromkeys((*named, *among))}
    cts = [volume for volume in volumes.values() if volume.is_ct]
    labels = [volume for volume in volumes.values() if not volume.is_ct]
    for path in named:
        if volumes[path].is_ct:
            yield path, _truth_of(volumes[path], cts, labels)


def is_volume(path: Path) -> bool:
    """Return whether a file is NIfTI. The ``._`` files of macOS archives do not count."""
    return is_nifti(path) and not path.name.startswith("._")


def volumes_in(folder: Path) -> list[Path]:
    """Return the NIfTI files of a folder, and of the folders that contain its labels.

    The labels lie in sub-folders for masks. If the folder is named ``images…``, then they may also lie in a
    sibling folder: ``labelsTr`` for ``imagesTr``.
    """
    images = _IMAGES_FOLDER.fullmatch(folder.name)
    places = [folder]
    for path in (*sorted(folder.iterdir()), *(sorted(folder.parent.iterdir()) if images else ())):
        labels = _LABELS_FOLDER.fullmatch(path.name) if path.is_dir() else None
        if labels and (path.parent == folder or (images and labels[1].lower() == images[1].lower())):
            places.append(path)
    return [path for place in places for path in sorted(place.iterdir()) if is_volume(path)]


def case_name(path: Path) -> str:
    """Return the stem of a CT's name. If the stem only says "CT", then return the folder's name."""
    return _stem(path) if _key(path) else path.absolute().parent.name


@dataclass(frozen=True)
class _Volume:
    """A file's grid (shape, affine to LPS mm), its role, and the words of its name that identify the case."""

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    is_ct: bool
    key: tuple[str, ...]

    def on_grid_of(self, other: _Volume) -> bool:
        """Return whether the voxels of both files coincide."""
        return self.shape == other.shape and bool(np.abs(self.affine - other.affine).max() < _SAME_MM)

    def closeness(self, other: _Volume) -> tuple[int, bool]:
        """Return how well two names agree (`_EQUAL` is best), and whether both files lie in one folder."""
        mine, theirs = Counter(self.key), Counter(other.key)
        if self.key == other.key:
            rank = _EQUAL
        else:
            rank = _CONTAINED if mine <= theirs or theirs <= mine else _UNRELATED
        return rank, self.path.parent == other.path.parent


def _volume(path: Path) -> _Volume:
    grid = read_nifti(path)
    return _Volume(path, grid.values.shape, grid.affine, _is_ct(path, grid.is_ct), _key(path))


def _is_ct(path: Path, has_ct_values: bool) -> bool:
    """Return whether a file is a CT. The name decides; if it is unclear, then the values decide.

    In a folder of labels, a name that looks like the name of a CT does not count.
    """
    if LABELS_NAME.search(path.name):
        return False
    named = _CT_NAME.search(path.name) is not None and not _LABELS_FOLDER.fullmatch(path.parent.name)
    return named or has_ct_values


def _truth_of(ct: _Volume, cts: list[_Volume], labels: list[_Volume]) -> Path | None:
    on_grid = [label for label in labels if label.on_grid_of(ct)]
    rivals = [other for other in cts if other.on_grid_of(ct)]
    if not any(label.closeness(ct)[0] for label in on_grid):
        # The names of these files match, but their grids differ. `load_truth` later reorients the labels or
        # refuses them.
        by_name = [label for label in labels if label.closeness(ct)[0] == _EQUAL]
        if by_name:
            on_grid, rivals = by_name, cts
    own = [label for label in on_grid if label.closeness(ct) == max(map(label.closeness, rivals))]
    if not own:
        return None
    best = max(label.closeness(ct) for label in own)
    own = [label for label in own if label.closeness(ct) == best]
    livers = [label for label in own if "liver" in label.path.name.lower()]
    if len(own) > 1 and livers:
        own = livers
    if len(own) > 1:
        listed = ", ".join(label.path.name for label in own)
        raise _ambiguous(f"Several files could be the truth of {ct.path.name}: {listed}.")
    (truth,) = own
    owners = [other.path.name for other in rivals if truth.closeness(other) == best]
    if len(owners) > 1:
        raise _ambiguous(f"{truth.path.name} could be the truth of several CTs: {', '.join(owners)}.")
    return truth.path


def _key(path: Path) -> tuple[str, ...]:
    """Return the words and numbers of a name that identify its case."""
    words = re.findall(r"[^\W\d_]+|\d+", _CHANNEL.sub("", _stem(path)).lower())
    return tuple(
        word.lstrip("0") or "0" if word.isdigit() else word for word in words if not _ROLE.fullmatch(word)
    )


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _ambiguous(sentence: str) -> InputError:
    return InputError(
        "truth-ambiguous",
        sentence,
        "Give CT and truth similar names (case1_ct, case1_seg), or name the truth with --masks.",
    )
