"""Export a case as a zip file for support. Support can see and repeat the case's steps without personal data.

Pages, reports and notices are left out, because pictures and texts may contain personal data.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from pydicom import config, dcmread

from dicom_config.errors import InputError
from uair_node import __version__
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.tables import Case, ResultKind
from uair_node.context import Context
from uair_node.operations import reports
from uair_node.operations.housekeeping.anonymous import UNREADABLE, Pseudonyms
from uair_node.operations.housekeeping.kept_record import kept_arrays, kept_record
from uair_node.results.round_inputs import ROUND_FILES
from uair_node.storage.store import write_durably

_SEGMENTATIONS = (ResultKind.CANDIDATE, ResultKind.FINAL)
_DAMAGED = (*UNREADABLE, OSError, EOFError, zipfile.BadZipFile)
_PRIVATE_FOLDER = 0o700
_YEAR_0 = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can store."""


def export_case(context: Context, case_id: int, target: Path, *, actor: str) -> int:
    """Write a case to a zip file that only its owner can read. Return the number of its files.

    Every export, even if refused, adds a row to the record of accesses. The file appears after this row.

    Raises
    ------
    InputError
        ``no-such-case``: no case has this id. ``burned-in-annotation``: pixels may show a name. No file is
        written.
    """
    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        written = _write(context, case_id, temporary)
        _record(context, case_id, actor, "done")

    _make_private(target.absolute().parent)
    try:
        write_durably(target, write)
    except InputError as error:
        _record(context, case_id, actor, error.code)
        raise
    return written


def _make_private(folder: Path) -> None:
    """Create a folder and its missing parents for the owner only. Existing folders do not change."""
    for missing in [part for part in (*reversed(folder.parents), folder) if not part.exists()]:
        missing.mkdir(_PRIVATE_FOLDER, exist_ok=True)


def _record(context: Context, case_id: int, actor: str, outcome: str) -> None:
    with context.database.transaction() as session:
        session.add(
            AccessRecord(actor=actor, action="export case", subject=f"case {case_id}", outcome=outcome)
        )


def _write(context: Context, case_id: int, target: Path) -> int:
    pseudonyms = Pseudonyms()
    with context.database.reading() as session:
        case = reports.get_case(session, case_id)
        record = kept_record(reports.detail(session, case), case.created_at, pseudonyms)
        files = list(_files(context, case))
    left_out = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files:
            try:
                content, is_whole = _content(pseudonyms, path)
            except _DAMAGED:
                left_out.append(name)
                continue
            if not is_whole:
                left_out.append(f"{name}: pixels")
            _add(archive, name, content)
        record = {"software": __version__, **record, "left_out": left_out}
        _add(archive, "case.json", json.dumps(record, indent=2).encode())
        return len(archive.namelist())


def _files(context: Context, case: Case) -> Iterator[tuple[str, Path]]:
    """Yield pairs of a name in the zip file and a path on this machine. The names identify no person."""
    paths = context.store.fetch_all([instance.path for instance in case.instances])
    for number, path in enumerate(sorted(paths), 1):
        yield f"series/{number:04d}.dcm", path
    for round_ in case.rounds:
        folder = f"round-{round_.number}"
        if round_.artifacts:
            names = [f"{round_.artifacts}/{name}" for name in ROUND_FILES]
            yield from ((f"{folder}/{path.name}", path) for path in context.store.fetch_all(names))
        for result in round_.results:
            if result.kind in _SEGMENTATIONS and result.path:
                name = f"{folder}/{result.kind}-{result.k}-{result.id}.dcm"
                yield name, context.store.fetch(result.path)


def _content(pseudonyms: Pseudonyms, path: Path) -> tuple[bytes, bool]:
    """Return the anonymous content of a DICOM file, and whether the content includes the pixels."""
    if path.suffix != ".dcm":
        return kept_arrays(path), True
    with config.disable_value_validation():  # warnings would print values
        source = dcmread(path)
    kept = pseudonyms.file(source)
    buffer = BytesIO()
    kept.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), "PixelData" in kept


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _YEAR_0), content, zipfile.ZIP_DEFLATED)
