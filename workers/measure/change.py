"""Turn matched lesions into the report's changes: identities, sums of target lesions, response categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from uair_node.findings.follow_up import (
    Fate,
    FollowUp,
    Link,
    TimePoint,
    choose_targets,
    respond,
    respond_by_volume,
)
from uair_node.findings.record import Findings, LesionFindings
from uair_node.results.preference_comparison import NOT_COMPARED, PreferenceComparison
from uair_node.results.priors import Prior
from workers.measure.matching import Group

NEW_MM = 5.0
"""A new lesion shorter than this, in mm, is reported, but does not count for the response category.

A change of technique may have caused it.
"""


@dataclass(frozen=True)
class Identity:
    """The Tracking UID and Tracking ID of a lesion."""

    uid: str
    name: str


def identities(own: Mapping[int, Identity], groups: Sequence[Group], before: Findings) -> dict[int, Identity]:
    """Return the identity of each lesion of this study. A matched lesion keeps its earlier identity.

    If a lesion split, then its matched piece keeps the identity. If lesions merged, then the identity of the
    matched earlier lesion is kept.

    Parameters
    ----------
    own
        Lesion number -> the identity of this lesion if no earlier lesion matches.
    """
    earlier = {lesion.number: Identity(lesion.tracking_uid, lesion.tracking_id) for lesion in before.lesions}
    found = dict(own)
    for group in groups:
        if group.now and group.before:
            found[group.now[0]] = earlier[group.before[0]]
    return found


def follow_up_of(
    findings: Findings,
    groups: Sequence[Group],
    priors: Sequence[Prior],
    day: date,
    kinds: tuple[str, str] = ("", ""),
    preferences: PreferenceComparison = NOT_COMPARED,
) -> FollowUp:
    """Return the changes since the last of the earlier studies.

    Parameters
    ----------
    findings
        Findings of this study, with the identities of `identities`.
    groups
        Lesions of this study, matched with the lesions of the last study in `priors`.
    day
        Day on which this study was acquired.
    kinds
        The characters of the accepted candidates, in the earlier and in this study.
    preferences
        The comparison of the preferences in the earlier and in this study.
    """
    prior = priors[-1]
    now = {lesion.number: lesion for lesion in findings.lesions}
    then = {lesion.number: lesion for lesion in prior.findings.lesions}
    links = tuple(link for group in groups for link in _links(group, now, then))
    earlier = _earlier_points(priors)
    targets = _targets(priors)
    points = (*earlier, _point(day, findings, targets, _current(links)))
    new = any(link.fate == Fate.NEW and (link.mm or 0.0) >= NEW_MM for link in links)
    return FollowUp(
        days=(day - prior.day).days,
        prior_series_uid=prior.series_uid,
        prior_report_uid=prior.report_uid,
        links=links,
        targets=targets,
        points=points,
        response=respond([point.sum_mm for point in points], new_lesions=new),
        volume_response=respond_by_volume([point.sum_ml for point in points], new_lesions=new),
        earlier=prior.segmentation,
        kinds=kinds,
        beyond_mm=preferences.beyond_mm,
        equal_taste=preferences.equal_preference,
    )


def _targets(priors: Sequence[Prior]) -> tuple[str, ...]:
    """Return the target lesions that were chosen at baseline, the first of the earlier studies."""
    last = priors[-1].findings.follow_up
    return last.targets if last else choose_targets(_lengths(priors[-1].findings))


def _earlier_points(priors: Sequence[Prior]) -> tuple[TimePoint, ...]:
    """Return the earlier time points, from the record of the last earlier study.

    If the record has no follow-up, then the last earlier study is the only time point.
    """
    last = priors[-1]
    if last.findings.follow_up:
        return last.findings.follow_up.points
    return (_point(last.day, last.findings, _targets(priors), _measured(last.findings)),)


def _lengths(findings: Findings) -> list[tuple[str, float]]:
    return [(lesion.tracking_uid, lesion.values["long_mm"].value) for lesion in findings.lesions]


def _measured(findings: Findings) -> dict[str, tuple[float, float]]:
    """Return Tracking UID -> volume in ml and long axis in mm."""
    return {lesion.tracking_uid: _size(lesion) for lesion in findings.lesions}


def _current(links: Sequence[Link]) -> dict[str, tuple[float, float]]:
    """Return Tracking UID -> volume in ml and long axis in mm, with added-up pieces of split lesions."""
    return {link.tracking_uid: (link.ml or 0.0, link.mm or 0.0) for link in links}


def _point(
    day: date, findings: Findings, targets: Sequence[str], sizes: Mapping[str, tuple[float, float]]
) -> TimePoint:
    found = [sizes.get(uid, (0.0, 0.0)) for uid in targets]
    return TimePoint(
        date=day.strftime("%Y%m%d"),
        sum_mm=round(sum(mm for _, mm in found), 2),
        sum_ml=round(sum(ml for ml, _ in found), 3),
        lesions_ml=findings.liver["lesions_ml"].value,
        liver_ml=findings.liver["liver_ml"].value,
        lesion_ml={lesion.tracking_uid: lesion.values["volume_ml"].value for lesion in findings.lesions},
    )


def _links(group: Group, now: Mapping[int, LesionFindings], then: Mapping[int, LesionFindings]) -> list[Link]:
    """Return the links of a group: one for each of its present lesions, or one for a vanished lesion."""
    before = [then[number] for number in group.before]
    uids = tuple(lesion.tracking_uid for lesion in before)
    earlier_ml, earlier_mm = _total(before)
    if not group.now:
        return [Link(group.fate, uids[0], uids, earlier_ml, earlier_mm)]
    main, *parts = (now[number] for number in group.now)
    ml, mm = _total([main, *parts])
    alone = len(before) <= 1 and not parts
    ranges = (_range(before), _range([main])) if alone else (None, None)
    links = [Link(group.fate, main.tracking_uid, uids, earlier_ml, earlier_mm, ml, mm, *ranges)]
    # The first link has the total size of a split lesion. Each further link has the size of its own piece.
    links += [Link(Fate.SPLIT, part.tracking_uid, uids, None, None, *_size(part)) for part in parts]
    return links


def _total(lesions: Sequence[LesionFindings]) -> tuple[float | None, float | None]:
    if not lesions:
        return None, None
    sizes = [_size(lesion) for lesion in lesions]
    return round(sum(ml for ml, _ in sizes), 3), round(sum(mm for _, mm in sizes), 2)


def _range(lesions: Sequence[LesionFindings]) -> tuple[float, float] | None:
    """Return the interval of a lesion's volume; None without a lesion or an interval."""
    if not lesions:
        return None
    volume = lesions[0].values["volume_ml"]
    return None if volume.low is None or volume.high is None else (volume.low, volume.high)


def _size(lesion: LesionFindings) -> tuple[float, float]:
    return lesion.values["volume_ml"].value, lesion.values["long_mm"].value
