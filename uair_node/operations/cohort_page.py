"""Write the page of a cohort as one HTML file that includes its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dicom_config import codes
from uair_node.operations.cohort import Cohort

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 64em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: .25em .8em; text-align: right; }
th { border-bottom: 2px solid #888; } td { border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
.note { color: #555; }
"""
_BLUE = "#0072b2"


def cohort_page(cohort: Cohort) -> str:
    """Return the page as HTML. The same cohort always gives the same page."""
    title = f"UAIR cohort, {cohort.first} to {cohort.last}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(codes.DISCLAIMER)}.</p>',
        _summary(cohort),
    ]
    if cohort.cases:
        parts += ["<h2>Sizes and effort</h2>", _pictures(cohort)]
        parts += ["<h2>Lesions</h2>", _lesions(cohort)]
        parts += ["<h2>What readers took</h2>", _table(["kind", "answers"], cohort.kinds)]
        parts += ["<h2>Readers</h2>", _readers(cohort), _agreement(cohort)]
        parts += ["<h2>Cases</h2>", _cases(cohort)]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _summary(cohort: Cohort) -> str:
    cases = cohort.cases
    if not cases:
        return "<p>No case was accepted in this period.</p>"
    with_lesions = [case for case in cases if case.lesions]
    rows = [
        ("accepted cases", str(len(cases))),
        ("with lesions", str(len(with_lesions))),
        ("liver, median", _number([case.liver_ml for case in cases], "ml", 0)),
        (
            "all lesions of a case with lesions, median",
            _number([c.lesions_ml for c in with_lesions], "ml", 1),
        ),
        ("rounds, median", _number([case.rounds for case in cases], "", 1)),
        ("answers, median", _number([case.picks for case in cases], "", 1)),
        ("time to accept, median", _number([60 * case.hours_to_accept for case in cases], "min", 1)),
    ]
    return _table(["", ""], rows)


def _number(values: Sequence[float | None], unit: str, decimals: int) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):.{decimals}f} {unit}".strip() if known else "not measured"


def _lesions(cohort: Cohort) -> str:
    """Return the table with the recall of round 1 and the false findings, as HTML."""
    counted = [case for case in cohort.cases if case.seen is not None]
    if not counted:
        return "<p>No case has known findings.</p>"
    seen = cohort.seen
    recall = "no lesion was accepted" if seen.recall is None else f"{100 * seen.recall:.0f} %"
    rows = [
        ("cases with known findings", str(len(counted))),
        ("accepted lesions", str(seen.accepted)),
        ("accepted lesions that round 1 offered (recall)", f"{seen.found} ({recall})"),
        ("added by a mark", str(seen.marked)),
        ("added by an edit", str(seen.drawn)),
        ("lesions of candidate 1 in round 1 that were not accepted (false findings)", str(seen.dropped)),
        ("false findings per case", f"{seen.dropped / len(counted):.1f}"),
    ]
    return _table(["", ""], rows)


def _pictures(cohort: Cohort) -> str:
    cases = cohort.cases
    figure = Figure(figsize=(10.5, 3.0), layout="constrained")
    plots: Sequence[Axes] = figure.subplots(1, 4)
    _histogram(plots[0], [case.liver_ml for case in cases], "liver, ml")
    _histogram(plots[1], [case.lesions_ml for case in cases if case.lesions], "lesions together, ml")
    _bars(plots[2], [case.rounds for case in cases], "rounds")
    _histogram(plots[3], [60 * case.hours_to_accept for case in cases], "minutes to accept")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _histogram(axes: Axes, values: Sequence[float | None], title: str) -> None:
    known = [value for value in values if value is not None]
    if known:
        axes.hist(known, bins="auto" if len(known) > 3 else 3, color=_BLUE, edgecolor="white")
    _plain(axes, title)


def _bars(axes: Axes, values: Sequence[int], title: str) -> None:
    numbers = range(1, max(values) + 1)
    axes.bar(list(numbers), [values.count(number) for number in numbers], color=_BLUE)
    axes.set_xticks(list(numbers))
    _plain(axes, title)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _readers(cohort: Cohort) -> str:
    names = sorted({case.reader for case in cohort.cases})
    rows = []
    for name in names:
        cases = [case for case in cohort.cases if case.reader == name]
        minutes = median(60 * case.hours_to_accept for case in cases)
        rounds = median(case.rounds for case in cases)
        rows.append((name or "unknown", str(len(cases)), f"{rounds:.1f}", f"{minutes:.1f}"))
    return _table(["AE title", "cases", "rounds, median", "minutes, median"], rows)


def _agreement(cohort: Cohort) -> str:
    found = cohort.agreement
    said = []
    if found.asked:
        said.append(
            f"Several AE titles answered {found.asked} rounds. They all named the same candidate in "
            f"{found.same_pick} of them."
        )
    if found.liver_dice:
        said.append(
            f"{len(found.liver_dice)} pairs of accepted segmentations of the same series. Median Dice of the "
            f"liver: {median(found.liver_dice):.3f}. Median Dice of the lesions: "
            f"{median(found.lesion_dice):.3f}."
        )
    return f"<p>{' '.join(said) or 'No case was answered by more than one AE title.'}</p>"


def _cases(cohort: Cohort) -> str:
    rows = [
        (
            str(case.case),
            f"{case.accepted_at:%Y-%m-%d %H:%M}",
            case.reader,
            str(case.rounds),
            "" if case.liver_ml is None else f"{case.liver_ml:.0f}",
            "" if case.lesions is None else str(case.lesions),
            "" if case.lesions_ml is None else f"{case.lesions_ml:.1f}",
            case.response,
            *case.identity.values(),
        )
        for case in cohort.cases
    ]
    titles = ["case", "accepted (UTC)", "reader", "rounds", "liver ml", "lesions", "lesions ml", "response"]
    more = [name.replace("_", " ") for name in (cohort.cases[0].identity if cohort.cases else ())]
    return _table([*titles, *more], rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    heading = f"<thead><tr>{head}</tr></thead>" if any(titles) else ""
    return f"<table>{heading}<tbody>{body}</tbody></table>"
