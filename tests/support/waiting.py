"""A case that waits for a reader and whose objects are rows only; and data that viewers write into SEGs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tests.support.cases import publish_round
from tests.support.intake import context_in, received
from uair_node.cases.tables import Case
from uair_node.context import Context
from uair_node.dicom.volume import Volume
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.provenance import Provenance
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.results.seg import SegRequest
from uair_node.storage.artifacts import StoredCandidate, save_candidates

VIEWER = SegRequest(
    sop_instance_uid="2.25.101",
    series_instance_uid="2.25.102",
    k=1,
    character="",
    provenance=Provenance(
        round=1,
        model_name="viewer",
        model_digest="0" * 64,
        software_version="1",
        case_digest="0" * 64,
        content_datetime=datetime(2026, 1, 1),
    ),
)


@contextmanager
def waiting_case(
    folder: Path, volume: Volume, candidates: Sequence[StoredCandidate], *, database_url: str = ""
) -> Iterator[Context]:
    """Receive a series, publish its first round with these label volumes, and wait for the reader.

    The database is a file in `folder` unless `database_url` names another database.
    """
    with context_in(folder / "data", database_url or f"sqlite:///{folder / 'uair.sqlite'}") as made:
        inbox = Inbox(made)
        for slice_ in volume.slices:
            inbox.receive(received(slice_.path))
        time.sleep(0.02)
        assemble(made)
        with made.database.transaction() as session:
            case = session.query(Case).one()
            publish_round(session, case)
            artifacts = made.store.round_folder(case.id, 1, "made")
            assert case.current_round is not None
            case.current_round.artifacts = made.store.relative(artifacts)
        save_candidates(artifacts / CANDIDATES_FILE, candidates)
        yield made
