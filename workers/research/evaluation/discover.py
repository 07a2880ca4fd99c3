"""Find the cases below a path. A case is a series with the truth that belongs to it.

A case is one of these:

- a folder with a DICOM series and a DICOM SEG of this series;
- a folder with a series and mask series, named as in 3D-IRCADb, plain or zipped;
- NIfTI files on the same grid;
- a folder that contains cases of these kinds.

If several truths could belong to a series, then `find_cases` raises an error.
"""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_config.codes import SelectionClass
from dicom_config.errors import InputError
from dicom_config.modalities import PROFILES
from workers.research.evaluation.evaluated_cases import NiftiSource, SeriesSource
from workers.research.evaluation.pairing import LABELS_NAME, case_name, is_volume, pairs, volumes_in
from workers.truth.masks import is_liver
from workers.truth.nifti import is_nifti

FileSource = SeriesSource | NiftiSource
_SEGMENTED = frozenset(uid for profile in PROFILES.values() for uid in profile.sop_classes)
_SEGMENTATIONS = (SelectionClass.SEGMENTATION, SelectionClass.LABEL_MAP_SEGMENTATION)
_TAGS = ["SOPClassUID", "SeriesInstanceUID", "ReferencedSeriesSequence"]


def find_cases(data: Sequence[Path], masks: Path | None = None) -> list[FileSource]:
    """Return all cases below the paths in `data`. Each case has a different name.

    The cases of NIfTI files come first. The cases of the folders follow in the order of the folders.

    Parameters
    ----------
    data
        Folders and NIfTI files to search.
    masks
        The truth of the only path in `data`, if it is not found automatically. If the path is a folder with
        several series, then the series with the most files is the case.

    Raises
    ------
    InputError
        ``no-such-path``. ``no-case-found``: a path holds no series with truth. ``truth-ambiguous``: more than
        one file could be the truth of a series. ``masks-for-one``: `masks` is given, but `data` is not one
        NIfTI file or one folder with a series.
    """
    absent = next((path for path in (*data, *((masks,) if masks else ())) if not path.exists()), None)
    if absent is not None:
        raise InputError("no-such-path", f"There is no {absent}.", "Correct the path.")
    if masks is not None:
        return [_with_masks(data, masks)]
    found = list(_nifti_cases([path for path in data if path.is_file()], data))
    for folder in (path for path in data if path.is_dir()):
        inside = list(_folder_cases(folder))
        if not inside:
            raise _no_case(folder)
        found += inside
    if not found:
        raise _no_case(data[0])
    names = [source.name for source in found]
    repeated = {name for name in names if names.count(name) > 1}
    return [
        replace(source, name=f"{source.name} ({n})") if source.name in repeated else source
        for n, source in enumerate(found, start=1)
    ]


def _with_masks(data: Sequence[Path], masks: Path) -> FileSource:
    if len(data) == 1 and is_nifti(data[0]):
        return NiftiSource(case_name(data[0]), data[0], masks)
    series = _image_series(_files(data[0], masks)) if len(data) == 1 and data[0].is_dir() else {}
    if not series:
        raise InputError(
            "masks-for-one",
            "--masks needs exactly one series: a DICOM folder or a NIfTI file.",
            "Name one series, or leave --masks out. Then the truth of each series is searched beside it.",
        )
    return SeriesSource(data[0].name, tuple(_largest(series)), masks)


def _folder_cases(folder: Path) -> Iterator[FileSource]:
    """Yield the cases of a folder and of the folders in it."""
    with_masks = list(_folders_with_masks(folder))
    for inner, masks in with_masks:
        yield _mask_case(inner, masks)
    claimed = [inner for inner, _ in with_masks]
    rest = [path for path in _files(folder) if not any(path.is_relative_to(inner) for inner in claimed)]
    volumes: dict[Path, list[Path]] = defaultdict(list)
    for path in filter(is_volume, rest):
        volumes[path.parent].append(path)
    for inner, files in volumes.items():
        yield from _nifti_cases(files, volumes_in(inner))
    yield from _segmented_series(folder.name, rest)


