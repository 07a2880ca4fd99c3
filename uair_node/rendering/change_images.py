"""Draw the changes since earlier studies: each lesion before and now, and its course over all studies.

The earlier study was resampled to the grid of this study. So both panels of a lesion show the same place.
This module does not use DICOM and does not match lesions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_config import codes
from uair_node.findings.follow_up import (
    PARTIAL_RESPONSE,
    PROGRESSION,
    PROGRESSION_MM,
    Fate,
    FollowUp,
    Link,
)
from uair_node.findings.record import NOMINAL, Findings
from uair_node.rendering.drawing import FAINT, INK, PAPER, as_hex, draw_slice, note, outline, pixels, see_part

_DPI = 100
_MOST_LESIONS = 5
_HALF_MM = 38.0
_ON_OUTLINE_MM = 0.05
_NAME_HEIGHT = 0.09
"""Height of a name beside a curve, as a fraction of the largest value."""
_GONE, _ATTENTION = "#b0b0b0", "#ffb347"
_WIDTH, _PANEL, _GAP, _SIDE, _TITLE, _LINE, _CAPTION, _PLOT = 13.2, 2.3, 0.08, 0.55, 0.9, 0.22, 1.2, 3.1
_WORDS = {
    "CR": "complete response",
    "PR": "partial response",
    "SD": "stable disease",
    "PD": "progressive disease",
    "NE": "not evaluable, no lesion of 10 mm at baseline",
}


@dataclass(frozen=True, eq=False)
class ChangeScene:
    """The inputs of the picture, all on the canonical grid of this study.

    Parameters
    ----------
    hu, labels
        ``(Z, Y, X)`` of this study. Values are on the networks' scale, so that grey levels are comparable
        between the studies.
    earlier_hu, earlier_labels
        ``(Z, Y, X)`` of the earlier study.
    earlier_uids
        Lesion number of `earlier_labels` -> Tracking UID.
    spacing_mm
        ``(z, y, x)`` in mm.
    planes
        Name of each plane along axis 0 of this study.
    days
        Dates of acquisition of the earlier study and of this study.
    findings
        The findings of this study, with its `follow_up`.
    """

    hu: NDArray[Any]
    labels: NDArray[np.uint8]
    earlier_hu: NDArray[Any]
    earlier_labels: NDArray[np.uint8]
    earlier_uids: Mapping[int, str]
    spacing_mm: tuple[float, float, float]
    planes: tuple[str, ...]
    days: tuple[date, date]
    findings: Findings

    @property
    def follow_up(self) -> FollowUp:
        """The changes since the earlier study."""
        assert self.findings.follow_up is not None, "only what is compared has a picture of it"
        return self.findings.follow_up

    @property
    def numbers(self) -> dict[str, int]:
        """Tracking UID -> lesion number, for the lesions of this study."""
        return {lesion.tracking_uid: lesion.number for lesion in self.findings.lesions}


def draw_change(scene: ChangeScene) -> NDArray[np.uint8]:
    """Draw the picture of the changes.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns, 3)`` uint8, sRGB.
    """
    page = _Page(scene)
    page.title()
    page.lesions()
    page.courses()
    return pixels(page.figure, _DPI)


class _Page:
    def __init__(self, scene: ChangeScene) -> None:
        self._scene, self._accepted = scene, accepted_words(scene.follow_up)
        self._title_height = _TITLE + _LINE * len(self._accepted)
        self._height = self._title_height + 2 * (_PANEL + _GAP) + _CAPTION + _PLOT + 0.35
        self.figure = Figure(figsize=(_WIDTH, self._height), facecolor=PAPER)

    def title(self) -> None:
        then, now = self._scene.days
        change = self._scene.follow_up
        head = f"UAIR change: {then:%Y-%m-%d} to {now:%Y-%m-%d}, {change.days} days"
        self._text(0.15, 0.34, head, size=17, weight="bold")
        words = _WORDS[change.response]
        line = (
            f"Liver lesions by RECIST 1.1: {change.response}, {words}; by volume: {change.volume_response}."
        )
        self._text(0.15, 0.62, f"{line} {codes.DISCLAIMER}.", size=12, color=FAINT)
        colour = _ATTENTION if change.other_preference else FAINT
        for row, words in enumerate(self._accepted):
            self._text(0.15, 0.86 + _LINE * row, words, size=12, color=colour)

    def lesions(self) -> None:
        """Draw the lesions of `_most_telling`, as in the earlier study (above) and in this study (below)."""
        chosen = _most_telling(self._scene.follow_up)
        for row, (words, day) in enumerate(zip(("before", "now"), self._scene.days, strict=True)):
            middle = self._top(row) + _PANEL / 2
            self._text(0.2, middle, f"{words}: {day:%Y-%m-%d}", size=13, rotation=90, va="center")
        for column, link in enumerate(chosen):
            centre = self._centre(link)
            if centre is None:
                continue
            left = _SIDE + column * (_PANEL + _GAP)
            self._draw(left, 0, self._scene.earlier_hu, self._earlier_drawn(), centre, "same place as below")
            self._draw(left, 1, self._scene.hu, self._now_drawn(), centre, self._scene.planes[centre[0]])
            for line, text in enumerate([*self._caption(link), *self._drawn_as_then(link)]):
                y = self._top(2) + 0.14 + line * 0.2
                self._text(left + _PANEL / 2, y, text, size=10.5, ha="center", va="center")

    def courses(self) -> None:
        """Plot volumes of lesions and the sum of target diameters over all studies."""
        points = self._scene.follow_up.points
        days = [float(date2num(datetime.strptime(point.date, "%Y%m%d"))) for point in points]
        bottom, height, width = 0.62, _PLOT - 1.05, (_WIDTH - 2.2) / 2
        volumes = self._plot(0.75, bottom, width, height, "volume of each lesion, ml")
        ends: list[tuple[float, float, str, str]] = []
        for uid in dict.fromkeys(uid for point in points for uid in point.lesion_ml):
            seen = [n for n, point in enumerate(points) if uid in point.lesion_ml]
            # From the study before the lesion's first study (volume 0) to the study after its last study.
            shown = slice(max(0, seen[0] - 1), seen[-1] + 2)
            ml = [point.lesion_ml.get(uid, 0.0) for point in points][shown]
            number = self._scene.numbers.get(uid)
            colour = as_hex(codes.lesion_colour(number)) if number else _GONE
            volumes.plot(days[shown], ml, "o-", color=colour, linewidth=1.6, markersize=5)
            ends.append((ml[-1], days[shown][-1], str(number) if number else "gone", colour))
        _name_ends(volumes, ends)
        sums = self._plot(_WIDTH / 2 + 0.65, bottom, width, height, "sum of target long axes, mm")
        mm = [point.sum_mm for point in points]
        sums.plot(days, mm, "o-", color=INK, linewidth=1.8, markersize=5)
        nadir = min(mm[:-1])
        limits = (
            ((1 + PARTIAL_RESPONSE) * mm[0], "PR below: 30 % under baseline"),
            (
                max((1 + PROGRESSION) * nadir, nadir + PROGRESSION_MM),
                "PD above: 20 % and 5 mm over the smallest",
            ),
        )
        for value, words in limits:
            sums.axhline(value, color=FAINT, linestyle="--", linewidth=1)
            sums.annotate(
                words,
                (0.01, value),
                xycoords=("axes fraction", "data"),
                color=FAINT,
                fontsize=9,
                va="bottom",
                zorder=1,  # below a line that it may cross
            )
        for axes, top in ((volumes, None), (sums, max([*mm, *(value for value, _ in limits)]))):
            axes.set_ylim(0, None if top is None else 1.18 * max(top, 1.0))
            axes.margins(x=0.08)

    def _caption(self, link: Link) -> list[str]:
        number = self._scene.numbers.get(link.tracking_uid)
        target = ", target" if link.tracking_uid in self._scene.follow_up.targets else ""
        name = f"lesion {number}{target}" if number else f"lesion before{target}"
        if link.fate in (Fate.NEW, Fate.VANISHED):
            size = link.ml if link.fate == Fate.NEW else link.earlier_ml
            long = link.mm if link.fate == Fate.NEW else link.earlier_mm
            words = "new" if link.fate == Fate.NEW else "no longer seen"
            return [f"{name}: {words}", f"{size:.1f} ml, {long:.0f} mm"]
        if link.earlier_ml is None or link.volume_change is None:
            return [f"{name}: part of a split lesion", f"{link.ml:.1f} ml"]
        how = {Fate.SPLIT: " (split)", Fate.MERGED: " (merged)"}.get(link.fate, "")
        change = f"{100 * link.volume_change:+.0f} %"
        lines = [
            f"{name}{how}: {change}",
            f"{link.earlier_ml:.1f} to {link.ml:.1f} ml, {link.earlier_mm:.0f} to {link.mm:.0f} mm",
        ]
        found = link.volume_change_range
        if found is None:
            return lines
        interval = f"{100 * found[0]:+.0f} to {100 * found[1]:+.0f} %"
        said = ["within measurement error"] if link.within_error else []
        return [*lines, f"{NOMINAL:.0%} interval: {interval}", *said]

    def _drawn_as_then(self, link: Link) -> list[str]:
        change = self._scene.follow_up.change_at_equal_preference(link)
        return [] if change is None else [f"drawn as before: {100 * change:+.0f} %"]

    def _centre(self, link: Link) -> tuple[int, int, int] | None:
        """Return the voxel at which a lesion is largest now, or in the earlier study if it has vanished."""
        number = self._scene.numbers.get(link.tracking_uid)
        mask = self._scene.labels == number + 1 if number else np.zeros((0, 0, 0), bool)
        if not mask.any():
            values = [n + 1 for n, uid in self._scene.earlier_uids.items() if uid in link.earlier_uids]
            mask = np.isin(self._scene.earlier_labels, values)
        if not mask.any():
            return None
        k = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
        y, x = (round(float(at.mean())) for at in np.nonzero(mask[k]))
        return k, y, x

    def _now_drawn(self) -> NDArray[np.uint8]:
        return self._scene.labels

    def _earlier_drawn(self) -> NDArray[np.uint8]:
        """Return the earlier labels with the present lesion numbers; 255 for lesions without a number."""
        table = np.full(256, 255, np.uint8)
        table[:2] = (0, 1)
        by_uid = {
            uid: self._scene.numbers[link.tracking_uid]
            for link in self._scene.follow_up.links
            for uid in link.earlier_uids
            if link.tracking_uid in self._scene.numbers and link.earlier_ml is not None
        }
        for number, uid in self._scene.earlier_uids.items():
            if uid in by_uid:
                table[number + 1] = by_uid[uid] + 1
        return table[self._scene.earlier_labels]

    def _draw(
        self,
        left: float,
        row: int,
        hu: NDArray[Any],
        labels: NDArray[np.uint8],
        centre: tuple[int, int, int],
        name: str,
    ) -> None:
        k, *middle = centre
        rows, columns = (
            slice(max(0, at - round(_HALF_MM / s)), min(size, at + round(_HALF_MM / s) + 1))
            for at, s, size in zip(middle, self._scene.spacing_mm[1:], labels.shape[1:], strict=True)
        )
        axes = self._axes(left, self._height - self._top(row) - _PANEL, _PANEL, _PANEL)
        axes.set_axis_off()
        shown = labels[k]
        draw_slice(axes, hu[k], np.where(shown == 255, 1, shown), self._scene.spacing_mm[1:])
        outline(axes, shown == 255, _GONE, 1.4, "dashed")
        see_part(axes, rows, columns)
        note(axes, name, (0.03, 0.95), va="top")

    def _plot(self, left: float, bottom: float, width: float, height: float, title: str) -> Axes:
        axes = self._axes(left, bottom, width, height)
        axes.set_facecolor(PAPER)
        axes.set_title(title, color=INK, fontsize=12, loc="left")
        axes.tick_params(colors=FAINT, labelsize=9)
        for spine in axes.spines.values():
            spine.set_color("#505050")
        locator = AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        return axes

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        box = (left / _WIDTH, bottom / self._height, width / _WIDTH, height / self._height)
        return self.figure.add_axes(box)

    def _top(self, row: int) -> float:
        return self._title_height + row * (_PANEL + _GAP)

    def _text(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        """Write a text at `x` and `y` inches from the upper left corner."""
        style = {"color": INK} | style
        self.figure.text(x / _WIDTH, 1 - y / self._height, text, fontsize=size, **style)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the name of each curve at its end. If ends are close, then names are above each other.

    Each end is (y, x, name, colour).
    """
    apart = _NAME_HEIGHT * max((y for y, *_ in ends), default=0.0)
    free = float("-inf")
    for y, x, name, colour in sorted(ends):
        free = max(y, free)
        style: dict[str, Any] = {"color": colour, "fontsize": 11, "va": "center"}
        axes.annotate(name, (x, free), xytext=(7, 0), textcoords="offset points", **style)
        free += apart


