"""The change since earlier studies of a patient: records, sums of diameters, response categories.

RECIST 1.1: Eisenhauer et al., European Journal of Cancer 45 (2009) 228-247. The limits for volumes are those
of RECIST 1.1 for a ball, whose volume is proportional to the cube of its diameter (vRECIST). This module gets
only lesions of the liver. So a category is about the liver's lesions, not about the patient. This module does
not use pixels or DICOM, and it does not match lesions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, hypot, inf, log
from typing import Any

LEAST_MM = 10.0
"""A measurable lesion has at least this longest axial diameter in mm (RECIST 1.1, 3.1; slices to 5 mm)."""
MOST_TARGETS = 2
"""The most target lesions in one organ (RECIST 1.1, 3.1.2)."""
PARTIAL_RESPONSE = -0.30
"""PR: change of the sum of diameters since baseline, as a fraction."""
PROGRESSION = 0.20
"""PD: change of the sum of diameters since its smallest value (nadir), as a fraction."""
PROGRESSION_MM = 5.0
"""PD: the least increase of the sum of diameters since its smallest value, in mm."""
PARTIAL_RESPONSE_VOLUME = (1 + PARTIAL_RESPONSE) ** 3 - 1
"""PR by volume: -65.7 %."""
PROGRESSION_VOLUME = (1 + PROGRESSION) ** 3 - 1
"""PD by volume: +72.8 %."""


OTHER_PREFERENCE_MM = 0.5
"""The least difference of drawn radii in mm that counts as another preference of the reader.

This difference alone changes the volume of a ball with a diameter of 20 mm by 16 %.
"""
_SIZES = ("most inclusive", "inclusive", "in between", "tight", "tightest")
"""Kinds (characters) of candidates that describe size. They have the same meaning in each case.

All other kinds are relative to an earlier pick.
"""
_SURE_ONLY = ", sure lesions only"


class Response(StrEnum):
    """Categories of RECIST 1.1. NE means that there was no target lesion at baseline."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSIVE = "PD"
    NOT_EVALUABLE = "NE"


class Fate(StrEnum):
    """The fate of lesions between two studies."""

    MATCHED = "matched"
    SPLIT = "split"  # one lesion before, several lesions now
    MERGED = "merged"  # several lesions before, one lesion now
    NEW = "new"
    VANISHED = "vanished"


@dataclass(frozen=True)
class Link:
    """A lesion in two studies.

    Parameters
    ----------
    fate
        See `Fate`.
    tracking_uid
        The Tracking UID of the lesion in the present study; for a vanished lesion, in the earlier study.
    earlier_uids
        Tracking UIDs of the lesion (or lesions) in the earlier study; empty for a new lesion.
    earlier_ml, earlier_mm
        Volume in ml and long axis in mm in the earlier study, summed if several lesions merged; None for a
        new lesion.
    ml, mm
        Volume and long axis in the present study; None for a vanished lesion.
    earlier_ml_range, ml_range
        Interval of each volume in ml; None if the interval is unknown, or if the volume is a sum.
    """

    fate: Fate
    tracking_uid: str
    earlier_uids: tuple[str, ...] = ()
    earlier_ml: float | None = None
    earlier_mm: float | None = None
    ml: float | None = None
    mm: float | None = None
    earlier_ml_range: tuple[float, float] | None = None
    ml_range: tuple[float, float] | None = None

    @property
    def volume_change_range(self) -> tuple[float, float] | None:
        """Interval of `volume_change`; None unless both volumes have an interval.

        The errors of the two volumes are assumed to be independent. So on a logarithmic scale, the squares of
        the intervals' half-widths are added.
        """
        if not self.earlier_ml or not self.ml or self.earlier_ml_range is None or self.ml_range is None:
            return None
        before = _half_width(self.earlier_ml_range)
        half = hypot(before, _half_width(self.ml_range))
        ratio = self.ml / self.earlier_ml
        return ratio * exp(-half) - 1.0, ratio * exp(half) - 1.0

    @property
    def within_error(self) -> bool:
        """Whether the interval of the change contains zero."""
        found = self.volume_change_range
        return found is not None and found[0] <= 0.0 <= found[1]

    @property
    def volume_change(self) -> float | None:
        """Change of volume as a fraction of the earlier volume.

        It is -1 for a vanished lesion and None for a new lesion.
        """
        if not self.earlier_ml:
            return None
        return ((self.ml or 0.0) - self.earlier_ml) / self.earlier_ml


