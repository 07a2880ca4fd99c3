"""Choose the series for segmentation by the site's rules, and give the reason in words.

The functions take header records. Reasons contain rule names and scores, and never text from a header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_config.errors import InputError
from dicom_config.rules import RulesSection, SeriesRule
from uair_node.dicom.headers import SliceHeader
from uair_node.dicom.stack import build_stack

_DAY_S = 86_400.0


@dataclass(frozen=True)
class SeriesFacts:
    """The header values that rules examine. If the headers lack a value, then it is None or empty.

    Attributes
    ----------
    delay_s
        Seconds from the start of the contrast injection to the first acquisition.
    coverage_mm
        Distance in mm from the first slice's centre to the last slice's centre.
    """

    modality: str
    descriptions: tuple[str, ...]
    kernel: str
    contrast: bool
    delay_s: float | None
    slice_thickness_mm: float | None
    coverage_mm: float | None
    slices: int


@dataclass(frozen=True)
class Score:
    """The result of the rules for a series.

    Attributes
    ----------
    value
        Sum of the scores of the rules that match.
    excluded_by
        Name of the first matching rule that excludes the series; empty if no rule excludes it.
    reason
        The matching rules, in words.
    """

    value: float
    excluded_by: str
    reason: str


@dataclass(frozen=True)
class SeriesCandidate:
    """A series of a study, or an acquisition of a series, that could be segmented."""

    series_instance_uid: str
    facts: SeriesFacts
    score: Score
    acquisition: str = ""

    @property
    def rank(self) -> tuple[float, float, int, str, str]:
        """Sort key.

        The best series has the smallest key: highest score, then thinnest slices, most slices, UID, name.
        """
        thickness = self.facts.slice_thickness_mm
        return (
            -self.score.value,
            np.inf if thickness is None else thickness,
            -self.facts.slices,
            self.series_instance_uid,
            self.acquisition,
        )


def read_facts(headers: Sequence[SliceHeader]) -> SeriesFacts:
    """Return the values that rules examine, from at least one header of a series."""
    first = min(headers, key=lambda header: header.sop_instance_uid)
    delays = [delay for header in headers if (delay := _delay(header)) is not None]
    return SeriesFacts(
        modality=first.modality,
        descriptions=(first.series_description, first.protocol_name),
        kernel=first.kernel,
        contrast=any(header.contrast_agent for header in headers),
        delay_s=min(delays, default=None),
        slice_thickness_mm=first.slice_thickness_mm,
        coverage_mm=_coverage(headers),
        slices=sum(header.frames for header in headers),
    )


def score_series(facts: SeriesFacts, section: RulesSection) -> Score:
    """Return the score of a series by all rules."""
    matching = [rule for rule in section.series if _matches(rule, facts)]
    value = sum(rule.score for rule in matching)
    excluded = next((rule.name for rule in matching if rule.exclude), "")
    words = [f"{rule.name} {rule.score:+g}" for rule in matching if not rule.exclude]
    return Score(value, excluded, f"{', '.join(words) or 'no rule matches'}: score {value:g}")


def refusal_by_score(score: Score, section: RulesSection) -> InputError | None:
    """Return the error of a series that a rule excludes or that scores too low; None without an error."""
    if score.excluded_by:
        return InputError(
            "excluded-by-rule",
            f"The rule {score.excluded_by!r} excludes the series.",
            "If the series should be segmented, change that rule; `uair rules try` shows the effect.",
        )
    if section.series and score.value < section.min_score:
        return InputError(
            "score-too-low",
            f"The score of the series is too low ({score.reason}; {section.min_score:g} is needed).",
            "If the series should be segmented, change the rules; `uair rules try` shows the effect.",
        )
    return None


def refusal_by_rivals(
    own: SeriesCandidate, rivals: Sequence[SeriesCandidate], taken: int, section: RulesSection
) -> InputError | None:
    """Return the error of a series if other series of its study are preferred; None if it is chosen.

    Parameters
    ----------
    rivals
        The other series that could be segmented.
    taken
        Number of series of the study that were already chosen.
    """
    if section.per_study is None:
        return None
    before = sorted((rival for rival in rivals if rival.rank < own.rank), key=lambda rival: rival.rank)
    if len(before) + taken < section.per_study:
        return None
    if before:
        why = f"another series of the study has an equal or better score ({before[0].score.reason})"
    else:
        why = "enough series of the study were chosen before"
    return InputError(
        "other-series-chosen",
        f"The series is not segmented ({own.score.reason}): {why}.",
        "If the series should be segmented, change rules.per_study or the rules; `uair rules try` shows the "
        "effect.",
    )


def _matches(rule: SeriesRule, facts: SeriesFacts) -> bool:
    conditions = (
        rule.modality is None or _found(rule.modality, (facts.modality,)),
        rule.description is None or _found(rule.description, facts.descriptions),
        rule.kernel is None or _found(rule.kernel, (facts.kernel,)),
        rule.contrast is None or rule.contrast == facts.contrast,
        *(
            wanted is None or (value is not None and wanted.holds(value))
            for wanted, value in (
                (rule.delay_s, facts.delay_s),
                (rule.slice_thickness_mm, facts.slice_thickness_mm),
                (rule.coverage_mm, facts.coverage_mm),
            )
        ),
    )
    return all(conditions)


def _found(pattern: str, texts: Sequence[str]) -> bool:
    return any(text and re.search(pattern, text, re.IGNORECASE) for text in texts)


def _delay(header: SliceHeader) -> float | None:
    start, acquired = _seconds(header.contrast_start), _seconds(header.acquisition_time)
    if start is None or acquired is None:
        return None
    return (acquired - start) % _DAY_S  # an examination may run past midnight


def _seconds(time: str) -> float | None:
    """Return the seconds since midnight of a TM value, ``HHMMSS.FFFFFF`` (PS3.5 6.2).

    All components after ``HH`` are optional.
    """
    parts = re.fullmatch(r"(\d\d)(\d\d)(\d\d(?:\.\d{1,6})?)?", time.replace(":", ""))
    if parts is None:
        return None
    return 3600.0 * int(parts[1]) + 60.0 * int(parts[2]) + float(parts[3] or 0)


def _coverage(headers: Sequence[SliceHeader]) -> float | None:
    try:
        stack = build_stack(headers)
    except ValueError:
        return None
    return float(stack.distances_mm.sum())
