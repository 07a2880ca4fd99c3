"""A case that waits for a reader and lacks a lesion. The node processes the reader's objects at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_config.model import Verb
from tests.support.intake import context_in, received
from tests.support.marked import Drawn
from tests.support.series import SHAPE, affine_of, good_series
from tests.support.waiting import waiting_case
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.storage.artifacts import StoredCandidate

Pixel = tuple[float, float]
Place = tuple[float, float, float]

MISSED: tuple[Pixel, Pixel] = ((11.0, 13.0), (15.0, 16.0))
"""Ends (column, row) of a lesion that no candidate has, on slice 9."""
ON_LESION: tuple[Pixel, Pixel] = ((5.5, 7.0), (8.5, 8.5))
"""Ends on lesion 1 of all candidates, on slice 7."""


class MissedCase:
    """The case, with methods for its reader's actions.

    Attributes
    ----------
    context, volume
        Its node's context, and its series as a volume.
    """

    def __init__(self, context: Context, volume: Volume) -> None:
        self.context, self.volume = context, volume

    def image(self, k: int) -> Dataset:
        """The DICOM image of slice `k`."""
        return dcmread(self.volume.slices[k].path)

    def line(self, *points: Pixel, k: int = 9, **more: object) -> Drawn:
        """A length on slice `k`."""
        return Drawn("POLYLINE", points, self.image(k), **more)

    def send(self, document: Dataset, verb: Verb = Verb.PICK) -> Selection | None:
        """Let a viewer send an object; return the newest selection."""
        path = self.context.store.root.parent / "sent.dcm"
        document.save_as(path, enforce_file_format=True)
        return self.send_file(path, verb)

    def send_file(self, path: Path, verb: Verb = Verb.PICK) -> Selection | None:
        """Let a viewer send an unchanged file; return the newest selection."""
        Inbox(self.context).receive(received(path, verb, "VIEWER"))
        rows = self.selections()
        return rows[-1] if rows else None

    def selections(self) -> list[Selection]:
        """All selections, oldest first."""
        with self.context.database.transaction() as session:
            found = session.query(Selection).order_by(Selection.id).all()
            session.expunge_all()
            return found

    def case(self) -> Case:
        """The case's row."""
        with self.context.database.transaction() as session:
            case = session.query(Case).one()
            session.expunge_all()
            return case


@contextmanager
def missed_case(folder: Path, volume: Volume, *, database_url: str = "") -> Iterator[MissedCase]:
    """A new case. Its database is a file in `folder` unless `database_url` names a database."""
    candidates = [StoredCandidate(k, _labels(k - 1), "") for k in (1, 2, 3, 4)]
    with waiting_case(folder, volume, candidates, database_url=database_url) as context:
        yield MissedCase(context, volume)


@contextmanager
def copied_missed_case(original: Path, folder: Path, volume: Volume) -> Iterator[MissedCase]:
    """A copy of the case that `missed_case` left in `original`."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    with context_in(folder / "data", f"sqlite:///{folder / 'uair.sqlite'}") as context:
        yield MissedCase(context, volume)


def missed_series(folder: Path) -> Volume:
    """Write the case's series to `folder`, and return it as a volume."""
    return read_series(good_series(folder))


def _labels(grow: int) -> np.ndarray:
    """A liver of 9 x 17 x 14 voxels (5 x 0.8 x 0.8 mm) with one lesion; rows and columns differ."""
    made = np.zeros(SHAPE, np.uint8)
    made[3:12, 3:20, 3:17] = 1
    made[6:8, 6 : 9 + grow, 5:9] = 2
    return made


def in_space(points: Sequence[Place]) -> list[Place]:
    """Convert points (z, y, x) on the source grid, counted from voxel edges, to LPS mm."""
    index = np.column_stack([np.asarray(points) - 0.5, np.ones(len(points))])
    return [(x, y, z) for x, y, z in (index @ affine_of().T)[:, :3].tolist()]


def understood(row: Selection | None) -> Marks:
    """Return the marks of an answer that took effect."""
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE, (row.code, row.sentence)
    marks = marks_of(row.marks)
    assert marks is not None
    return marks
