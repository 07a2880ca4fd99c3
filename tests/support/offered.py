"""A case whose candidates are real objects. The workers' own jobs publish, draw and finish its rounds.

Only the engine is left out: the tests provide the label volumes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread

from dicom_config.model import Verb
from tests.support.intake import context_in, received
from tests.support.made_once import MADE_ONCE, copy_rows
from tests.support.series import SHAPE, good_series
from uair_node.cases import lifecycle, work_items
from uair_node.cases.tables import Case, Result, ResultKind, Selection, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.delivery.outbox import deliver
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.notices import write_notices
from uair_node.results.page_set import draw_page_set
from uair_node.results.publish import publish
from uair_node.results.round_inputs import CANDIDATES_FILE, UNCERTAIN_FILE
from uair_node.results.withdrawal import withdraw, withdraw_closed_rounds
from uair_node.storage.artifacts import StoredCandidate, save_candidates, save_region
from uair_node.work.performer import Claim, Commit, perform
from workers.measure.accepted import finish_measured

_DATABASE = "uair.sqlite"
CHARACTERS = ("most likely", "most inclusive", "tightest", "alternative")
JOBS: Mapping[WorkKind, Callable[[Context, Claim], Commit]] = {
    WorkKind.PUBLISH: publish,
    WorkKind.PAGES: draw_page_set,
    WorkKind.NOTICES: write_notices,
    WorkKind.FINISH: finish_measured,
    WorkKind.WITHDRAW: withdraw,
    WorkKind.CLOSE_ROUNDS: withdraw_closed_rounds,
    WorkKind.DELIVER: deliver,
}


def candidate_labels(k: int) -> np.ndarray:
    """Return candidate `k`'s labels: liver and two lesions, without symmetry. They grow with k."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:13, 5 : 13 + k, 3:14] = 1
    labels[3:6, 12:15, 3:6] = 1
    labels[5:8, 7 : 8 + k, 5:9] = 2
    labels[9:11, 11:13, 9 : 10 + k] = 3
    return labels


class OfferedCase:
    """One case that waits for a reader, with methods for the reader's actions.

    Attributes
    ----------
    context
        Its node's context.
    paths, volume
        The files of the series, and the series as a volume.
    """

    def __init__(self, context: Context, paths: Sequence[Path]) -> None:
        self.context = context
        self.paths = list(paths)
        self.volume: Volume = read_series(self.paths)
        self._inbox = Inbox(context)

    def push(self) -> None:
        """Send the series and compute its first round."""
        self.receive()
        self.compute()

    def receive(self) -> None:
        """Send the present files of the series, and let the node make a case of them."""
        for path in self.paths:
            self._inbox.receive(received(path))
        time.sleep(0.02)  # the quiet period of these tests
        assemble(self.context)

    def compute(self, ks: Sequence[int] = (1, 2, 3, 4)) -> None:
        """Store candidates for the newest round in place of the engine; a settled round has candidate 1."""
        with self.context.database.transaction() as session:
            case = session.query(Case).one()
            round_ = case.current_round
            lifecycle.start_computing(session, case, actor="worker")
            folder = self.context.store.round_folder(case.id, round_.number, "made")
            candidates = [StoredCandidate(k, candidate_labels(k), CHARACTERS[k - 1]) for k in ks]
            save_candidates(folder / CANDIDATES_FILE, candidates)
            save_region(folder / UNCERTAIN_FILE, candidate_labels(1) != candidate_labels(4))
            round_.artifacts = self.context.store.relative(folder)
            round_.model_name, round_.model_digest = "embedded", "0123456789abcdef" * 4
            lifecycle.finish_computing(session, case, round_)
            work_items.close(session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one())

    def work(self, *kinds: WorkKind) -> None:
        """Do all due work of these kinds, as the workers would."""
        do_work(self.context, *kinds)

    def results(self, kind: ResultKind) -> list[Result]:
        """All results of a kind, oldest first."""
        with self.context.database.transaction() as session:
            found = session.query(Result).filter_by(kind=kind).order_by(Result.id).all()
            session.expunge_all()
            return found

    def path(self, result: Result) -> Path:
        """The path of a result's file."""
        return self.context.store.absolute(result.path)

    def candidate(self, k: int, round_number: int = 1) -> Dataset:
        """The SEG of candidate `k`."""
        return dcmread(self.path(self.results(ResultKind.CANDIDATE)[4 * (round_number - 1) + k - 1]))

    def send(self, dataset: Dataset, verb: Verb = Verb.STORE, calling_ae: str = "VIEWER") -> Selection | None:
        """Let a viewer send an object; return the newest selection, if there is any."""
        path = self.context.store.root.parent / "sent.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return self.send_file(path, verb, calling_ae)

    def send_file(self, path: Path, verb: Verb = Verb.STORE, calling_ae: str = "VIEWER") -> Selection | None:
        """Let a viewer send an unchanged file; return the newest selection, if there is any."""
        self._inbox.receive(received(path, verb, calling_ae))
        return self.selections()[-1] if self.selections() else None

    def selections(self) -> list[Selection]:
        """All selections, oldest first."""
        return self._all(Selection)

    def case(self) -> Case:
        """The case's row."""
        (case,) = self._all(Case)
        return case

    def _all(self, table: Any) -> list[Any]:
        with self.context.database.transaction() as session:
            found = session.query(table).order_by(table.id).all()
            session.expunge_all()
            return found


