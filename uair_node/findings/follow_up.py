"""The change since earlier studies of a patient: records, sums of diameters, response categories.

RECIST 1.1: Eisenhauer et al., European Journal of Cancer 45 (2009) 228-247. Volumes: the same limits for a
ball, whose volume goes with the cube of its diameter (vRECIST). Only lesions of the liver are known here: a
category is that of the liver's lesions, not of the patient. Knows nothing of pixels, of DICOM and of how
lesions are matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, hypot, inf, log
from typing import Any

LEAST_MM = 10.0
"""A lesion whose longest axial diameter is shorter is not measurable (RECIST 1.1, 3.1; slices up to 5 mm)."""
MOST_TARGETS = 2
"""Target lesions in one organ (RECIST 1.1, 3.1.2)."""
PARTIAL_RESPONSE = -0.30
"""Change of the sum of diameters from baseline to PR."""
PROGRESSION = 0.20
"""Change of the sum of diameters from its smallest value (nadir) to PD ..."""
PROGRESSION_MM = 5.0
"""... which must be this much in mm, too."""
PARTIAL_RESPONSE_VOLUME = (1 + PARTIAL_RESPONSE) ** 3 - 1
"""-65.7 %."""
PROGRESSION_VOLUME = (1 + PROGRESSION) ** 3 - 1
"""+72.8 %."""


OTHER_PREFERENCE_MM = 0.5
"""Lesions that are drawn so much wider or tighter differ by that alone: a ball of 20 mm by 16 % of volume."""
_SIZES = ("most inclusive", "inclusive", "in between", "tight", "tightest")
"""Kinds of candidates that mean the same in each case; the others are relative to what was picked before."""
_SURE_ONLY = ", sure lesions only"


class Response(StrEnum):
    """Categories of RECIST 1.1; NE where there was nothing to measure at baseline."""

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
    """One lesion over two studies.

    Parameters
    ----------
    fate
        See `Fate`.
    tracking_uid
        The Tracking UID of the lesion now; for a vanished lesion, its earlier one.
    earlier_uids
        Tracking UIDs of what it was before; empty for a new one.
    earlier_ml, earlier_mm
        Volume and long axis before, sums where several merged; None for a new one.
    ml, mm
        The same now; None for a vanished one.
    earlier_ml_range, ml_range
        Interval of each volume; None where nothing tells, or where it is a sum.
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

        The two errors are taken as independent: half-widths of logarithms add as squares.
        """
        if not self.earlier_ml or not self.ml or self.earlier_ml_range is None or self.ml_range is None:
            return None
        before = _half_width(self.earlier_ml_range)
        half = hypot(before, _half_width(self.ml_range))
        ratio = self.ml / self.earlier_ml
        return ratio * exp(-half) - 1.0, ratio * exp(half) - 1.0

    @property
    def within_error(self) -> bool:
        """Whether the interval of the change holds zero."""
        found = self.volume_change_range
        return found is not None and found[0] <= 0.0 <= found[1]

    @property
    def volume_change(self) -> float | None:
        """Change of volume as a part of the earlier one; -1 for a vanished lesion, None for a new one."""
        if not self.earlier_ml:
            return None
        return ((self.ml or 0.0) - self.earlier_ml) / self.earlier_ml


def _half_width(interval: tuple[float, float]) -> float:
    """Return half the width of an interval in logarithms; an interval that reaches zero is unbounded."""
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
        Volume of all lesions, of the liver.
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
        Which object it is.
    segments
        Tracking UID -> Segment Number of each lesion.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    segments: Mapping[str, int]


@dataclass(frozen=True)
class EqualPreference:
    """The candidate of this study that is drawn most like what was accepted of the study before.

    Parameters
    ----------
    round, k, kind
        Which candidate it is, and its name.
    lesion_ml
        Tracking UID -> volume of each lesion in it.
    """

    round: int
    k: int
    kind: str
    lesion_ml: Mapping[str, float]


@dataclass(frozen=True)
class FollowUp:
    """A study beside earlier ones.

    Parameters
    ----------
    days
        Since the study compared with.
    prior_series_uid, prior_report_uid
        Series that was compared with, and its report; the latter empty if there is none.
    links
        Lesions of both studies.
    targets
        Tracking UIDs of the target lesions, chosen at baseline.
    points
        All time points of the patient in order of time, this one last; the first is the baseline.
    response, volume_response
        By sum of diameters and by sum of volumes.
    earlier
        The final segmentation of the study compared with; None where it is not known.
    kinds
        The kinds of candidates that were accepted, then and now ("most inclusive"); empty where not known.
    beyond_mm
        How much wider than the model's own mean the accepted lesions were drawn, then and now, in mm of
        radius. None where that is not known.
    equal_taste
        What this study would be with lesions drawn as then; None unless they are drawn otherwise.
        The name is a key of stored findings.
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
        """By how much wider lesions were drawn than before; None where that is not known."""
        then, now = self.beyond_mm
        return None if then is None or now is None else now - then

    @property
    def other_preference(self) -> bool:
        """Whether lesions were drawn wider or tighter than before, which alone changes sizes.

        Where the millimetres are not known, names of sizes tell, if both are such.
        """
        if self.wider_mm is not None:
            return abs(self.wider_mm) >= OTHER_PREFERENCE_MM
        then, now = (kind.removesuffix(_SURE_ONLY) for kind in self.kinds)
        return then != now and then in _SIZES and now in _SIZES

    def change_at_equal_preference(self, link: Link) -> float | None:
        """Return the change of a lesion's volume if it were drawn as then; None where nothing tells."""
        ml = self.equal_taste.lesion_ml.get(link.tracking_uid) if self.equal_taste else None
        if ml is None or not link.earlier_ml or link.fate != Fate.MATCHED:
            return None
        return ml / link.earlier_ml - 1.0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FollowUp:
        """Read what `dataclasses.asdict` made of one."""
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
