"""Four results that are due at the destination ``pacs``, and the jobs that deliver them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_config.model import AnyDestination
from tests.support.cases import publish_round, ready_case
from tests.support.intake import context_in
from tests.support.selections import instance_header
from uair_node.cases.clock import database_now
from uair_node.cases.tables import Delivery, DeliveryState, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.delivery.commitment import request_commitments
from uair_node.delivery.outbox import deliver
from uair_node.work.performer import Claim, Commit, perform


@contextmanager
def outbox_in(
    folder: Path, destinations: Sequence[str] = ("pacs",), database_url: str = ""
) -> Iterator[Context]:
    """A published round whose four SEG headers are on disk; the database is SQLite if none is given."""
    with context_in(folder, database_url or f"sqlite:///{folder / 'uair.sqlite'}") as context:
        with context.database.transaction() as session:
            case = ready_case(session)
            publish_round(session, case, destinations=destinations)
            for row in session.query(Delivery):
                path = context.store.absolute(row.result.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                seg = instance_header(sop_instance_uid=row.result.sop_instance_uid)
                seg.file_meta = FileMetaDataset()
                seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                seg.save_as(path, enforce_file_format=True)
        yield context


def with_destinations(context: Context, *destinations: AnyDestination) -> Context:
    """The context with these destinations configured."""
    settings = context.settings.model_copy(update={"destinations": destinations})
    return Context(settings, context.database, context.store)


def run_delivery(context: Context, *destinations: AnyDestination, name: str = "pacs") -> None:
    """Do the delivery to one destination at once, even if it is due later."""
    _run(with_destinations(context, *destinations), WorkKind.DELIVER, name, deliver)


def run_commitment(context: Context, *destinations: AnyDestination) -> None:
    """Do the storage commitment at once, even if it is due later."""
    _run(with_destinations(context, *destinations), WorkKind.COMMIT, "pacs", request_commitments)


def _run(context: Context, kind: WorkKind, name: str, job: Callable[[Context, Claim], Commit]) -> None:
    with context.database.transaction() as session:
        item = session.query(WorkItem).filter_by(kind=kind, subject=name).one()
        item.not_before = database_now(session)
        item_id = item.id
    assert perform(context, item_id, lambda claim: job(context, claim))


def states(context: Context, name: str = "pacs") -> list[DeliveryState]:
    """The states of a destination's deliveries, in their order."""
    with context.database.transaction() as session:
        rows = session.query(Delivery).filter_by(destination=name).order_by(Delivery.id)
        return [row.state for row in rows]


def reasons(context: Context) -> str:
    """The reasons of all deliveries."""
    with context.database.transaction() as session:
        return " | ".join(row.reason for row in session.query(Delivery).order_by(Delivery.id))


def work_item(context: Context, kind: WorkKind = WorkKind.DELIVER, name: str = "pacs") -> WorkItem:
    """The work item of a destination."""
    with context.database.transaction() as session:
        return session.query(WorkItem).filter_by(kind=kind, subject=name).one()