def do_work(context: Context, *kinds: WorkKind) -> None:
    """Do all due work of these kinds, as the workers would."""
    for kind in kinds:
        with context.database.transaction() as session:
            due = [item.id for item in session.query(WorkItem).filter_by(kind=kind, open=True)]
        for item_id in due:
            assert perform(context, item_id, partial(JOBS[kind], context))


def final_path(context: Context, case_id: int, name: str) -> Path:
    """Return the path of a file in the final folder of a case's newest round."""
    with context.database.transaction() as session:
        round_ = session.get_one(Case, case_id).current_round
        assert round_ is not None
        assert round_.final_folder, "the round is finished"
        return context.store.absolute(round_.final_folder) / name


@contextmanager
def offered_case(
    folder: Path, paths: Sequence[Path] = (), *, database_url: str = "", **sections: object
) -> Iterator[OfferedCase]:
    """A case of the series in `paths` (by default a good series) whose first four candidates are published.

    The database is a file in `folder` unless `database_url` names another database. Without `paths`, the case
    is a copy of one that was made once.
    """
    url = database_url or f"sqlite:///{folder / _DATABASE}"
    if not paths:
        _copy_offered(folder, database_url, sections)
        with context_in(folder / "data", url, **sections) as context:
            yield OfferedCase(context, sorted((folder / "ct").iterdir()))
        return
    with context_in(folder / "data", url, **sections) as context:
        yield _offer(context, paths)


def _offer(context: Context, paths: Sequence[Path]) -> OfferedCase:
    case = OfferedCase(context, paths)
    case.push()
    case.work(WorkKind.PUBLISH)
    return case


def _copy_offered(folder: Path, database_url: str, sections: Mapping[str, object]) -> None:
    """Copy the case for some sections of the configuration; with `database_url`, copy its rows there."""

    def make(original: Path) -> None:
        with context_in(original / "data", f"sqlite:///{original / _DATABASE}", **sections) as context:
            _offer(context, good_series(original / "ct"))

    copied = folder / "copied" if database_url else folder
    labels = b"".join(candidate_labels(k).tobytes() for k in (1, 2, 3, 4))  # some tests replace the function
    digest = sha256(repr(sections).encode() + labels).hexdigest()
    MADE_ONCE.copy(f"offered-{digest[:16]}", make, copied)
    if database_url:
        copy_rows(f"sqlite:///{copied / _DATABASE}", database_url)
        for name in ("data", "ct"):
            (copied / name).rename(folder / name)


@contextmanager
def copied_case(original: Path, folder: Path) -> Iterator[OfferedCase]:
    """A copy of the case that `offered_case` left in `original`."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    with context_in(folder / "data", f"sqlite:///{folder / 'uair.sqlite'}") as context:
        yield OfferedCase(context, sorted((folder / "ct").iterdir()))
