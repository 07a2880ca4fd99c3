"""The bytes of a report that takes effect: written before the transaction, kept before the answer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dicom_config.errors import ResourceError
from tests.support.full_disk import failing_writes_of
from tests.support.marked import marked_report
from tests.support.missed import MISSED, MissedCase
from tests.support.write_lock import watched_reads
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Instance, SelectionOutcome
from uair_node.storage import store


def _spooled(missed: MissedCase) -> set[Path]:
    return {path for path in missed.context.store.spool.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_report_that_cannot_be_written_has_no_effect_until_it_comes_again(
    missed: MissedCase, number: int
) -> None:
    report, before = marked_report([missed.line(*MISSED)]), _spooled(missed)
    with failing_writes_of("uair_node.storage.spool", number) as failed, pytest.raises(ResourceError):
        missed.send(report)
    assert failed, "it was tried"
    assert (missed.selections(), _spooled(missed)) == ([], before)
    assert missed.case().state == CaseState.AWAITING_SELECTION
    row = missed.send(report)
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE
    assert len(_spooled(missed) - before) == 1


def test_a_report_whose_name_cannot_be_kept_has_no_effect(
    missed: MissedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename is in the transaction: it fails with it."""
    report, before = marked_report([missed.line(*MISSED)]), _spooled(missed)

    def fail(_folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(store, "sync_folder", fail)
        with pytest.raises(ResourceError):
            missed.send(report)
    assert missed.selections() == []
    assert missed.case().state == CaseState.AWAITING_SELECTION
    assert missed.send(report) is not None
    assert len(_spooled(missed) - before) == 1


def test_others_can_write_to_the_database_while_the_bytes_are_written(missed: MissedCase) -> None:
    root = missed.context.store.spool
    with watched_reads(missed.context.settings.database_url, root) as watch:
        row = missed.send(marked_report([missed.line(*MISSED)]))
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE
    assert watch.opened, "files were opened"
    assert [where for where in watch.locked if not where.endswith(" sync_folder")] == []
    with missed.context.database.reading() as session:
        (path,) = session.query(Instance.path).filter(Instance.sop_class_uid.like("%.88.%")).one()
    assert missed.context.store.absolute(path).is_file()