def _folders_with_masks(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folders that contain mask series, with the paths of the mask series."""
    inside = sorted(folder.iterdir())
    masks = [path for path in inside if _holds_masks(path)]
    if masks:
        yield folder, masks
        return
    for inner in filter(Path.is_dir, inside):
        yield from _folders_with_masks(inner)


def _mask_case(folder: Path, masks: list[Path]) -> FileSource:
    if len(masks) > 1:
        raise _ambiguous(folder.name, masks)
    series = _image_series(_files(folder, masks[0]))
    if series:
        return SeriesSource(folder.name, tuple(_largest(series)), masks[0])
    archives = [path for path in sorted(folder.glob("*.zip")) if path != masks[0] and _is_image_archive(path)]
    if len(archives) != 1:
        raise _no_case(folder)
    return SeriesSource(folder.name, (archives[0],), masks[0])


def _segmented_series(name: str, paths: list[Path]) -> Iterator[FileSource]:
    """Yield each series to which a SEG refers. The SEG is the truth of the series."""
    series = _image_series(paths)
    truths: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        header = _header(path)
        if header is not None and header.get("SOPClassUID") in _SEGMENTATIONS:
            for item in header.get("ReferencedSeriesSequence") or []:
                truths[str(item.SeriesInstanceUID)].append(path)
    for number, (uid, members) in enumerate(sorted(series.items()), start=1):
        found = truths[uid]
        if len(found) > 1:
            found = [path for path in found if _names_liver(path)]
            if len(found) != 1:
                raise _ambiguous(name, truths[uid])
        if found:
            yield SeriesSource(f"{name} {number}" if len(series) > 1 else name, tuple(members), found[0])


def _names_liver(path: Path) -> bool:
    segments = dcmread(path, stop_before_pixels=True).get("SegmentSequence") or []
    return any(is_liver(str(segment.get("SegmentLabel", ""))) for segment in segments)


def _files(folder: Path, without: Path | None = None) -> list[Path]:
    """Return all files below a folder, except those of `without`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files if without is None else [path for path in files if not path.is_relative_to(without)]


def _image_series(files: Sequence[Path]) -> dict[str, list[Path]]:
    series: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        header = _header(path)
        if header is not None and header.get("SOPClassUID") in _SEGMENTED:
            series[str(header.get("SeriesInstanceUID", ""))].append(path)
    return series


def _largest(series: dict[str, list[Path]]) -> list[Path]:
    return max(series.values(), key=lambda files: len(files))


def _header(path: Path) -> Dataset | None:
    if is_nifti(path) or path.suffix.lower() == ".zip":
        return None
    try:
        return dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return None


def _holds_masks(path: Path) -> bool:
    """Return whether a folder or zip has a sub-folder named liver."""
    if path.is_dir():
        return any(inner.is_dir() and is_liver(inner.name) for inner in path.iterdir())
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(is_liver(PurePosixPath(name).parent.name) for name in archive.namelist())


def _is_image_archive(path: Path) -> bool:
    if LABELS_NAME.search(path.name):
        return False
    with zipfile.ZipFile(path) as archive:
        first = next((name for name in archive.namelist() if not name.endswith("/")), None)
        if first is None:
            return False
        try:
            header = dcmread(io.BytesIO(archive.read(first)), stop_before_pixels=True)
        except InvalidDicomError:
            return False
    return header.get("SOPClassUID") in _SEGMENTED


def _nifti_cases(named: Sequence[Path], among: Sequence[Path]) -> Iterator[FileSource]:
    """Yield each CT among `named`, together with its labels.

    The labels are searched in `among`. If `among` has only one NIfTI file, then its folder is searched, too.
    """
    for path in named:
        if not is_nifti(path):
            raise _no_case(path)
    pool = [path for path in among if path.is_file() and is_volume(path)]
    if len(pool) == 1:
        pool = volumes_in(pool[0].parent)
    for path, truth in pairs(named, pool):
        if truth is not None:
            yield NiftiSource(case_name(path), path, truth)
        elif len(named) == 1:
            raise _no_case(path)


def _no_case(path: Path) -> InputError:
    return InputError(
        "no-case-found",
        f"{path} holds no series with truth.",
        "Name a folder with a DICOM series and its SEG or mask series (3D-IRCADb's form), or a folder of "
        "such folders. NIfTI files of a CT and its labels on one grid are accepted, too. Or give --masks.",
    )


def _ambiguous(name: str, paths: Sequence[Path]) -> InputError:
    listed = ", ".join(path.name for path in paths)
    return InputError(
        "truth-ambiguous",
        f"Several files could be the truth of {name}: {listed}.",
        "Name the right file with --masks.",
    )
