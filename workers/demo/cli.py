"""The command `uair demo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.prompt import IntPrompt

from uair_node.commands.tables import Row, print_rows

if TYPE_CHECKING:
    from workers.demo.reader import Offer

console = Console()


def phantom(
    folder: Annotated[Path, typer.Argument(help="The folder to write to. It is made if it does not exist.")],
    profile: Annotated[
        Literal["ct", "mr-t1"], typer.Option(help="Modality profile of the phantom, see docs/modalities.md.")
    ] = "ct",
) -> None:
    """Write a phantom as a CT or MR series, for a first try of an installation."""
    from workers.demo.series import phantom_input, write_mr_phantom

    paths = phantom_input(folder).paths if profile == "ct" else write_mr_phantom(folder)
    number = "DEMO1" if profile == "ct" else "DEMO2"
    console.print(f"{len(paths)} slices of the patient PHANTOM^DEMO, accession number {number}, in {folder}.")


def demo(
    ct: Annotated[Path | None, typer.Option(help="Folder with a CT series. Default: a phantom.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="True masks of the series: folder or zip of DICOM masks, SEG, or NIfTI."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for pictures and objects.")] = Path("demo-output"),
    rounds: Annotated[int, typer.Option(min=1, max=9)] = 3,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="If the truth is unknown, pick the first candidate instead of asking."),
    ] = False,
) -> None:
    """Show the whole loop between node and reader. Node, workers and a small archive are real processes.

    If the truth is known, then a simulated reader picks the candidate with the best Dice. Otherwise you are
    the reader and pick.
    """
    from workers.demo.reader import choose_best, choose_first
    from workers.demo.run import run_demo
    from workers.demo.series import folder_input, phantom_input

    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    with console.status("preparing the series"):
        source = folder_input(ct, masks) if ct else phantom_input(output / "phantom")
    choose = choose_best if source.truth is not None else choose_first if yes else _ask
    story = run_demo(source, output, choose, rounds, console)
    _print_rounds(story.rounds)
    for line in summary_lines(story.rounds, story.final):
        console.print(line, highlight=False)
    console.print(
        f"The demonstration took {story.seconds_total:.0f} s. Pictures, DICOM objects and summary.json are "
        f"in [bold]{output}[/]. Not a medical device."
    )


def _ask(number: int, offers: Sequence[Offer]) -> int:
    sheet = offers[0].path.parents[1] / f"round-{number}.png"
    console.print(f"Look at [bold]{sheet}[/], or open the candidates in a viewer:")
    for offer in offers:
        console.print(f"  {offer.k}: {offer.character}  {offer.path}", highlight=False)
    choices = [str(offer.k) for offer in offers]
    return IntPrompt.ask(f"Round {number}: which candidate", choices=choices, console=console)


def summary_lines(rounds: Sequence[dict[str, Any]], final: dict[str, Any]) -> list[str]:
    """Return sentences about the picks' gain in Dice; without a truth, about the size of the result."""
    count = f"{len(rounds)} pick{'s' if len(rounds) > 1 else ''}"
    if not any("gain" in round_ for round_ in rounds):
        volumes = final["volumes_ml"]
        lesions = f"{len(volumes['lesions'])} lesions of {sum(volumes['lesions']):.1f} ml"
        return [f"After {count} the liver has {volumes['liver']:.0f} ml, with {lesions}."]
    return [
        f"{count} brought the Dice of the {target} from "
        f"{_dice_of(rounds[0], target) - gains[0]:.3f} (mean of the first four) to "
        f"{_dice_of(rounds[-1], target):.3f}: {', '.join(f'{gain:+.3f}' for gain in gains)}."
        for target in ("lesions", "liver")
        for gains in ([round_["gain"][target] for round_ in rounds if target in round_["gain"]],)
        if len(gains) == len(rounds)
    ]


def _dice_of(round_: dict[str, Any], target: str) -> float:
    """Return the Dice of the reader's pick in a round."""
    picked = next(candidate for candidate in round_["candidates"] if candidate["k"] == round_["selected"])
    dice: float = picked["dice"][target]
    return dice


def _print_rounds(rounds: Sequence[dict[str, Any]]) -> None:
    heads = ("round", "k", "picked", "character", "liver ml", "Dice liver", "Dice lesions")
    rows = []
    for round_ in rounds:
        for candidate in round_["candidates"]:
            dice, volumes = candidate.get("dice", {}), candidate["volumes_ml"]
            cells = (
                str(round_["round"]),
                str(candidate["k"]),
                "*" if candidate["k"] == round_["selected"] else "",
                candidate["character"],
                f"{volumes['liver']:.0f}",
                f"{dice['liver']:.3f}" if "liver" in dice else "",
                f"{dice['lesions']:.3f}" if "lesions" in dice else "",
            )
            rows.append(Row(cells, f"lesions {', '.join(f'{ml:.1f}' for ml in volumes['lesions'])} ml"))
    print_rows(console, heads, rows)
