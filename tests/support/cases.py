"""Builders of case rows for tests that need a case in a certain state, made through the life cycle itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from uair_node.cases import lifecycle, work_items
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import Case, Instance, InstanceStatus, ResultKind, WorkItem, WorkKind, utc_now

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def receiving_case(session: Session, series_uid: str = "1.2.3", slices: int = 2) -> Case:
    """A case with `slices` stored instances that is still receiving."""
    start = session.query(Instance).count()
    for n in range(start, start + slices):
        session.add(
            Instance(
                sop_instance_uid=f"{series_uid}.{n}",
                series_instance_uid=series_uid,
                study_instance_uid="1.2",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                sha256=f"{n:064d}",
                path=f"spool/{n}.dcm",
                size=1,
                status=InstanceStatus.STORED,
                calling_ae="ROUTER",
            )
        )
    return lifecycle.open_case(session, series_uid=series_uid, study_uid="1.2", calling_ae="ROUTER")


def ready_case(session: Session, series_uid: str = "1.2.3", slices: int = 2) -> Case:
    """A READY case whose round 1 is due."""
    case = receiving_case(session, series_uid, slices)
    instances = session.query(Instance).filter_by(series_instance_uid=series_uid).all()
    lifecycle.make_ready(
        session,
        case,
        digest=f"digest-{len(instances)}-{series_uid}",
        instances=instances,
        slices=len(instances),
        accession_number="A1",
        assumed="",
    )
    return case


def publish_round(session: Session, case: Case, destinations: Sequence[str] = ()) -> None:
    """Compute and publish the newest round, as the workers' jobs would."""
    round_ = case.current_round
    assert round_ is not None
    lifecycle.start_computing(session, case, actor="worker")
    round_.artifacts = f"artifacts/{case.id}/{round_.number}"
    lifecycle.finish_computing(session, case, round_)
    work_items.close(open_item(session, case, WorkKind.COMPUTE))
    results = [new_result(case, round_.number, k, tuple(destinations)) for k in (1, 2, 3, 4)]
    lifecycle.finish_publishing(session, case, round_, results, pages=False)
    work_items.close(open_item(session, case, WorkKind.PUBLISH))
    session.flush()


def new_result(case: Case, round_number: int, k: int, destinations: tuple[str, ...] = ()) -> NewResult:
    """The values for the row of candidate `k`."""
    return NewResult(
        kind=ResultKind.CANDIDATE,
        k=k,
        sop_instance_uid=candidate_uid(case, round_number, k),
        series_instance_uid=f"2.25.{case.id}.{round_number}.{k}.1",
        sop_class_uid=SEG,
        path=f"artifacts/{case.id}-{round_number}-{k}.dcm",
        character="",
        volumes_ml={"liver": 1000.0, "lesions": []},
        destinations=destinations,
        targets=(1, 2, 3),
    )


def candidate_uid(case: Case, round_number: int, k: int) -> str:
    """The SOP Instance UID that `new_result` gives."""
    return f"2.25.{case.id}.{round_number}.{k}"


def open_item(session: Session, case: Case, kind: WorkKind) -> WorkItem:
    """The only open work item of a kind."""
    return session.query(WorkItem).filter_by(case_id=case.id, kind=kind, open=True).one()


def expire_lease(item: WorkItem) -> None:
    """Set the end of a lease to the past."""
    item.lease_until = utc_now() - timedelta(seconds=1)
