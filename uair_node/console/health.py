"""What `uair check` finds: looked at by the console itself, or now."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console import audit
from uair_node.console.check_schedule import EVERY_S, keep_findings, last_findings
from uair_node.console.desk import Ask, Desk
from uair_node.operations.checks import run_checks
from uair_node.operations.checks.finding import Level


def show_checks(desk: Desk, ask: Ask) -> Response:
    """Answer with the last findings, the worst ones first."""
    at, found = last_findings(desk.kept)
    findings = sorted(found, key=lambda finding: -list(Level).index(finding.level))
    return desk.page("checks.html", ask, title="Checks", at=at, findings=findings, every_s=EVERY_S)


def check_now(desk: Desk, ask: Ask) -> Response:
    """Look at everything, which takes as long as the slowest peer, and show it."""
    findings = run_checks(desk.context.settings)
    keep_findings(desk.kept, findings)
    wrong = sum(finding.level != Level.OK for finding in findings)
    with desk.context.database.transaction() as session:
        audit.record(session, ask.session.name, ask.address, "check", outcome=f"{wrong} findings")
    words = f"{wrong} of {len(findings)} need attention." if wrong else "Everything is as it should be."
    return desk.done(ask, "/checks", words, well=not wrong)
