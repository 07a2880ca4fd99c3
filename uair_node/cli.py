"""The `uair` command: what runs a node, and what an administrator asks it.

Commands that need the workers' code (`worker`, `train`, `evaluate`, `demo`) are contributed by that package
through the entry point group ``uair.commands``; the node itself never imports it.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from dicom_config.errors import InputError, UairError
from dicom_config.model import Settings, Verb, load_settings
from uair_node import __version__, preference, reports
from uair_node.cases import lifecycle
from uair_node.cases.answer import LIVER, Answer
from uair_node.cases.lock import lock_case
from uair_node.cases.states import CaseState
from uair_node.checks import Finding, Level, checked
from uair_node.cohort_command import report
from uair_node.conformance import conformance_statement
from uair_node.console.commands import console_app
from uair_node.context import Context, open_context
from uair_node.delivery.resend import resend
from uair_node.dispatch import clear_embedded_messages
from uair_node.findings_command import measurements
from uair_node.housekeeping.export import export_case
from uair_node.housekeeping.tidy import tidy as tidy_up
from uair_node.intake.trial import try_folder
from uair_node.logs import set_up_logging
from uair_node.node import Node
from uair_node.options import ConfigOption
from uair_node.selection.service import Evidence, select_by_number
from uair_node.supervisor import Workers

console = Console()
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="UAIR node: four candidate segmentations per round, over plain DICOM. "
    "Research software, not a medical device.",
)
case_app = typer.Typer(no_args_is_help=True, help="Look at one case, or answer for its reader.")
app.add_typer(case_app, name="case")
rules_app = typer.Typer(no_args_is_help=True, help="Which series of a study are segmented.")
app.add_typer(rules_app, name="rules")

export_app = typer.Typer(no_args_is_help=True, help="Take something out of the installation.")
app.add_typer(export_app, name="export")

preference_app = typer.Typer(no_args_is_help=True, help="What readers are remembered to prefer.")
app.add_typer(preference_app, name="preference")
app.command()(report)
case_app.command()(measurements)
app.add_typer(console_app, name="console")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
LesionOption = Annotated[
    list[str] | None, typer.Option("--lesion", help="Take a lesion from another candidate: 2=1, repeatable.")
]
CaseArgument = Annotated[int, typer.Argument(help="Number of the case, see `uair cases`.")]


def main() -> None:
    """Run the command line; our own errors end with their sentence and mend, not with a traceback."""
    for entry in entry_points(group="uair.commands"):
        entry.load()(app)
    try:
        app()
    except UairError as error:
        Console(stderr=True).print(f"[red]{error.code}[/]: {error.sentence} {error.mend}", highlight=False)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command()
def up(config: ConfigOption = None, verbose: bool = False) -> None:
    """Run everything on this machine: node, GPU worker and IO worker, no broker server (embedded mode)."""
    settings = load_settings(config)
    set_up_logging(verbose=verbose, form=settings.logs.format)
    clear_embedded_messages(settings)
    context = open_context(settings, migrate=True)
    workers = Workers(config, ["gpu", "io"])
    workers.start()
    try:
        _run_node(context, tend=workers.tend)
    finally:
        workers.stop()


@app.command()
def node(config: ConfigOption = None, verbose: bool = False) -> None:
    """Run the DICOM node alone; workers run elsewhere with `uair worker`."""
    settings = load_settings(config)
    set_up_logging(verbose=verbose, form=settings.logs.format)
    _run_node(open_context(settings, migrate=True))


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, database, broker, disk, model, TLS and peers; each finding has a mend.

    Ends with 0 when all is well, 1 when there is a fault, 2 when the configuration cannot be used.
    """
    set_up_logging(quiet=True)
    findings, status = checked(config)
    if as_json:
        _print_json([finding.record() for finding in findings])
    else:
        _print_findings(findings)
    raise typer.Exit(status)


@app.command()
def conformance(config: ConfigOption = None) -> None:
    """Print the DICOM conformance statement of this configuration, as Markdown."""
    sys.stdout.write(conformance_statement(load_settings(config)))