def _half_width(interval: tuple[float, float]) -> float:
    """Return half the width of an interval's natural logarithms; infinite if its low end is not positive."""
    low, high = interval
    return 0.5 * log(high / low) if low > 0 else inf


@dataclass(frozen=True)
class TimePoint:
    """The measurements of a study, for the course over several studies.

    Parameters
    ----------
    date
        Date of the study, ``YYYYMMDD``.
    sum_mm, sum_ml
        Sums of the target lesions' long axes in mm and of their volumes in ml.
    lesions_ml, liver_ml
        Volumes of all lesions and of the liver, in ml.
    lesion_ml
        Tracking UID -> volume in ml, for each lesion.
    """

    date: str
    sum_mm: float
    sum_ml: float
    lesions_ml: float
    liver_ml: float
    lesion_ml: Mapping[str, float]


@dataclass(frozen=True)
class EarlierSegmentation:
    """The final segmentation of an earlier study, which has the earlier lesions as segments.

    Parameters
    ----------
    study_uid, series_uid, sop_instance_uid
        The UIDs of the SEG object.
    segments
        Tracking UID -> Segment Number, for each lesion.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    segments: Mapping[str, int]


@dataclass(frozen=True)
class EqualPreference:
    """The candidate of this study that draws lesions most similarly to the earlier accepted segmentation.

    Parameters
    ----------
    round, k, kind
        Round, number and kind (character) of the candidate.
    lesion_ml
        Tracking UID -> volume in ml, for each lesion of the candidate.
    """

    round: int
    k: int
    kind: str
    lesion_ml: Mapping[str, float]


@dataclass(frozen=True)
class FollowUp:
    """The comparison of a study with earlier studies of the patient.

    Parameters
    ----------
    days
        Days since the earlier study of the comparison.
    prior_series_uid, prior_report_uid
        Series UID of the earlier study, and UID of its report (empty if there is no report).
    links
        The lesions of both studies.
    targets
        Tracking UIDs of the target lesions, chosen at baseline.
    points
        All time points of the patient in order of time, from the baseline to the present study.
    response, volume_response
        Categories by sum of diameters and by sum of volumes.
    earlier
        The final segmentation of the earlier study; None if it is unknown.
    kinds
        The kinds of the accepted candidates, such as "most inclusive", in the earlier study and in this
        study; empty if unknown.
    beyond_mm
        The radius of the accepted lesions minus the radius in the model's own mean, in mm. The values are for
        the earlier study and for this study; None if unknown.
    equal_taste
        The candidate of this study that draws lesions as in the earlier study; None unless the drawing
        differs. The attribute's name is a key of stored findings.
    """

    days: int
    prior_series_uid: str
    prior_report_uid: str
    links: tuple[Link, ...]
    targets: tuple[str, ...]
    points: tuple[TimePoint, ...]
    response: Response
    volume_response: Response
    earlier: EarlierSegmentation | None = None
    kinds: tuple[str, str] = ("", "")
    beyond_mm: tuple[float | None, float | None] = (None, None)
    equal_taste: EqualPreference | None = None

    @property
    def wider_mm(self) -> float | None:
        """The increase in mm of the drawn radius of lesions since the earlier study; None if unknown."""
        then, now = self.beyond_mm
        return None if then is None or now is None else now - then

    @property
    def other_preference(self) -> bool:
        """Whether lesions were drawn wider or tighter than in the earlier study. This alone changes sizes.

        If `wider_mm` is unknown, then the property is true if both kinds describe size and differ.
        """
        if self.wider_mm is not None:
            return abs(self.wider_mm) >= OTHER_PREFERENCE_MM
        then, now = (kind.removesuffix(_SURE_ONLY) for kind in self.kinds)
        return then != now and then in _SIZES and now in _SIZES

    def change_at_equal_preference(self, link: Link) -> float | None:
        """Return the change of a lesion's volume if the lesion were drawn as in the earlier study.

        The result is a fraction of the earlier volume, or None if the change is unknown.
        """
        ml = self.equal_taste.lesion_ml.get(link.tracking_uid) if self.equal_taste else None
        if ml is None or not link.earlier_ml or link.fate != Fate.MATCHED:
            return None
        return ml / link.earlier_ml - 1.0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FollowUp:
        """Return the comparison from a record of `dataclasses.asdict`."""
        return cls(
            **{
                **record,
                "links": tuple(_link(link) for link in record["links"]),
                "kinds": tuple(record.get("kinds", ("", ""))),
                "targets": tuple(record["targets"]),
                "points": tuple(TimePoint(**point) for point in record["points"]),
                "response": Response(record["response"]),
                "volume_response": Response(record["volume_response"]),
                "earlier": EarlierSegmentation(**record["earlier"]) if record.get("earlier") else None,
                "beyond_mm": tuple(record.get("beyond_mm", (None, None))),
                "equal_taste": EqualPreference(**record["equal_taste"])
                if record.get("equal_taste")
                else None,
            }
        )


def _link(record: Mapping[str, Any]) -> Link:
    ranges = {
        name: tuple(record[name]) for name in ("earlier_ml_range", "ml_range") if record.get(name) is not None
    }
    return Link(
        **{**record, "fate": Fate(record["fate"]), "earlier_uids": tuple(record["earlier_uids"]), **ranges}
    )


def choose_targets(lesions: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """Return the Tracking UIDs of the target lesions: the two longest lesions of at least 10 mm.

    Parameters
    ----------
    lesions
        Tracking UID and long axis in mm of each lesion at baseline.
    """
    measurable = [lesion for lesion in lesions if lesion[1] >= LEAST_MM]
    return tuple(
        uid for uid, _ in sorted(measurable, key=lambda lesion: (-lesion[1], lesion[0]))[:MOST_TARGETS]
    )


def respond(sums_mm: Sequence[float], *, new_lesions: bool) -> Response:
    """Return the category by sums of diameters, from baseline to the present study.

    PD needs a new lesion, or a sum that is 20 % and 5 mm above the smallest earlier sum. PR needs a sum that
    is 30 % below baseline.
    """
    return _respond(sums_mm, new_lesions, PARTIAL_RESPONSE, PROGRESSION, PROGRESSION_MM)


def respond_by_volume(sums_ml: Sequence[float], *, new_lesions: bool) -> Response:
    """Return the category by sums of volumes, from baseline to the present study.

    The limits are `PARTIAL_RESPONSE_VOLUME` and `PROGRESSION_VOLUME`.
    """
    return _respond(sums_ml, new_lesions, PARTIAL_RESPONSE_VOLUME, PROGRESSION_VOLUME, 0.0)


def _respond(
    sums: Sequence[float], new_lesions: bool, partial: float, progression: float, least: float
) -> Response:
    baseline, *_ = sums
    now, nadir = sums[-1], min(sums[:-1], default=sums[-1])
    if new_lesions:
        return Response.PROGRESSIVE
    if baseline <= 0:
        return Response.NOT_EVALUABLE
    if now - nadir >= least and now > nadir and now >= (1 + progression) * nadir:
        return Response.PROGRESSIVE
    if now <= 0:
        return Response.COMPLETE
    return Response.PARTIAL if now <= (1 + partial) * baseline else Response.STABLE
