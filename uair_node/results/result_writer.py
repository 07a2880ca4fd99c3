"""Write a result: its file, its copy for other machines, and the values of its row.

Only this module writes results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset

from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import ResultKind
from uair_node.context import Context
from uair_node.storage.store import write_durably


def keep_result(
    context: Context,
    document: Dataset,
    path: Path,
    kind: ResultKind,
    k: int,
    character: str,
    destinations: tuple[str, ...],
    *,
    volumes_ml: Mapping[str, Any] | None = None,
    targets: Sequence[int] = (),
) -> NewResult:
    """Write a DICOM object into the claim's folder. Return the result that the claim's commit adds as a row.

    Parameters
    ----------
    path
        Absolute path of the file, in `RoundInputs.own_folder`.
    k, character, volumes_ml, destinations, targets
        The values of `NewResult`.

    Raises
    ------
    ResourceError
        The errors of `write_durably`.
    TransientError
        ``store-unavailable``: the object store cannot be reached.
    """
    save_durably(document, path)
    return NewResult(
        kind=kind,
        k=k,
        sop_instance_uid=str(document.SOPInstanceUID),
        series_instance_uid=str(document.SeriesInstanceUID),
        sop_class_uid=str(document.SOPClassUID),
        path=context.store.share(path),
        character=character,
        volumes_ml=dict(volumes_ml or {}),
        destinations=destinations,
        targets=tuple(targets),
    )


def save_durably(document: Dataset, path: Path) -> None:
    """Write a DICOM file durably. After a power cut, `path` is either complete or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, lambda temporary: document.save_as(temporary, enforce_file_format=True))