def accepted_words(change: FollowUp) -> list[str]:
    """Return sentences that compare the reader's preference in the earlier study and in this study."""
    then, now = (
        ", ".join(filter(None, (f'"{kind}"' if kind else "", _drawn(mm))))
        for kind, mm in zip(change.kinds, change.beyond_mm, strict=True)
    )
    if not then or not now:
        return []
    lines = [f"Accepted before: {then}.", f"Accepted now: {now}."]
    if change.other_preference:
        wider = change.wider_mm
        said = f"Now drawn {abs(wider):.1f} mm {_side(wider)}" if wider else "Now drawn differently"
        lines.append(f"{said} than before. This alone changes sizes.")
    equal = change.equal_taste
    if equal is not None:
        which = f'candidate {equal.k} of round {equal.round} ("{equal.kind}")'
        lines.append(f'Below, "drawn as before" is the change with {which}, which is drawn most like before.')
    return lines


def _drawn(mm: float | None) -> str:
    """Return the distance of accepted outlines from the model's own outlines, in words."""
    if mm is None:
        return ""
    if abs(mm) < _ON_OUTLINE_MM:
        return "drawn as the model draws"
    return f"drawn {abs(mm):.1f} mm {_side(mm)} than the model draws"


def _side(mm: float) -> str:
    return "wider" if mm > 0 else "tighter"


def _most_telling(change: FollowUp) -> Sequence[Link]:
    """Return the lesions to draw: target lesions, then new and vanished lesions, then the largest."""

    def rank(link: Link) -> tuple[int, float]:
        size = max(link.ml or 0.0, link.earlier_ml or 0.0)
        if link.tracking_uid in change.targets:
            return 0, -size
        return (1 if link.fate in (Fate.NEW, Fate.VANISHED) else 2), -size

    return sorted(change.links, key=rank)[:_MOST_LESIONS]
