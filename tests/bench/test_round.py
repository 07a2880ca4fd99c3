"""From a pick received to the next four segmentations delivered, with its parts, on a real CT.

Everything is real: the product in embedded mode with its default timing, DCMTK's storescu as the reader's
viewer, its storescp as the archive. Prints a table; asserts no timing. ``make bench`` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.peers import Dcmtk
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded
from uair_node.cases.database import Database
from uair_node.cases.tables import Delivery, DeliveryState, Result, ResultKind, Round, Selection, utc_now

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SERIES = "ircadb01_p17"
ROUNDS = (2, 3)
PARTS = (
    "receive",
    "wait for worker",
    "decode",
    "refine",
    "keep",
    "wait for writer",
    "write",
    "send",
    "total",
)


def test_from_a_pick_to_the_next_four(dcmtk: Dcmtk, ct_dir: Path, tmp_path: Path) -> None:
    with dcmtk.storescp() as archive:
        peer = {"name": "archive", "ae_title": archive.aet, "host": HOST, "port": archive.port}
        made = embedded(tmp_path, {"destinations": [peer], "intake": {"quiet_s": 1.5}})
        made.start()
        try:
            _send(dcmtk, made, "UAIR", ct_dir / SERIES / "PATIENT_DICOM")
            database = Database(f"sqlite:///{tmp_path / 'data' / 'uair.sqlite'}")
            picked = _await_round(database, tmp_path, 1)
            table = {}
            for number in ROUNDS:
                started = utc_now()
                _send(dcmtk, made, "UAIR_PICK", picked)
                picked = _await_round(database, tmp_path, number)
                table[number] = _parts(database, made.log.read_text("utf-8"), number, started)
            database.close()
        finally:
            made.stop()
    print("\n" + "seconds".ljust(20) + "".join(f"round {number} (busy)".ljust(20) for number in table))  # noqa: T201
    for part in PARTS:
        cells = (
            f"{passed:7.2f} ({spent:.2f})" for passed, spent in (found[part] for found in table.values())
        )
        print(part.ljust(20) + "".join(cell.ljust(20) for cell in cells))  # noqa: T201
    for number, found in table.items():
        passed, spent = found["total"]
        print(f"RESULT round_{number}_seconds={passed:.2f} round_{number}_busy_seconds={spent:.2f}")  # noqa: T201


def _send(dcmtk: Dcmtk, node: Deployment, called: str, path: Path) -> None:
    sent = dcmtk.storescu(HOST, node.port, called, "BENCH", [path])
    assert sent.returncode == 0, sent.stderr


def _await_round(database: Database, folder: Path, number: int) -> Path:
    """Wait until a round's four candidates and their five pages are delivered; return candidate 2's file.

    The pages are drawn after the segmentations, while a reader looks at these.
    """

    def delivered() -> bool:
        with database.transaction() as session:
            rows = session.scalars(_deliveries(number, ResultKind.CANDIDATE, ResultKind.PAGE)).all()
            return len(rows) == 9 and all(row.state == DeliveryState.CONFIRMED for row in rows)

    wait_until(delivered, f"round {number} delivered; see {folder / 'uair.log'}", 900.0)
    with database.transaction() as session:
        (path,) = (
            row.result.path
            for row in session.scalars(_deliveries(number, ResultKind.CANDIDATE))
            if row.result.k == 2
        )
    return folder / "data" / path


def _deliveries(number: int, *kinds: ResultKind) -> Any:
    return (
        select(Delivery)
        .join(Delivery.result)
        .join(Round)
        .where(Round.number == number, Result.kind.in_(kinds))
    )


def _parts(database: Database, log: str, number: int, started: datetime) -> Mapping[str, tuple[float, float]]:
    """Take a round's way apart, by the times of its rows and what the workers logged.

    Each part with the time that passed and the processor time of the worker in it, which other work on the
    machine changes less.
    """
    with database.transaction() as session:
        (round_,) = session.scalars(select(Round).where(Round.number == number)).all()
        selection = session.get_one(Selection, round_.selection_id)
        sent = [
            row.confirmed_at
            for row in session.scalars(_deliveries(number, ResultKind.CANDIDATE))
            if row.confirmed_at
        ]
        assert round_.computed_at is not None
        assert round_.published_at is not None
        computing = round_.compute_seconds or 0.0
        logged = {part: _logged(log, number, "computed", part) for part in ("decode", "refine", "keep")}
        logged["write"] = _logged(log, number, "written", "write")
        waiting = {
            "receive": selection.received_at - started,
            "wait for worker": round_.computed_at - selection.received_at - timedelta(seconds=computing),
            "wait for writer": round_.published_at
            - round_.computed_at
            - timedelta(seconds=logged["write"][0]),
            "send": max(sent) - round_.published_at,
            "total": max(sent) - started,
        }
        busy = {"total": sum(spent for _, spent in logged.values())}
        return logged | {
            part: (passed.total_seconds(), busy.get(part, 0.0)) for part, passed in waiting.items()
        }


def _logged(log: str, number: int, done: str, part: str) -> tuple[float, float]:
    """Return a part's times in a worker's line ``case 1 round 2 computed: decode 0.4 s (0.3 s busy), …``."""
    (line,) = re.findall(rf"round {number} {done}: (.*)", log)
    ((passed, spent),) = re.findall(rf"{part} ([0-9.]+) s \(([0-9.]+) s busy\)", line)
    return float(passed), float(spent)
