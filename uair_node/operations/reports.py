"""Make the records of a case. Tables and `--json` use the same records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from dicom_config.errors import InputError
from uair_node.cases.tables import (
    Case,
    Delivery,
    Instance,
    InstanceStatus,
    Result,
    Round,
    Selection,
    WorkItem,
)
from uair_node.results.reader_preference import in_words


def get_case(session: Session, case_id: int) -> Case:
    """Return a case.

    Raises
    ------
    InputError
        ``no-such-case``: no case has this id.
    """
    case = session.get(Case, case_id)
    if case is None:
        raise InputError("no-such-case", f"There is no case {case_id}.", "List them with `uair cases`.")
    return case


def summarize(case: Case) -> dict[str, Any]:
    """Return a record with the values of a case for one line of a list."""
    round_ = case.current_round
    return {
        "case": case.id,
        "state": str(case.state),
        "round": round_.number if round_ else 0,
        "slices": case.instance_count,
        "accession_number": case.accession_number,
        "series_instance_uid": case.series_instance_uid,
        "acquisition": case.acquisition,
        "created_at": _time(case.created_at),
        "updated_at": _time(case.updated_at),
        "code": case.code,
        "sentence": case.sentence,
        "remedy": case.remedy,
    }


def detail(session: Session, case: Case) -> dict[str, Any]:
    """Return a record with rounds, candidates, deliveries, selections, history and due work of a case."""
    return {
        **summarize(case),
        "study_instance_uid": case.study_instance_uid,
        "digest": case.digest,
        "assumed": [part for part in case.assumed.split(", ") if part],
        "warnings": case.warnings.splitlines(),
        "rounds": _rounds(session, case),
        "own_objects_returned": _own_returned(session, case),
        "selections": [_selection(selection) for selection in _of(session, Selection, case)],
        "due": [_work(item) for item in _of(session, WorkItem, case) if item.open],
        "history": [
            {
                "at": _time(transition.at),
                "from": transition.origin,
                "to": transition.state,
                "actor": transition.actor,
                "reason": transition.reason,
            }
            for transition in case.transitions
        ],
    }


def _own_returned(session: Session, case: Case) -> int:
    """Count our own objects that a PACS sent back. They start no work."""
    own = select(Result.sop_instance_uid).join(Result.round).where(Round.case_id == case.id)
    query = select(func.count(Instance.id)).where(
        Instance.status == InstanceStatus.OWN, Instance.sop_instance_uid.in_(own)
    )
    return session.scalar(query) or 0


def _of(session: Session, table: Any, case: Case) -> Sequence[Any]:
    return session.scalars(select(table).where(table.case_id == case.id).order_by(table.id)).all()


def _rounds(session: Session, case: Case) -> list[dict[str, Any]]:
    rounds = session.scalars(
        select(Round)
        .where(Round.case_id == case.id)
        .order_by(Round.number)
        .options(selectinload(Round.results))
    ).all()
    deliveries: dict[int, list[Delivery]] = defaultdict(list)
    query = select(Delivery).join(Delivery.result).join(Result.round).where(Round.case_id == case.id)
    for delivery in session.scalars(query.order_by(Delivery.id)):
        deliveries[delivery.result_id].append(delivery)
    return [_round(round_, deliveries) for round_ in rounds]


def _round(round_: Round, deliveries: Mapping[int, Sequence[Delivery]]) -> dict[str, Any]:
    return {
        "round": round_.number,
        "model": round_.model_name,
        "model_digest": round_.model_digest,
        "created_at": _time(round_.created_at),
        "computed_at": _time(round_.computed_at),
        "published_at": _time(round_.published_at),
        "compute_seconds": round_.compute_seconds,
        "preference": in_words(round_.prior or {}),
        "parts": round_.parts,
        "results": [_result(result, deliveries.get(result.id, ())) for result in round_.results],
    }


def _result(result: Result, deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {
        "kind": str(result.kind),
        "k": result.k,
        "character": result.character,
        "sop_instance_uid": result.sop_instance_uid,
        "series_instance_uid": result.series_instance_uid,
        "volumes_ml": result.volumes_ml,
        "deliveries": [
            {
                "destination": delivery.destination,
                "state": str(delivery.state),
                "attempts": delivery.attempts,
                "reason": delivery.reason,
            }
            for delivery in deliveries
        ],
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        "at": _time(selection.received_at),
        "round": selection.round_number,
        "verb": selection.verb,
        "picked": selection.picked,
        "per_target": selection.per_target,
        "marks": selection.marks,
        "mechanism": selection.mechanism,
        "calling_ae": selection.calling_ae,
        "outcome": str(selection.outcome),
        "code": selection.code,
        "sentence": selection.sentence,
    }


def _work(item: WorkItem) -> dict[str, Any]:
    return {
        "kind": str(item.kind),
        "attempts": item.attempts,
        "held_until": _time(item.lease_until),
        "not_before": _time(item.not_before),
        "cause": item.cause,
    }


def _time(moment: datetime | None) -> str | None:
    return f"{moment.isoformat(timespec='seconds')}Z" if moment else None
