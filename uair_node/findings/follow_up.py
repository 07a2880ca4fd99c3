"""The change since earlier studies of a patient: records, sums of diameters, response categories.

RECIST 1.1: Eisenhauer et al., European Journal of Cancer 45 (2009) 228-247. Volumes: the same limits for a
ball, whose volume goes with the cube of its diameter (vRECIST). Only lesions of the liver are known here. So
a category concerns the liver's lesions, not the patient. This module does not know pixels, DICOM, or how
lesions are matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, hypot, inf, log
from typing import Any

LEAST_MM = 10.0
"""The least longest axial diameter in mm of a measurable lesion (RECIST 1.1, 3.1; slices up to 5 mm)."""
MOST_TARGETS = 2
"""The most target lesions in one organ (RECIST 1.1, 3.1.2)."""
PARTIAL_RESPONSE = -0.30
"""PR: change of the sum of diameters since baseline, as a part."""
PROGRESSION = 0.20
"""PD: change of the sum of diameters since its smallest value (nadir), as a part."""
PROGRESSION_MM = 5.0
"""PD: the least change of the sum of diameters since its smallest value, in mm."""
PARTIAL_RESPONSE_VOLUME = (1 + PARTIAL_RESPONSE) ** 3 - 1
"""PR by volume: -65.7 %."""
PROGRESSION_VOLUME = (1 + PROGRESSION) ** 3 - 1
"""PD by volume: +72.8 %."""


OTHER_PREFERENCE_MM = 0.5
"""Lesions that are drawn wider or tighter by this many mm differ for that reason alone.

For a ball of 20 mm, it is 16 % of the volume.
"""
_SIZES = ("most inclusive", "inclusive", "in between", "tight", "tightest")
"""Kinds of candidates with the same meaning in each case. Other kinds are relative to an earlier pick."""
_SURE_ONLY = ", sure lesions only"


class Response(StrEnum):
    """Categories of RECIST 1.1. NE: there was no target at baseline."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSIVE = "PD"
    NOT_EVALUABLE = "NE"


class Fate(StrEnum):
    """The fate of lesions between two studies."""

    MATCHED = "matched"
    SPLIT = "split"  # one before, several now
    MERGED = "merged"  # several before, one now
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
        The Tracking UID of the lesion now; for a vanished lesion, its earlier one.
    earlier_uids
        Tracking UIDs of the lesion (or lesions) in the earlier study; empty for a new lesion.
    earlier_ml, earlier_mm
        Volume and long axis in the earlier study, summed if several lesions merged; None for a new lesion.
    ml, mm
        The same in the present study; None for a vanished lesion.
    earlier_ml_range, ml_range
        Interval of each volume; None if it is unknown, or if the volume is a sum.
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
        """Interval of `volume_change`; None unless both volumes have one.

        The two errors are assumed to be independent: the squares of the half-widths of logarithms are added.
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
        """Change of volume as a part of the earlier volume; -1 for a vanished lesion, None for a new one."""
        if not self.earlier_ml:
            return None
        return ((self.ml or 0.0) - self.earlier_ml) / self.earlier_ml


def _half_width(interval: tuple[float, float]) -> float:
    """Return half the width of an interval in logarithms. It is infinite if the interval reaches zero."""
    low, high = interval
    return 0.5 * log(high / low) if low > 0 else inf


@dataclass(frozen=True)
class TimePoint:
    """The measurements of the targets in one study.

    Parameters
    ----------
    date
        ``YYYYMMDD``.
    sum_mm, sum_ml
        Sum of the targets' long axes and volumes.
    lesions_ml, liver_ml
        Volume of all lesions, and of the liver.
    lesion_ml
        Tracking UID -> volume of each lesion.
    """

    date: str
    sum_mm: float
    sum_ml: float
    lesions_ml: float
    liver_ml: float
    lesion_ml: Mapping[str, float]


@dataclass(frozen=True)
class EarlierSegmentation:
    """The final segmentation of an earlier study; its segments are the earlier lesions.

    Parameters
    ----------
    study_uid, series_uid, sop_instance_uid
        The UIDs of the object.
    segments
        Tracking UID -> Segment Number of each lesion.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    segments: Mapping[str, int]


@dataclass(frozen=True)
class EqualPreference:
    """The candidate of this study that is drawn most like the accepted segmentation of the study before.

    Parameters
    ----------
    round, k, kind
        Round and number of the candidate, and its kind.
    lesion_ml
        Tracking UID -> volume of each lesion in it.
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
        Days since the study that it is compared with.
    prior_series_uid, prior_report_uid
        Series of that study, and its report (empty if there is none).
    links
        Lesions of both studies.
    targets
        Tracking UIDs of the target lesions, chosen at baseline.
    points
        All time points of the patient in order of time, this one last; the first is the baseline.
    response, volume_response
        Categories by sum of diameters and by sum of volumes.
    earlier
        The final segmentation of the earlier study; None if it is unknown.
    kinds
        The kinds of the accepted candidates ("most inclusive"), in the earlier and in this study; empty if
        unknown.
    beyond_mm
        How much wider than the model's own mean the accepted lesions were drawn, in mm of radius. The values
        are for the earlier and for this study; None if unknown.
    equal_taste
        The candidate of this study whose lesions are drawn as in the earlier study; None unless the drawing
        differs. The name is a key of stored findings.
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
        """By how many mm of radius lesions were drawn wider than before; None if unknown."""
        then, now = self.beyond_mm
        return None if then is None or now is None else now - then

    @property
    def other_preference(self) -> bool:
        """Whether lesions were drawn wider or tighter than before. This alone changes sizes.

        If the millimetres are unknown, then the kinds decide, if both are kinds of size.
        """
        if self.wider_mm is not None:
            return abs(self.wider_mm) >= OTHER_PREFERENCE_MM
        then, now = (kind.removesuffix(_SURE_ONLY) for kind in self.kinds)
        return then != now and then in _SIZES and now in _SIZES

    def change_at_equal_preference(self, link: Link) -> float | None:
        """Return the change of a lesion's volume if it were drawn as in the earlier study.

        None if unknown.
        """
        ml = self.equal_taste.lesion_ml.get(link.tracking_uid) if self.equal_taste else None
        if ml is None or not link.earlier_ml or link.fate != Fate.MATCHED:
            return None
        return ml / link.earlier_ml - 1.0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FollowUp:
        """Return the object of a record that `dataclasses.asdict` made."""
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
    """Return the Tracking UIDs of the target lesions: the two longest of at least 10 mm.

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
    """Return the category by sums of diameters, baseline first, the present one last.

    PD needs 20 % and 5 mm over the smallest sum so far, or a new lesion; PR 30 % below baseline.
    """
    return _respond(sums_mm, new_lesions, PARTIAL_RESPONSE, PROGRESSION, PROGRESSION_MM)


def respond_by_volume(sums_ml: Sequence[float], *, new_lesions: bool) -> Response:
    """Return the category by sums of volumes, see `PARTIAL_RESPONSE_VOLUME` and `PROGRESSION_VOLUME`."""
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