@app.command()
def tidy(
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what `retention` no longer keeps; never what waits for a reader or is not delivered."""
    removed = tidy_up(_context(config), dry_run=dry_run)
    if as_json:
        _print_json([vars(one) for one in removed])
        return
    table = Table("what", "case", "state", "files", "MB", title="would be deleted" if dry_run else "deleted")
    for one in removed:
        table.add_row(one.what, str(one.case or ""), one.state, str(one.files), f"{one.bytes / 1e6:.1f}")
    console.print(table)


@export_app.command("case")
def export_one(
    case_id: CaseArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip file.")],
    config: ConfigOption = None,
) -> None:
    """Write a case as a zip for support: de-identified slices, segmentations, label volumes, history."""
    files = export_case(_context(config), case_id, output, actor="command line")
    console.print(f"Case {case_id}: {files} files in {output}, without names, numbers, dates or UIDs.")


@rules_app.command("try")
def try_rules(folder: Path, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which series of the studies in a folder would be segmented, and why; nothing is sent or stored."""
    trials = try_folder(folder, load_settings(config))
    if as_json:
        _print_json([vars(trial) for trial in trials])
        return
    table = Table("", "series", "description", "slices", "score", "why", title="uair rules try")
    for one in trials:
        run = "[green]run[/]" if one.runs else "[red]no[/]"
        code = f"{one.code}: " if one.code else ""
        number = "" if one.series_number is None else str(one.series_number)
        table.add_row(run, number, escape(one.description), str(one.slices), f"{one.score:g}", code + one.why)
    console.print(table)


@app.command()
def cases(
    config: ConfigOption = None,
    state: Annotated[CaseState | None, typer.Option(case_sensitive=False, help="Only this state.")] = None,
    search: Annotated[str, typer.Option(help="Accession number, UID, or the end of a UID.")] = "",
    limit: int = 50,
    as_json: JsonOption = False,
) -> None:
    """List cases, newest first, with the reason for each that was not segmented."""
    with _context(config).database.reading() as session:
        found = reports.find_cases(session, state=state or "", search=search, limit=limit)
        rows = [reports.summarize(case) for case in found]
    if as_json:
        _print_json(rows)
        return
    table = Table("case", "state", "round", "slices", "accession", "series", "why")
    for row in rows:
        why = f"{row['code']}: {row['sentence']} {row['mend']}" if row["code"] else ""
        table.add_row(
            str(row["case"]),
            row["state"],
            str(row["round"] or ""),
            str(row["slices"]),
            row["accession_number"],
            f"…{row['series_instance_uid'][-12:]}",
            why,
        )
    console.print(table)


@case_app.command()
def show(case_id: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a case: rounds, candidates, deliveries, selections, history."""
    with _context(config).database.reading() as session:
        found = reports.detail(session, reports.get_case(session, case_id))
    if as_json:
        _print_json(found)
    else:
        _print_case(found)


@case_app.command()
def retry(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Take a FAILED case up again where it stood."""
    with _context(config).database.transaction() as session:
        lifecycle.retry(session, lock_case(session, case_id), actor="command line")
    console.print(f"Case {case_id} is due again.")


@case_app.command()
def cancel(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Drop what is computed for a case; it is FAILED then and can be retried."""
    with _context(config).database.transaction() as session:
        lifecycle.cancel(session, lock_case(session, case_id), actor="command line")
    console.print(f"Case {case_id} is cancelled.")


@case_app.command()
def expire(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Close a case that nobody answers, or that failed, for good."""
    with _context(config).database.transaction() as session:
        case = lock_case(session, case_id)
        lifecycle.expire(session, case, actor="command line", reason="closed by hand")
    console.print(f"Case {case_id} is expired.")


@case_app.command("resend")
def send_again(
    case_id: CaseArgument,
    destination: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    everything: Annotated[bool, typer.Option("--all", help="What was confirmed, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Send again what a destination did not confirm."""
    with _context(config).database.transaction() as session:
        number = resend(session, lock_case(session, case_id), destination, everything=everything)
    console.print(f"{number} objects of case {case_id} are due again at {destination}.")


@case_app.command()
def pick(case_id: CaseArgument, k: int, lesion: LesionOption = None, config: ConfigOption = None) -> None:
    """Pick candidate K of the open round; the next round starts from it."""
    _answer(config, case_id, Verb.PICK, Answer(k, _per_lesion(k, lesion)))


@case_app.command()
def accept(case_id: CaseArgument, k: int, lesion: LesionOption = None, config: ConfigOption = None) -> None:
    """Accept candidate K of the open round; the case ends with it."""
    _answer(config, case_id, Verb.ACCEPT, Answer(k, _per_lesion(k, lesion)))


@case_app.command()
def reject(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Say that none of the four fits; the next round looks elsewhere."""
    _answer(config, case_id, Verb.REJECT, Answer(None))


@preference_app.command("show")
def show_preference(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what is remembered, in mm of radius beyond the model's own mean; positive is more inclusive."""
    with _context(config).database.reading() as session:
        found = preference.listed(session)
    if as_json:
        _print_json(found)
        return
    table = Table("of", "AE title", "cases", "liver mm", "lesions mm")
    for one in found:
        sizes = (f"{one['liver_mm']:+.1f}", f"{one['lesion_mm']:+.1f}")
        table.add_row(one["scope"], one["key"], str(one["cases"]), *sizes)
    console.print(table)


@preference_app.command()
def reset(
    ae_title: Annotated[str | None, typer.Argument(help="Whose memory; without it, everybody's.")] = None,
    config: ConfigOption = None,
) -> None:
    """Forget what is remembered; rounds that were computed with it keep their record of it."""
    with _context(config).database.transaction() as session:
        cases = preference.forget(session, ae_title)
    console.print(f"Forgotten: what {cases} cases told.")


def _context(config: Path | None) -> Context:
    set_up_logging(quiet=True)
    return open_context(load_settings(config))


def _per_lesion(k: int, texts: list[str] | None) -> dict[int, int]:
    """Read ``2=1`` as label value -> candidate."""
    found = {}
    for text in texts or ():
        numbers = re.fullmatch(r"(\d+)=(\d+)", text)
        if numbers is None:
            raise InputError(
                "lesion-syntax",
                f"'{text}' does not say which lesion to take from which candidate.",
                "Write --lesion 2=1 for lesion 2 of candidate 1.",
            )
        found[LIVER + int(numbers[1])] = int(numbers[2])
    return {value: other for value, other in found.items() if other != k}


def _answer(config: Path | None, case_id: int, verb: Verb, answer: Answer) -> None:
    with _context(config).database.transaction() as session:
        case = lock_case(session, case_id)
        row = select_by_number(session, Evidence(verb, "command-line"), case, answer)
        console.print(f"Case {case_id}, round {row.round_number}: {verb}, {answer.words} — now {case.state}.")


def _run_node(context: Context, tend: Any = lambda: None) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    node = Node(context)
    node.start()
    _announce(context.settings, node.port)
    while not stopping.wait(1.0):
        tend()
    node.stop()


def _announce(settings: Settings, port: int) -> None:
    titles = settings.node.ae_titles
    console.print(
        f"[bold]UAIR node {__version__}[/] listens on {settings.node.host}:{port}. "
        f"Series to [bold]{titles.store}[/], picks to [bold]{titles.pick}[/], "
        f"accepted to [bold]{titles.accept}[/], none fits: [bold]{titles.reject}[/]. "
        f"Data in {settings.data_dir}. Not a medical device.",
        highlight=False,
    )


_MARKS = {Level.OK: "[green]ok[/]", Level.WARNING: "[yellow]note[/]", Level.FAULT: "[red]no[/]"}


def _print_findings(findings: list[Finding]) -> None:
    # The code is what documents and searches go by: a narrow terminal must not cut it off.
    code = Column("code", no_wrap=True)
    what, finding, mend = (Column(name, overflow="fold") for name in ("what", "finding", "mend"))
    table = Table("", what, finding, code, mend, title="uair check")
    for one in findings:
        table.add_row(_MARKS[one.level], one.what, escape(one.sentence), one.code, escape(one.mend))
    console.print(table)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _print_case(found: dict[str, Any]) -> None:
    console.print(
        f"[bold]Case {found['case']}[/] {found['state']}, {found['slices']} slices", highlight=False
    )
    if found["code"]:
        console.print(f"[yellow]{found['code']}[/]: {found['sentence']} {found['mend']}", highlight=False)
    for warning in found["warnings"]:
        console.print(f"[yellow]warning[/]: {escape(warning)}", highlight=False)
    for one in found["rounds"]:
        table = Table("k", "what", "liver ml", "lesions ml", "delivered", title=f"round {one['round']}")
        for result in one["results"]:
            volumes = result["volumes_ml"]
            table.add_row(
                str(result["k"]),
                result["trait"] if result["kind"] == "candidate" else result["kind"],
                f"{volumes['liver']:.0f}" if volumes else "",
                ", ".join(f"{ml:.1f}" for ml in volumes.get("lesions", [])),
                ", ".join(f"{d['destination']}: {d['state']} {d['reason']}" for d in result["deliveries"]),
            )
        console.print(table)
    history = Table("at", "state", "by", "why", title="history")
    for step in found["history"]:
        history.add_row(step["at"], step["to"], step["actor"], step["reason"])
    console.print(history)
    if found["own_objects_returned"]:
        console.print(
            f"{found['own_objects_returned']} of our own objects were sent back: they start nothing"
        )
    for one in found["selections"]:
        if one["code"]:
            console.print(f"refused {one['verb']} at {one['at']}: {one['code']}: {one['sentence']}")
        elif one["sentence"]:
            console.print(f"{one['outcome']} {one['verb']} at {one['at']}: {one['sentence']}")


if __name__ == "__main__":
    main()
