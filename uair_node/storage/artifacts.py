"""The file with a round's four label volumes. A job computes it, and another job writes DICOM from it."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_config.errors import TransientError, UairError
from uair_node.cases.reader_choice import LIVER, ReaderChoice
from uair_node.storage.store import write_durably

Labels = npt.NDArray[np.uint8]
Region = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
_PARTS = re.compile(r"parts(\d+)")


@dataclass(frozen=True, eq=False)
class TargetParts:
    """Parts of a target. A voxel belongs to the part with the nearest centre.

    Attributes
    ----------
    names
        Names of the P parts: "upper", "left", …
    centres
        `(P, 3)`, positions of the parts on the source grid in voxels. Voxel i spans i to i + 1.
    spacing_mm
        `(3,)`, spacing of the source grid along its axes.
    """

    names: tuple[str, ...]
    centres: npt.NDArray[np.float64]
    spacing_mm: npt.NDArray[np.float64]

    def within(self, region: Region, name: str, box: Box | None = None) -> Region:
        """Return the mask `(Z, Y, X)` of a region's voxels that belong to a part.

        If there is no part with this name, then the mask is empty.

        Parameters
        ----------
        box
            The box of `region` on the source grid; None if `region` covers the whole grid.
        """
        first = np.array([span.start for span in box]) if box else np.zeros(3)
        found = np.zeros(region.shape, bool)
        if name in self.names:
            voxels = np.argwhere(region)
            places = (voxels + first + 0.5) * self.spacing_mm
            squares = [((places - centre) ** 2).sum(axis=1) for centre in self.centres * self.spacing_mm]
            here = np.argmin(squares, axis=0) == self.names.index(name)
            found[tuple(voxels[here].T)] = True
        return found


@dataclass(frozen=True)
class StoredCandidate:
    """A candidate: its character, and its labels `(Z, Y, X)` on the source grid.

    Attributes
    ----------
    parts
        Label value -> the parts of this target that an answer can take separately. All candidates of a round
        have the same parts.
    """

    k: int
    labels: Labels
    character: str
    parts: Mapping[int, TargetParts] = field(default_factory=dict)


def labels_digest(candidates: Sequence[StoredCandidate]) -> str:
    """Return a SHA-256 digest of candidates: their numbers, shapes, voxels and characters."""
    digest = hashlib.sha256()
    for candidate in candidates:
        digest.update(f"{candidate.k} {candidate.labels.shape} {candidate.character}\n".encode())
        digest.update(np.ascontiguousarray(candidate.labels).data)
    return digest.hexdigest()


def save_candidates(path: Path, candidates: Sequence[StoredCandidate]) -> None:
    """Write candidates durably, cropped to the box of all labelled voxels."""
    shape = candidates[0].labels.shape
    starts, stops = zip(*(_bounds(candidate.labels) for candidate in candidates), strict=True)
    start, stop = np.min(starts, axis=0), np.max(stops, axis=0)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    parts = candidates[0].parts

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            save_arrays(
                file,
                **{f"parts{value}": np.vstack([own.centres, own.spacing_mm]) for value, own in parts.items()},
                **{f"parts{value}_names": np.array(own.names) for value, own in parts.items()},
                labels=np.stack([candidate.labels[box] for candidate in candidates]),
                ks=np.array([candidate.k for candidate in candidates]),
                traits=np.array([candidate.character for candidate in candidates]),
                start=start,
                shape=np.array(shape),
            )

    write_durably(path, write)


@dataclass(frozen=True, eq=False)
class Cropped:
    """Candidates in their stored form, cropped to the box of all labelled voxels.

    Parameters
    ----------
    candidates
        The candidates. Their `labels` cover `box` only.
    box
        The box on the source grid, half-open.
    shape
        The shape `(Z, Y, X)` of the source grid.
    """

    candidates: tuple[StoredCandidate, ...]
    box: Box
    shape: tuple[int, int, int]


@contextmanager
def reading_artifact() -> Iterator[None]:
    """Turn exceptions from a missing, truncated or damaged artifact into an error with a code.

    Raises
    ------
    TransientError
        ``artifact-unreadable``: the work is retried, since a disk or store may become available again.
    """
    try:
        yield
    except (UairError, MemoryError):
        raise
    except Exception as error:
        # With damaged files, zipfile, zlib and numpy raise exceptions of many types.
        raise TransientError(
            "artifact-unreadable",
            f"A file of the case's computation cannot be read ({type(error).__name__}).",
            "Restore the data folder or the object store from a backup, then retry the case.",
        ) from error


def load_cropped(path: Path) -> Cropped:
    """Read the file of `save_candidates` in its cropped form, which needs less memory than the whole grid.

    Raises
    ------
    TransientError
        The error of `reading_artifact`.
    """
    with reading_artifact(), np.load(path, allow_pickle=False) as data:
        cropped, (z, y, x) = data["labels"], data["shape"].tolist()
        first, second, third = (
            slice(a, a + n) for a, n in zip(data["start"].tolist(), cropped.shape[1:], strict=True)
        )
        parts = {
            int(found[1]): TargetParts(
                tuple(map(str, data[f"{name}_names"])), data[name][:-1], data[name][-1]
            )
            for name in data.files
            if (found := _PARTS.fullmatch(name))
        }
        candidates = tuple(
            StoredCandidate(int(k), part, str(character), parts)
            for k, character, part in zip(data["ks"], data["traits"], cropped, strict=True)
        )
    return Cropped(candidates, (first, second, third), (z, y, x))


def load_candidates(path: Path) -> list[StoredCandidate]:
    """Read the file of `save_candidates` on the whole source grid. The errors are those of `load_cropped`."""
    cropped = load_cropped(path)
    found = []
    for candidate in cropped.candidates:
        labels = np.zeros(cropped.shape, np.uint8)
        labels[cropped.box] = candidate.labels
        found.append(replace(candidate, labels=labels))
    return found


def save_arrays(file: IO[bytes], **arrays: npt.NDArray[Any]) -> None:
    """Write arrays as a file for `numpy.load`, with light compression.

    Compared with `numpy.savez_compressed`, the file of a label volume is nearly as small, and the writing
    takes a fifth of the time.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def label_values(labels: Labels) -> tuple[int, ...]:
    """Return the label values above 0 that occur in `labels`, ascending."""
    return tuple(int(value) for value in np.unique(marked_voxels(labels)) if value)


