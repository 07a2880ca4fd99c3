"""The page of `uair check`: the latest scheduled findings, or a run on request."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console import audit
from uair_node.console.check_schedule import EVERY_S, keep_findings, last_findings
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.operations.checks import run_checks
from uair_node.operations.checks.finding import Level


def show_checks(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the last findings, the worst findings first."""
    at, found = last_findings(console.kept)
    findings = sorted(found, key=lambda finding: -list(Level).index(finding.level))
    return console.page("checks.html", request, title="Checks", at=at, findings=findings, every_s=EVERY_S)


def check_now(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Run all checks and show the findings. The request takes as long as the slowest peer needs."""
    findings = run_checks(console.context.settings)
    keep_findings(console.kept, findings)
    wrong = sum(finding.level != Level.OK for finding in findings)
    with console.context.database.transaction() as session:
        audit.record(session, request.session.name, request.address, "check", outcome=f"{wrong} findings")
    words = (
        f"{wrong} of {len(findings)} checks need attention." if wrong else "Everything is as it should be."
    )
    return console.redirect_with_notice(request, "/checks", words, well=not wrong)
