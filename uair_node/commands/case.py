"""`uair case`: show a case, control its work, or answer in place of its reader."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases import lifecycle
from uair_node.cases.lock import lock_case
from uair_node.cases.reader_choice import LIVER, ReaderChoice, target_name
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import CaseArgument, JsonOption, console, context_of, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.delivery.resend import resend
from uair_node.findings.record import as_csv
from uair_node.operations import reports
from uair_node.operations.case_findings import findings_of
from uair_node.selection.changed_findings import (
    Changes,
    OnImage,
    offered_findings,
    understand_changes,
)
from uair_node.selection.service import Evidence, select_by_number

LesionOption = Annotated[
    list[str] | None, typer.Option("--lesion", help="2=1 takes lesion 2 from candidate 1. Repeatable.")
]
PartOption = Annotated[
    list[str] | None,
    typer.Option("--part", help="2:upper=1 takes the upper part of lesion 2 from candidate 1. Repeatable."),
]
DropOption = Annotated[
    list[int] | None,
    typer.Option("--drop", help="Drop the finding with this number, because it is no lesion. Repeatable."),
]
RoundOption = Annotated[
    int | None, typer.Option("--round", help="The round of candidate K. Default: the newest round.")
]
case_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show a case, or answer in place of its reader."
)


@case_app.command()
def measurements(case_id: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the measurements of an accepted case as CSV: the numbers of its SR, with their intervals."""
    found = findings_of(context_of(config), case_id)
    if as_json:
        print_json(found.as_json())
    else:
        sys.stdout.write(as_csv(found))