def marked_voxels(labels: Labels) -> Labels:
    """Return an array `(n,)` of all voxel values above 0, and of some zeros between them.

    This fast filter skips each block of 8 voxels that are all zero. So zeros stay only in blocks with a
    labelled voxel, and in an incomplete last block.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    return np.concatenate([words[words != 0].view(np.uint8), flat[words.size * 8 :]])


def save_region(path: Path, region: Region) -> None:
    """Write a mask `(Z, Y, X)` on the source grid durably, cropped and as packed bits."""
    start, stop = _bounds(region)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = region[box]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            save_arrays(
                file,
                bits=np.packbits(part),
                start=start,
                part=np.array(part.shape),
                shape=np.array(region.shape),
            )

    write_durably(path, write)


def load_region(path: Path) -> Region:
    """Read the file of `save_region` on the whole source grid. The errors are those of `load_cropped`."""
    with reading_artifact(), np.load(path, allow_pickle=False) as data:
        start, part = data["start"], tuple(data["part"])
        region = np.zeros(tuple(data["shape"]), bool)
        box = tuple(slice(a, a + n) for a, n in zip(start, part, strict=True))
        region[box] = np.unpackbits(data["bits"], count=int(np.prod(part))).reshape(part)
        return region


def taken(offered: Sequence[StoredCandidate], answer: ReaderChoice) -> StoredCandidate:
    """Return the segmentation that an answer chooses from the targets and parts of the candidates.

    The result starts as the answer's candidate `k`. If the answer takes a lesion from another candidate, then
    the lesion's voxels in candidate `k` become liver. In an overlap of two lesions, the voxels get the higher
    number. If the answer names parts of a target, then only the target's largest connected component is kept.
    """
    by_k = {candidate.k: candidate for candidate in offered}
    (base,) = (candidate for candidate in offered if candidate.k == answer.k)
    if not (answer.per_target or answer.per_part):
        return base
    values = {*answer.per_target, *(value for value, _ in answer.per_part)}
    labels = base.labels.copy()
    for value in sorted(values):
        region = _taken_region(by_k, answer, value)
        if value == LIVER:
            labels = np.where(labels > LIVER, labels, region).astype(np.uint8)
        else:
            labels[labels == value] = LIVER
            labels[region] = value
    return StoredCandidate(base.k, labels, answer.words)


def _taken_region(by_k: Mapping[int, StoredCandidate], answer: ReaderChoice, value: int) -> Region:
    """Return the mask `(Z, Y, X)` of a target as an answer chooses it, part by part."""

    def region_of(k: int) -> Region:
        labels = by_k[k].labels
        return np.asarray(labels > 0 if value == LIVER else labels == value)

    base = answer.candidate_of(value)
    assert base is not None, "an answer that takes something names a candidate"
    region = region_of(base)
    parts = [(name, k) for (target, name), k in answer.per_part.items() if target == value]
    for name, k in parts:
        here = by_k[base].parts[value].within(region_of(base) | region_of(k), name)
        region = np.where(here, region_of(k), region)
    return _largest_piece(region) if parts else region


def _largest_piece(region: Region) -> Region:
    pieces, count = ndimage.label(region)
    if count < 2:
        return region
    return np.asarray(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


def without_lesions(candidate: StoredCandidate, values: Sequence[int]) -> StoredCandidate:
    """Return a candidate in which the lesions with these label values have become liver."""
    if not values:
        return candidate
    none = np.isin(candidate.labels, values)
    return replace(candidate, labels=np.where(none, np.uint8(LIVER), candidate.labels))


def _bounds(marked: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the half-open box of the true voxels; the whole grid if there are none."""
    plane: npt.NDArray[np.bool_] = np.any(marked, axis=0)
    hits = [np.flatnonzero(line) for line in (marked.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0))]
    if hits[0].size == 0:
        return np.zeros(3, np.int64), np.array(marked.shape, np.int64)
    return np.array([hit[0] for hit in hits]), np.array([hit[-1] + 1 for hit in hits])
