"""Studies of patients on one node: sent, segmented with given labels, answered, finished by workers' jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom_config.model import Verb
from tests.support.intake import context_in, received
from tests.support.offered import CHARACTERS, do_work
from tests.support.synthetic import Lesion, abdomen
from uair_node.cases import lifecycle, work_items
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import read_series
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.artifacts import Labels, StoredCandidate, save_candidates
from workers.phantoms.ct_series import write_ct_series
from workers.phantoms.mr_series import write_mr_series

SHAPE, SPACING = (30, 80, 96), (5.0, 3.0, 3.0)
AFFINE = np.array([[0, 0, 3.0, -140], [0, 3.0, 0, -120], [5.0, 0, 0, 40], [0, 0, 0, 1]])
BEFORE = (Lesion((90.0, 120.0, 110.0), 12.0), Lesion((70.0, 140.0, 80.0), 9.0))
NOW = (Lesion((90.0, 120.0, 110.0), 16.0), Lesion((70.0, 140.0, 80.0), 9.0))


@contextmanager
def node_in(folder: Path, **sections: object) -> Iterator[Context]:
    """The context of a node with its data in `folder`."""
    with context_in(folder / "data", f"sqlite:///{folder / 'uair.sqlite'}", **sections) as context:
        yield context


def receive_study(context: Context, paths: Sequence[Path], day: str) -> int:
    """Set the date of a series and send it to the node; return the number of its case."""
    for path in paths:
        dataset = dcmread(path)
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = day
        dataset.save_as(path)
    inbox = Inbox(context)
    for path in paths:
        inbox.receive(received(path))
    time.sleep(0.02)
    assemble(context)
    with context.database.transaction() as session:
        newest: int = session.query(Case).order_by(Case.id.desc()).first().id
    return newest


def send_study(
    context: Context,
    folder: Path,
    lesions: Sequence[Lesion],
    answers: Sequence[tuple[Verb, ReaderChoice]],
    *,
    patient: str,
    day: str,
    mr: bool = False,
) -> int:
    """Send a study, answer its rounds and do the due work; return its case's number."""
    hu, truth = abdomen(tuple(lesions), shape=SHAPE, spacing=SPACING, seed=int(day))
    if mr:
        paths = write_mr_series(folder, hu.astype(np.float32) + 1100, AFFINE, patient_id=patient)
    else:
        paths = write_ct_series(folder, hu, AFFINE, patient_id=patient)
    case_id = receive_study(context, paths, day)
    labels = read_series(paths).canonical().to_source(truth)
    compute(context, case_id, labels)
    for verb, answer in answers:
        with context.database.transaction() as session:
            case = session.get_one(Case, case_id)
            select_by_number(session, Evidence(verb, "console"), case, answer)
        if verb == Verb.ACCEPT:
            do_work(context, WorkKind.FINISH)
        else:
            compute(context, case_id, labels)
    return case_id


def compute(context: Context, case_id: int, labels: Labels) -> None:
    """Store candidates for the newest round in place of the engine: four sizes of `labels`."""
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        round_ = case.current_round
        assert round_ is not None
        lifecycle.start_computing(session, case, actor="worker")
        folder = context.store.round_folder(case.id, round_.number, "made")
        candidates = [StoredCandidate(k, resized(labels, k), CHARACTERS[k - 1]) for k in (1, 2, 3, 4)]
        save_candidates(folder / CANDIDATES_FILE, candidates)
        round_.artifacts = context.store.relative(folder)
        round_.base_mm = {"1": 60.0, "2": 10.0, "3": 10.0}
        round_.model_name, round_.model_digest = "embedded", "0123456789abcdef" * 4
        lifecycle.finish_computing(session, case, round_)
        work_items.close(session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one())
    do_work(context, WorkKind.PUBLISH)


def resized(labels: Labels, k: int) -> Labels:
    """Return candidate `k`: `labels`, but each lesion has k - 1 slices less."""
    cut = labels.copy()
    for value in np.unique(labels[labels > 1]):
        for at in np.flatnonzero((labels == value).any(axis=(1, 2)))[: k - 1]:
            cut[at][labels[at] == value] = 1
    return cut
