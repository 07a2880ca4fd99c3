"""Rules that choose which series of a study are segmented. They test header fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from dicom_config.section import Section


def _pattern(value: str) -> str:
    """Check the syntax of a regular expression. The rules ignore upper and lower case when they apply it."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


class Range(Section):
    """A range from `min` to `max`, both inclusive. Either limit may be left out."""

    min: float = float("-inf")
    max: float = float("inf")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min > self.max:
            raise ValueError("`min` is greater than `max`")
        return self

    def holds(self, value: float) -> bool:
        """Return whether `value` is in the range."""
        return self.min <= value <= self.max


class SeriesRule(Section):
    """If a series meets all conditions of a rule, then the rule adds its score or excludes the series.

    If the headers of a series lack a field, then the series does not meet a condition on this field.
    """

    name: str
    score: float = 0.0
    exclude: bool = False
    modality: Pattern | None = None
    description: Pattern | None = Field(None, description="pattern in Series Description or Protocol Name")
    kernel: Pattern | None = Field(None, description="pattern in Convolution Kernel")
    contrast: bool | None = Field(None, description="whether Contrast/Bolus Agent has a value")
    delay_s: Range | None = Field(
        None, description="seconds from Contrast/Bolus Start Time to Acquisition Time"
    )
    slice_thickness_mm: Range | None = None
    coverage_mm: Range | None = Field(None, description="distance from the first slice to the last")

    @model_validator(mode="after")
    def _says_something(self) -> SeriesRule:
        if not self.model_fields_set - {"name", "score", "exclude"}:
            raise ValueError("a rule needs a condition")
        if self.exclude == bool(self.score):
            raise ValueError("a rule needs a score or `exclude`, not both")
        return self


class RulesSection(Section):
    """The choice of series. Without rules, the node segments every series that passes the gate."""

    series: tuple[SeriesRule, ...] = ()
    min_score: float = Field(0.0, description="a series with a lower score is not segmented")
    per_study: PositiveInt | None = Field(
        None, description="number of series of a study that are segmented, the best first; empty: all"
    )

    @model_validator(mode="after")
    def _distinct_names(self) -> RulesSection:
        names = [rule.name for rule in self.series]
        if len(set(names)) != len(names):
            raise ValueError(
                "each rule needs a name of its own, because the reason of a decision names its rule"
            )
        return self
