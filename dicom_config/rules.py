"""Rules over header fields that choose which series of a study are segmented."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from dicom_config.section import Section


def _pattern(value: str) -> str:
    """Check a regular expression, which is searched for in upper or lower case."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


class Range(Section):
    """From `min` to `max`, both inclusive; either may be left out."""

    min: float = float("-inf")
    max: float = float("inf")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min > self.max:
            raise ValueError("`min` is above `max`")
        return self

    def holds(self, value: float) -> bool:
        """Return whether `value` lies within."""
        return self.min <= value <= self.max


class SeriesRule(Section):
    """One rule: where all of its conditions hold, its score counts, or the series is excluded.

    A condition on what a series' headers lack does not hold.
    """

    name: str
    score: float = 0.0
    exclude: bool = False
    modality: Pattern | None = None
    description: Pattern | None = Field(None, description="in Series Description or Protocol Name")
    kernel: Pattern | None = Field(None, description="in Convolution Kernel")
    contrast: bool | None = Field(None, description="whether Contrast/Bolus Agent is filled")
    delay_s: Range | None = Field(None, description="from Contrast/Bolus Start Time to Acquisition Time")
    slice_thickness_mm: Range | None = None
    coverage_mm: Range | None = Field(None, description="from the first slice to the last")

    @model_validator(mode="after")
    def _says_something(self) -> SeriesRule:
        if not self.model_fields_set - {"name", "score", "exclude"}:
            raise ValueError("a rule needs a condition")
        if self.exclude == bool(self.score):
            raise ValueError("a rule needs a score or `exclude`, not both")
        return self


class RulesSection(Section):
    """The choice of series. Without rules, every series that passes the gate is segmented."""

    series: tuple[SeriesRule, ...] = ()
    min_score: float = Field(0.0, description="a series with less is not segmented")
    per_study: PositiveInt | None = Field(
        None, description="segment only the best of a study, as many as this; empty: all"
    )

    @model_validator(mode="after")
    def _distinct_names(self) -> RulesSection:
        names = [rule.name for rule in self.series]
        if len(set(names)) != len(names):
            raise ValueError("rules need distinct names, since reasons name the rule")
        return self
