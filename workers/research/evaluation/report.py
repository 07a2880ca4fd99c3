"""Format the tables as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.console import Console

from uair_node.commands.tables import COLUMN_GAP, Row, print_rows
from workers.research.evaluation import table
from workers.research.evaluation.detection import HIT_IOU, LARGE_MM, Detection, summed
from workers.research.evaluation.fixed_preferences import REACHED_DICE
from workers.research.evaluation.intervals import Estimate
from workers.research.evaluation.results import CaseResult
from workers.research.evaluation.workbench import RULES

DISCLAIMER = "Research software, not a medical device."


@dataclass(frozen=True)
class Header:
    """The data, models and versions of an evaluation.

    Attributes
    ----------
    data
        The evaluated data, in words.
    cases
        Number of cases.
    skipped
        Name of each case that could not be used, and the reason.
    seed, members, model, localizer, digest
        Seed of the evaluation, number of members (N of equation 1), names of model and localizer, and SHA-256
        of the weights of both.
    baselines
        SHA-256 of the weights of U-Net and TransUNet. A network without weights on this machine is left out.
    version, date
        Version of the software, and date of the evaluation (ISO 8601).
    """

    data: str
    cases: int
    skipped: tuple[tuple[str, str], ...]
    seed: int
    members: int
    model: str
    localizer: str
    digest: str
    baselines: Mapping[str, str]
    version: str
    date: str

    def lines(self) -> list[str]:
        """Return the header as sentences."""
        told = [
            f"{self.data}: {self.cases} cases, seed {self.seed}, {self.date}; N = {self.members}, "
            f"model {self.model} with localizer {self.localizer} {self.digest[:12]}, version {self.version}. "
            f"{DISCLAIMER}"
        ]
        networks = [f"{table.TITLES[name]} {digest[:12]}" for name, digest in self.baselines.items()]
        if networks:
            told.append(f"{' and '.join(networks)}: trained on the same phantoms.")
        absent = [table.TITLES[name] for name in ("unet", "transunet") if name not in self.baselines]
        if absent:
            told.append(f"Without {' and '.join(absent)}: see --baselines and the extra `evaluate`.")
        return told + [f"Skipped {name}: {reason}" for name, reason in self.skipped]


@dataclass(frozen=True)
class Grid:
    """A table without layout: a title, the names of columns, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def print(self, console: Console) -> None:
        """Print the table. Cells of columns that do not fit in the terminal are printed below their row."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        ends = accumulate(width + len(COLUMN_GAP) for width in widths)
        fitting = max(1, sum(end - len(COLUMN_GAP) <= console.width for end in ends))
        rows = [
            Row(
                row[:fitting],
                ", ".join(
                    f"{name}: {cell}"
                    for name, cell in zip(self.columns[fitting:], row[fitting:], strict=True)
                    if cell
                ),
            )
            for row in self.rows
        ]
        print_rows(console, self.columns[:fitting], rows, title=self.title)
        console.print()

    def markdown(self) -> str:
        """Return the table as Markdown."""
        head = f"| {' | '.join(self.columns)} |"
        rule = "|" + "|".join("---" if n < 2 else "---:" for n in range(len(self.columns))) + "|"
        lines = [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", head, rule, *lines])


def grids(results: Sequence[CaseResult]) -> list[Grid]:
    """Return all tables of an evaluation. Tables without rows are left out."""
    readers = dict.fromkeys(measure.method.reader for result in results for measure in result.measures)
    found = [_methods(results, reader) for reader in readers]
    found += [
        _differences(results),
        _rule_differences(results),
        _offers(results),
        _preferences(results),
        _strokes(results),
        _detection(results),
    ]
    return [grid for grid in found if grid.rows]


def _methods(results: Sequence[CaseResult], reader: str) -> Grid:
    rows = tuple(
        (
            row.target,
            table.TITLES[row.method.name],
            row.method.rule or "",
            str(row.n),
            _interval(row.dsc),
            f"{row.jaccard.mean:.3f}",
            _number(row.average_surface_mm),
            _number(row.hd95_mm),
            f"{row.seconds:.1f}",
            f"{row.picks:.1f}",
            "yes" if row.automatic else "",
            "yes" if row.interactable else "",
            f"{row.interactive_s:.0f}" if row.interactable else "",
        )
        for row in table.rows(results, reader)
    )
    columns = (
        "target",
        "method",
        "rule",
        "n",
        "DSC [95 % CI]",
        "Jaccard",
        "ASSD mm",
        "HD95 mm",
        "s",
        "picks",
        "automatic",
        "interactable",
        "reader s",
    )
    titles = {
        "best": "Methods; the reader picks the best by Dice",
        "noisy": "Methods; in 3 of 10 picks, the reader takes the second best",
        "whole": "Methods; the reader picks one candidate for all targets",
        "parts": "Methods; the reader answers for each part of a target, too",
        "measuring": "Methods; the reader measures each lesion that round 1 missed, and then picks",
    }
    return Grid(titles[reader], columns, rows)


def _differences(results: Sequence[CaseResult]) -> Grid:
    rows = tuple(
        (
            difference.target,
            f"last round - {difference.other}",
            difference.rule,
            str(difference.n),
            _interval(difference.dsc, sign=True),
        )
        for difference in table.differences(results)
    )
    return Grid("Paired differences of DSC", ("target", "difference", "rule", "n", "DSC [95 % CI]"), rows)


def _rule_differences(results: Sequence[CaseResult]) -> Grid:
    rows = tuple(
        (
            difference.target,
            table.TITLES[difference.method.name],
            difference.method.reader,
            f"- {difference.other}",
            str(difference.n),
            _interval(difference.dsc, sign=True),
        )
        for difference in table.rule_differences(results)
    )
    columns = ("target", "round", "reader", "less rule", "n", "DSC [95 % CI]")
    return Grid(f"Paired differences of DSC: rule {RULES[0]} less other rules", columns, rows)


def _offers(results: Sequence[CaseResult]) -> Grid:
    rows = tuple(
        (
            table.TITLES[row.method.name],
            row.method.rule or "",
            str(row.n),
            f"{row.between:.2f}",
            f"{row.entropy:.2f}",
            f"{row.covered:.2f}",
            f"{row.precise:.2f}",
            f"{row.corrected:.3f}",
        )
        for row in table.offers(results)
    )
    columns = (
        "round",
        "rule",
        "n",
        "Dice between candidates",
        "picks, bits",
        "error in M_unc",
        "M_unc that is error",
        "DSC, M_unc corrected",
    )
    return Grid(
        "Single lesions from given boxes: the candidates and the uncertain region of a round", columns, rows
    )


def _preferences(results: Sequence[CaseResult]) -> Grid:
    rows = tuple(
        (
            preference.preference,
            "learned" if preference.prior else "none",
            str(preference.n),
            _interval(preference.rounds, digits=2),
            f"{preference.reached:.2f}",
            f"{preference.first:.3f}",
            f"{preference.last:.3f}",
        )
        for preference in table.preferences(results)
    )
    reached = f"DSC >= {REACHED_DICE}"
    columns = ("preference", "prior", "n", "rounds [95 % CI]", reached, "round 1", "at the end")
    return Grid(
        "Readers of a fixed preference: rounds until it is reached; DSC with the wanted shape", columns, rows
    )


def _strokes(results: Sequence[CaseResult]) -> Grid:
    row = table.strokes(results)
    rows = []
    if row is not None:
        counts = map(str, (row.cases, row.lesions, row.missed, row.refused))
        rows.append((*counts, f"{row.lines:.1f}", f"{row.boxes:.1f}", f"{row.lines / row.boxes:.3f}"))
    columns = (
        "cases",
        "lesions",
        "missed",
        "lines refused",
        "lines, median",
        "tight boxes, median",
        "lines / boxes",
    )
    return Grid("Lines of the measuring reader per case", columns, tuple(rows))


def _detection(results: Sequence[CaseResult]) -> Grid:
    rows = []
    for name, found in detections(results):
        recall = [f"{hit}/{of}" for hit, of in found.recall.values()]
        rows.append((name, *recall, f"{found.false_positives:.1f}", _number(found.large_recall_at_two, 2)))
    classes = [f"{name} mm" for name in detections(results)[0][1].recall]
    columns = ("lesions found", *classes, "false a case", f">= {LARGE_MM:.0f} mm at 2 false a case")
    return Grid(f"Detection, a hit is IoU >= {HIT_IOU}", columns, tuple(rows))


def detections(results: Sequence[CaseResult]) -> list[tuple[str, Detection]]:
    """Return the lesion detection of round 1 and of the last round, each with a title."""
    return [
        ("round 1, all offered", summed([result.first for result in results])),
        ("last round, as read", summed([result.last for result in results])),
    ]


def as_markdown(header: Header, results: Sequence[CaseResult]) -> str:
    """Return header, tables and notes as Markdown."""
    parts = [" ".join(header.lines()), *(grid.markdown() for grid in grids(results)), NOTES]
    return "\n\n".join(parts) + "\n"


NOTES = (
    "Intervals: percentile bootstrap over cases, 2000 resamples. *liver* and *tumour* (union of a case's "
    "lesions) are fully automatic but for *manual*. *lesion* is about single lesions: *auto* and all that "
    "follows start from a jittered true 3-D box, without the finder. *found*: the lesions "
    "that the engine offered by itself, with tight boxes. *missed*: the other lesions of 10 mm and more. "
    "Seconds are computing time up to the result; picks count candidates picked and lines drawn, for "
    "*manual* boxes drawn. Reader s: 14 s a pick (from the paper's Table 1), 4 s a box (assumed). "
    "ASSD and HD95: for lesions with a result that is not empty."
)


def _interval(value: Estimate, *, digits: int = 3, sign: bool = False) -> str:
    form = f"{'+' if sign else ''}.{digits}f"
    if value.low is None or value.high is None:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
