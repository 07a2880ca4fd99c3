"""A case as a zip for support: enough to see and repeat what happened, nothing that names a person.

Pages, reports and notices stay out: pictures and texts are not worth the risk.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy.orm import Session

from uair_node import __version__, reports
from uair_node.cases.tables import Case, ResultKind
from uair_node.context import Context
from uair_node.housekeeping.anonymous import Pseudonyms
from uair_node.results.source import ROUND_FILES

_SEGMENTATIONS = (ResultKind.CANDIDATE, ResultKind.FINAL)
_LEFT_OUT = frozenset({"accession_number", "digest"})
_UID = re.compile(r"[0-2](\.\d+){2,}")
_YEAR_0 = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can state."""


def export_case(context: Context, case_id: int, target: Path) -> int:
    """Write a case to a zip file and return the number of its files.

    Raises
    ------
    InputError
        ``no-such-case``.
    """
    pseudonyms = Pseudonyms()
    with context.database.reading() as session:
        case = reports.get_case(session, case_id)
        record = _record(session, case, pseudonyms)
        files = list(_files(context, case))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "case.json", json.dumps(record, indent=2).encode())
        for name, path in files:
            _add(archive, name, _content(pseudonyms, path))
    return 1 + len(files)


def _record(session: Session, case: Case, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return what `uair case show` says, with times as seconds since the case began."""
    record = reports.detail(session, case)
    cleaned: dict[str, Any] = _cleaned(record, case.created_at, pseudonyms)
    return {"software": __version__, **cleaned}


def _cleaned(value: Any, start: datetime, pseudonyms: Pseudonyms) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(one, start, pseudonyms) for key, one in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [_cleaned(one, start, pseudonyms) for one in value]
    if not isinstance(value, str):
        return value
    if _UID.fullmatch(value):
        return pseudonyms.uid(value)
    try:
        moment = datetime.fromisoformat(value.removesuffix("Z")) if value.endswith("Z") else None
    except ValueError:
        return value
    return value if moment is None else (moment - start.replace(microsecond=0)).total_seconds()


def _files(context: Context, case: Case) -> Iterator[tuple[str, Path]]:
    """Yield names in the zip and files here; the names tell nothing."""
    paths = context.store.fetch_all([one.path for one in case.instances])
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


def _content(pseudonyms: Pseudonyms, path: Path) -> bytes:
    if path.suffix != ".dcm":
        return path.read_bytes()
    buffer = BytesIO()
    pseudonyms.file(dcmread(path)).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _YEAR_0), content, zipfile.ZIP_DEFLATED)
