"""What `uair check` finds, asked for here."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.cases.tables import utc_now
from uair_node.console import audit
from uair_node.console.desk import Ask, Desk
from uair_node.operations.checks import run_checks
from uair_node.operations.checks.finding import Level


def show_checks(desk: Desk, ask: Ask) -> Response:
    """Answer with the last findings."""
    at, findings = desk.kept.get("checks", (None, []))
    return desk.page("checks.html", ask, title="Checks", at=at, findings=findings)


def check_now(desk: Desk, ask: Ask) -> Response:
    """Look at everything, which takes as long as the slowest peer, and show it."""
    findings = run_checks(desk.context.settings)
    desk.kept["checks"] = (utc_now(), findings)
    wrong = sum(finding.level != Level.OK for finding in findings)
    with desk.context.database.transaction() as session:
        audit.record(session, ask.session.name, ask.address, "check", outcome=f"{wrong} findings")
    words = f"{wrong} of {len(findings)} need attention." if wrong else "Everything is as it should be."
    return desk.done(ask, "/checks", words, well=not wrong)
