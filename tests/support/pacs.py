"""Queries of the end-to-end tests to the PACS: which of our objects it has, and in which round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.support.orthanc import Orthanc, OrthancSeries
from tests.support.ports import wait_until


def seg_series(orthanc: Orthanc, prefix: str = "UAIR") -> list[OrthancSeries]:
    """SEG series whose description begins with `prefix`, by description."""
    found = [found_series for found_series in orthanc.series() if found_series.modality == "SEG"]
    named = [entry for entry in found if str(entry.tags.get("SeriesDescription", "")).startswith(prefix)]
    return sorted(named, key=lambda series: str(series.tags["SeriesDescription"]))


def await_round(orthanc: Orthanc, number: int, timeout_s: float = 120.0) -> list[OrthancSeries]:
    """Wait for the four candidates of a round."""
    prefix = f"UAIR R{number}C"
    wait_until(lambda: len(seg_series(orthanc, prefix)) >= 4, f"four series {prefix}…", timeout_s)
    return seg_series(orthanc, prefix)


def await_pages(orthanc: Orthanc, number: int, timeout_s: float = 60.0) -> list[str]:
    """Wait for a round's five pages; return Orthanc's identifiers, the overview first, then by candidate."""

    def pages() -> list[str]:
        prefix = f"UAIR PAGES R{number}"
        found = [
            found_series
            for found_series in orthanc.series()
            if str(found_series.tags.get("SeriesDescription", "")).startswith(prefix)
        ]
        return [instance for entry in found for instance in entry.instances]

    wait_until(lambda: len(pages()) >= 5, f"five pages of round {number}", timeout_s)
    return sorted(pages(), key=lambda instance: int(orthanc.tags(instance)["InstanceNumber"]))


def instance_ids(series: Sequence[OrthancSeries]) -> list[str]:
    """Orthanc's identifiers of all instances of these series."""
    return [instance for found_series in series for instance in found_series.instances]


def objects_in(orthanc: Orthanc, folder: Path) -> Iterator[tuple[Path, Dataset]]:
    """Write every object of the archive into a folder, and yield each with its path."""
    for number, instance in enumerate(orthanc.instances()):
        path = folder / f"{number}.dcm"
        path.write_bytes(orthanc.dicom(instance))
        yield path, dcmread(path)
