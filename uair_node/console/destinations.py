"""Show destinations: pending and refused deliveries, and whether the destination answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from dicom_config.errors import InputError, UairError
from dicom_config.model import AnyDestination
from uair_node.cases.tables import Delivery, DeliveryState, Result, Round, utc_now
from uair_node.console import audit
from uair_node.console.check_schedule import last_findings
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.secrecy import without_url_secrets
from uair_node.delivery.counts import count_deliveries
from uair_node.network.destination_kinds import address_of, probe, service_of
from uair_node.operations.checks.connections import destination_parts
from uair_node.operations.checks.finding import Finding, Level

_MOST_REASONS = 5


@dataclass(frozen=True)
class Reason:
    """A reason why deliveries wait, and the cases that it concerns."""

    state: DeliveryState
    text: str
    cases: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A destination: its address, its deliveries by state, and the reasons why some deliveries wait."""

    name: str
    how: str
    profile: str
    verb: str
    counts: dict[str, int]
    oldest: datetime | None
    reasons: list[Reason]


@dataclass(frozen=True)
class ConnectionTest:
    """A destination's answer to the latest connection test."""

    at: datetime
    well: bool
    sentence: str


def show_destinations(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with all configured destinations, and with removed destinations that still have deliveries."""
    configured = console.context.settings.destinations
    with console.context.database.reading() as session:
        counts = _counts(session)
        gone = sorted(set(counts) - {destination.name for destination in configured})
        rows = [_row(session, destination, counts) for destination in configured]
        lost = [Row(name, "not configured any more", "", "", counts[name], None, []) for name in gone]
        return console.page(
            "destinations.html",
            request,
            title="Destinations",
            rows=rows + lost,
            findings=_findings(console),
            answers=console.kept.setdefault("answers", {}),
            states=list(DeliveryState),
        )


def _findings(console: ConsoleApp) -> dict[str, list[Finding]]:
    """Return the last check's findings about each destination, by its name."""
    _, found = last_findings(console.kept)
    return {
        destination.name: [
            finding
            for finding in found
            if finding.level != Level.OK and finding.what in destination_parts(destination.name)
        ]
        for destination in console.context.settings.destinations
    }


def ask_destination(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Test the connection to a destination with C-ECHO, or with a DICOMweb search that finds no study."""
    name = request.path["name"]
    found = console.context.settings.destination(name)
    if found is None:
        raise InputError("no-such-page", "There is no such destination.", "See the list of destinations.")
    answered = _request(found)
    console.kept.setdefault("answers", {})[name] = answered
    with console.context.database.transaction() as session:
        outcome = audit.ALLOWED if answered.well else "no answer"
        audit.record(session, request.session.name, request.address, "echo", f"destination {name}", outcome)
    return console.redirect_with_notice(
        request, "/destinations", f"{name}: {answered.sentence}", well=answered.well
    )


def _request(destination: AnyDestination) -> ConnectionTest:
    try:
        probe(destination)
    except UairError as error:
        return ConnectionTest(utc_now(), False, f"{error.sentence} {error.remedy}")
    return ConnectionTest(utc_now(), True, f"answers {service_of(destination)}.")


def _row(session: Session, destination: AnyDestination, counts: dict[str, Counter[str]]) -> Row:
    tls = ", TLS" if destination.tls is not None else ""
    name = destination.name
    return Row(
        name,
        f"{without_url_secrets(address_of(destination))}{tls}",
        str(destination.profile),
        f"Test ({service_of(destination)})",
        counts.get(name, Counter()),
        session.scalar(
            select(func.min(Delivery.created_at)).where(
                Delivery.destination == name, Delivery.state == DeliveryState.PENDING
            )
        ),
        _reasons(session, name),
    )


def _counts(session: Session) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (name, state), number in count_deliveries(session).items():
        found[name][state] = number
    return found


def _reasons(session: Session, name: str) -> list[Reason]:
    query = (
        select(Delivery.state, Delivery.reason, Round.case_id)
        .join(Delivery.result)
        .join(Result.round)
        .where(
            Delivery.destination == name,
            Delivery.state.in_([DeliveryState.PARKED, DeliveryState.PENDING]),
            Delivery.reason != "",
        )
        .distinct()
    )
    cases: dict[tuple[DeliveryState, str], set[int]] = defaultdict(set)
    for state, reason, case_id in session.execute(query):
        cases[state, reason].add(case_id)
    ordered = sorted(cases.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]
    return [Reason(state, reason, tuple(sorted(ids))) for (state, reason), ids in ordered]
