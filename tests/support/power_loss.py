"""Write data that must survive a power cut, for a trace of system calls; see `tests/unit/test_power_loss.py`.

Run as ``python -m tests.support.power_loss FOLDER SLICE``. Each variant except the first omits one sync.
"""

from __future__ import annotations

import os
import stat
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from pydicom import dcmread
from sqlalchemy import event

from tests.support.intake import context_in, received
from uair_node.cases.installation_tables import AccessRecord
from uair_node.context import Context
from uair_node.intake.inbox import Inbox
from uair_node.storage.artifacts import StoredCandidate, save_candidates
from uair_node.storage.store import write_durably

VARIANTS = ("whole", "no-file-sync", "no-folder-sync", "no-parent-sync", "no-commit-sync")
STEPS = ("instance", "artifact", "result")
_REAL = os.fsync


def main(folder: Path, slice_: Path) -> None:
    """Do the steps in each variant, and write to standard output when each step is done."""
    for variant in VARIANTS:
        with context_in(folder / variant, f"sqlite:///{folder / variant}.sqlite") as context:
            if variant == "no-commit-sync":
                _sync_no_commits(context)
            _say("begin", variant)
            with patch("os.fsync", partial(_sync, variant)):
                _take_steps(context, variant, slice_)


def _take_steps(context: Context, variant: str, slice_: Path) -> None:
    Inbox(context).receive(received(slice_))
    _say("instance", variant)
    folder = context.store.round_folder(1, 1, "made")
    save_candidates(folder / "candidates.npz", [StoredCandidate(1, np.ones((2, 3, 4), np.uint8), "")])
    _commit(context)
    _say("artifact", variant)
    write_durably(folder / "UAIR-R1C1.dcm", partial(dcmread(slice_).save_as, enforce_file_format=True))
    _commit(context)
    _say("result", variant)


def _commit(context: Context) -> None:
    with context.database.transaction() as session:
        session.add(AccessRecord(actor="test", action="test", outcome="ok"))


def _say(what: str, variant: str) -> None:
    os.write(1, f"{what} {variant};".encode())


def _sync(variant: str, handle: int) -> None:
    place = os.fstat(handle)
    is_folder = stat.S_ISDIR(place.st_mode)
    name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
    is_parent = is_folder and (name in ("spool", "artifacts", *VARIANTS) or name.startswith("case-"))
    left_out = {
        "no-file-sync": not is_folder,
        "no-folder-sync": is_folder and not is_parent,
        "no-parent-sync": is_parent,
    }
    if not left_out.get(variant):
        _REAL(handle)


def _sync_no_commits(context: Context) -> None:
    @event.listens_for(context.database.engine, "connect")
    def _on_connect(connection: object, _record: object) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")  # type: ignore[attr-defined]

    context.database.engine.dispose()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