@case_app.command()
def show(case_id: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a case: rounds, candidates, deliveries, selections, history."""
    with context_of(config).database.reading() as session:
        found = reports.detail(session, reports.get_case(session, case_id))
    if as_json:
        print_json(found)
    else:
        _print_case(found)


@case_app.command()
def retry(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Continue a FAILED case from the step at which it failed."""
    with context_of(config).database.transaction() as session:
        lifecycle.retry(session, lock_case(session, case_id), actor="command line")
    console.print(f"Case {case_id} continues.")


@case_app.command()
def cancel(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Stop the computation of a case. The case becomes FAILED and can be retried."""
    with context_of(config).database.transaction() as session:
        lifecycle.cancel(session, lock_case(session, case_id), actor="command line")
    console.print(f"Case {case_id} is cancelled.")


@case_app.command()
def expire(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Permanently close a case that failed or has no answer."""
    with context_of(config).database.transaction() as session:
        case = lock_case(session, case_id)
        lifecycle.expire(session, case, actor="command line", reason="closed by hand")
    console.print(f"Case {case_id} is expired.")


@case_app.command("resend")
def send_again(
    case_id: CaseArgument,
    destination: Annotated[str, typer.Argument(help="Name of the destination in the configuration.")],
    everything: Annotated[bool, typer.Option("--all", help="Send confirmed objects again, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Send again the objects that a destination did not confirm."""
    with context_of(config).database.transaction() as session:
        number = resend(session, lock_case(session, case_id), destination, everything=everything)
    console.print(f"{number} objects of case {case_id} will be sent to {destination} again.")


@case_app.command()
def pick(
    case_id: CaseArgument,
    k: int,
    lesion: LesionOption = None,
    part: PartOption = None,
    drop: DropOption = None,
    of_round: RoundOption = None,
    config: ConfigOption = None,
) -> None:
    """Pick candidate K of the open round; the next round starts from it."""
    _answer(config, case_id, Verb.PICK, _choice(k, lesion, part), _without(drop), of_round)


@case_app.command()
def accept(
    case_id: CaseArgument,
    k: int,
    lesion: LesionOption = None,
    part: PartOption = None,
    drop: DropOption = None,
    of_round: RoundOption = None,
    config: ConfigOption = None,
) -> None:
    """Accept candidate K of the open round; the case ends with it."""
    _answer(config, case_id, Verb.ACCEPT, _choice(k, lesion, part), _without(drop), of_round)


@case_app.command()
def reject(case_id: CaseArgument, config: ConfigOption = None) -> None:
    """Reject all four candidates of the open round. The next round offers different ones."""
    _answer(config, case_id, Verb.REJECT, ReaderChoice(None))


@case_app.command()
def mark(
    case_id: CaseArgument,
    drop: DropOption = None,
    keep: Annotated[
        list[int] | None, typer.Option("--keep", help="Keep this lesion in all four candidates. Repeatable.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="Add a missing lesion at IMAGE,COLUMN,ROW or IMAGE,COLUMN,ROW,MM."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Drop, keep or add findings of the open round without a pick.

    Other findings stay unchanged.
    """
    changes = Changes(tuple(drop or ()), tuple(keep or ()), tuple(_place(text) for text in add or ()))
    _answer(config, case_id, Verb.PICK, None, changes)


def _without(drop: list[int] | None) -> Changes | None:
    return Changes(dropped=tuple(drop)) if drop else None


def _place(text: str) -> OnImage:
    """Parse ``57,210,180,23``: image number, 0-based column and row of a pixel, diameter in mm."""
    parts = text.split(",")
    if len(parts) not in (3, 4) or not all(re.fullmatch(r"\d{1,5}(\.\d+)?", part.strip()) for part in parts):
        raise InputError(
            "place-syntax",
            f"'{text}' does not say where a lesion is.",
            "Write --add 57,210,180 for column 210, row 180 of image 57; a fourth number is its size in mm.",
        )
    image, column, row, *size_mm = map(float, parts)
    return OnImage(int(image), column + 0.5, row + 0.5, *size_mm)


def _choice(k: int, lesions: list[str] | None, parts: list[str] | None) -> ReaderChoice:
    return ReaderChoice(k, _per_lesion(k, lesions), _per_part(parts))


def _per_part(texts: list[str] | None) -> dict[tuple[int, str], int]:
    """Parse texts such as ``2:upper=1`` or ``liver:upper=1``. Return (label value, part) -> candidate."""
    found = {}
    for text in texts or ():
        said = re.fullmatch(r"(liver|\d{1,3}):([a-z]+)=(\d)", text)
        if said is None:
            raise InputError(
                "part-syntax",
                f"'{text}' does not say which part to take from which candidate.",
                "Write --part 2:upper=1 for the upper part of lesion 2 of candidate 1.",
            )
        value = LIVER if said[1] == "liver" else LIVER + int(said[1])
        found[value, said[2]] = int(said[3])
    return found


def _per_lesion(k: int, texts: list[str] | None) -> dict[int, int]:
    """Parse texts such as ``2=1`` (lesion 2 from candidate 1). Return label value -> candidate."""
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


def _answer(
    config: Path | None,
    case_id: int,
    verb: Verb,
    answer: ReaderChoice | None,
    changes: Changes | None = None,
    of_round: int | None = None,
) -> None:
    context, evidence, marked = context_of(config), Evidence(verb, "command-line"), None
    if changes is not None and of_round is not None:
        sentence = "A finding can be dropped only from candidates of the newest round."
        raise InputError("mark-older-round", sentence, "Leave out --round or --drop.")
    if changes is not None:
        with context.database.reading() as session:
            findings = offered_findings(reports.get_case(session, case_id))
        marked = understand_changes(context, findings, changes, verb, answer)
    with context.database.transaction() as session:
        case = lock_case(session, case_id)
        row = select_by_number(session, evidence, case, answer, marked, of_round=of_round)
        said = " ".join(filter(None, [f"{verb}, {row.words}.", row.sentence]))
        console.print(f"Case {case_id}, round {row.round_number}: {said} Now {case.state}.")


def _result_row(result: dict[str, Any]) -> Row:
    volumes = result["volumes_ml"]
    what = result["character"] if result["kind"] == "candidate" else result["kind"]
    lesions = ", ".join(f"{ml:.1f}" for ml in volumes.get("lesions", []))
    notes = [f"lesions {lesions} ml"] if lesions else []
    notes += [f"{d['destination']}: {d['state']} {d['reason']}".rstrip() for d in result["deliveries"]]
    return Row((str(result["k"]), what, f"{volumes['liver']:.0f}" if volumes else ""), "; ".join(notes))


def _print_case(found: dict[str, Any]) -> None:
    held = ", ".join(filter(None, [f"{found['slices']} slices", found["acquisition"]]))
    console.print(f"[bold]Case {found['case']}[/] {found['state']}, {held}", highlight=False)
    if found["code"]:
        console.print(f"[yellow]{found['code']}[/]: {found['sentence']} {found['remedy']}", highlight=False)
    for warning in found["warnings"]:
        console.print(f"[yellow]warning[/]: {escape(warning)}", highlight=False)
    for round_ in found["rounds"]:
        results = map(_result_row, round_["results"])
        print_rows(console, ("k", "what", "liver ml"), results, title=f"round {round_['round']}")
        for value, names in round_["parts"].items():
            console.print(f"parts of {target_name(int(value))}: {', '.join(names)}", highlight=False)
    steps = [Row((step["at"], step["to"], step["actor"]), step["reason"]) for step in found["history"]]
    print_rows(console, ("at", "state", "by"), steps, title="history")
    if found["own_objects_returned"]:
        console.print(
            f"A peer sent {found['own_objects_returned']} results of this node back. They start no work."
        )
    for selection in found["selections"]:
        if selection["code"]:
            console.print(
                f"refused {selection['verb']} at {selection['at']}: "
                f"{selection['code']}: {selection['sentence']}"
            )
        elif selection["sentence"]:
            console.print(
                f"{selection['outcome']} {selection['verb']} at {selection['at']}: {selection['sentence']}"
            )
