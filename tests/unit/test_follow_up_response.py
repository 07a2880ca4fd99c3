"""Response categories at their thresholds (RECIST 1.1), target lesions, and records that survive JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from uair_node.findings.follow_up import (
    EqualPreference,
    Fate,
    FollowUp,
    Link,
    Response,
    choose_targets,
    respond,
    respond_by_volume,
)
from uair_node.findings.record import Findings, LesionFindings, Value, as_csv, load_findings, save_findings
from uair_node.rendering.change_images import accepted_words
from uair_node.results.preference_comparison import PreferenceComparison
from uair_node.results.priors import Prior
from workers.measure.change import Identity, follow_up_of, identities
from workers.measure.matching import Group


@pytest.mark.parametrize(
    ("sums", "new", "category"),
    [
        ((100, 100), False, Response.STABLE),
        ((100, 70.1), False, Response.STABLE),
        ((100, 70), False, Response.PARTIAL),
        ((100, 0), False, Response.COMPLETE),
        ((100, 119.9), False, Response.STABLE),
        ((100, 120), False, Response.PROGRESSIVE),
        ((20, 24.5), False, Response.STABLE),  # 22 %, but less than 5 mm
        ((100, 60, 75), False, Response.PROGRESSIVE),  # from the nadir
        ((100, 60, 65), False, Response.PARTIAL),  # from baseline
        ((100, 0, 6), False, Response.PROGRESSIVE),
        ((100, 50), True, Response.PROGRESSIVE),
        ((0, 0), False, Response.NOT_EVALUABLE),
        ((0, 0), True, Response.PROGRESSIVE),
    ],
)
def test_categories_by_diameter(sums: tuple[float, ...], new: bool, category: Response) -> None:
    assert respond(sums, new_lesions=new) == category


def test_categories_by_volume_are_those_of_a_ball() -> None:
    for diameter, category in ((0.699, "PR"), (0.701, "SD"), (1.199, "SD"), (1.201, "PD"), (0.0, "CR")):
        assert respond_by_volume((10.0, 10.0 * diameter**3), new_lesions=False) == category


def test_targets_are_the_two_longest_measurable_lesions() -> None:
    lesions = [("a", 9.9), ("b", 30.0), ("c", 10.0), ("d", 31.0)]
    assert choose_targets(lesions) == ("d", "b")
    assert choose_targets(lesions[:1]) == ()


def findings(*lesions: tuple[int, str, float, float], follow_up: FollowUp | None = None) -> Findings:
    """Lesions as (number, uid, ml, mm)."""
    liver = {
        "liver_ml": Value(1500.0, 1450.0, 1550.0),
        "lesions": Value(len(lesions)),
        "lesions_ml": Value(sum(lesion[2] for lesion in lesions)),
        "burden_percent": Value(1.0),
    }
    rows = tuple(
        LesionFindings(n, uid, uid, 3, {"volume_ml": Value(ml, ml - 1, ml + 1), "long_mm": Value(mm)})
        for n, uid, ml, mm in lesions
    )
    return Findings(liver, {"parenchyma_ml": Value(1400.0)}, rows, follow_up)


def prior(found: Findings, day: date) -> Prior:
    return Prior(1, day, "1.2.3", "2.25.9", found)


def test_lesions_keep_their_identity_and_their_sums_over_three_studies() -> None:
    first = findings((1, "A", 20.0, 40.0), (2, "B", 5.0, 20.0), (3, "C", 1.0, 8.0))
    groups = (
        Group(Fate.MATCHED, (1,), (2,)),
        Group(Fate.MATCHED, (2,), (1,)),
        Group(Fate.VANISHED, (), (3,)),
    )
    own = {1: Identity("x", "X"), 2: Identity("y", "Y")}
    assert {n: identity.uid for n, identity in identities(own, groups, first).items()} == {1: "B", 2: "A"}
    second = findings((1, "B", 3.0, 14.0), (2, "A", 8.0, 27.0))
    change = follow_up_of(second, groups, [prior(first, date(2026, 1, 1))], date(2026, 3, 1))
    assert (change.days, change.targets, change.response) == (59, ("A", "B"), Response.PARTIAL)
    assert [point.sum_mm for point in change.points] == [60.0, 41.0]
    by_uid = {link.tracking_uid: link for link in change.links}
    assert by_uid["A"].volume_change == pytest.approx(-0.6)
    assert (by_uid["C"].fate, by_uid["C"].volume_change) == (Fate.VANISHED, -1.0)

    second = findings((1, "B", 3.0, 14.0), (2, "A", 8.0, 27.0), follow_up=change)
    third = findings((1, "A", 10.0, 30.0), (2, "B", 9.0, 22.0), (3, "z", 2.0, 12.0))
    groups = (
        Group(Fate.MATCHED, (1,), (2,)),
        Group(Fate.MATCHED, (2,), (1,)),
        Group(Fate.NEW, (3,), ()),
    )
    later = follow_up_of(third, groups, [prior(second, date(2026, 3, 1))], date(2026, 5, 1))
    assert [point.sum_mm for point in later.points] == [60.0, 41.0, 52.0]
    assert later.response == Response.PROGRESSIVE
    assert later.points[0].date == "20260101"


def test_a_change_has_an_interval_and_may_be_within_measurement_error() -> None:
    def link(now_ml: float, half: float) -> Link:
        before, after = (30.0 / half, 30.0 * half), (now_ml / half, now_ml * half)
        return Link(Fate.MATCHED, "A", ("A",), 30.0, 34.0, now_ml, 40.0, before, after)

    unsure, sure = link(40.8, 1.3), link(40.8, 1.1)
    # Two half-widths of a factor 1.3 make one of 1.3 ** sqrt(2) = 1.449.
    assert unsure.volume_change_range == pytest.approx((1.36 / 1.4492 - 1, 1.36 * 1.4492 - 1), abs=1e-3)
    assert (unsure.within_error, sure.within_error) == (True, False)
    assert Link(Fate.MATCHED, "A", ("A",), 30.0, 34.0, 40.8, 40.0).volume_change_range is None
    reaching_zero = replace(unsure, earlier_ml_range=(0.0, 60.0))
    assert reaching_zero.within_error


def test_sums_of_lesions_have_no_interval() -> None:
    first = findings((1, "A", 20.0, 40.0), (2, "B", 5.0, 20.0))
    matched = (Group(Fate.MATCHED, (1,), (1,)),)
    both = (Group(Fate.MERGED, (1,), (1, 2)),)
    now = findings((1, "A", 26.0, 44.0))
    for groups, known in ((matched, True), (both, False)):
        change = follow_up_of(now, groups, [prior(first, date(2026, 1, 1))], date(2026, 2, 1))
        assert (change.links[0].volume_change_range is not None) == known


@pytest.mark.parametrize(
    ("kinds", "beyond_mm", "other"),
    [
        (("tightest", "most inclusive"), (None, None), True),
        (("tightest", "tightest"), (None, None), False),
        (("tight, sure lesions only", "tight"), (None, None), False),
        (("", "tightest"), (None, None), False),
        (("lesion 2 tighter, lesion 1 wider", "tightest"), (None, None), False),
        (("lesion 2 tighter, lesion 1 wider", "as selected"), (-0.8, 0.4), True),
        (("as selected", "as selected"), (-0.8, 0.4), True),
        (("tightest", "most inclusive"), (0.1, 0.3), False),
    ],
)
def test_another_taste_is_known_by_millimetres_or_by_names_of_sizes(
    kinds: tuple[str, str], beyond_mm: tuple[float | None, float | None], other: bool
) -> None:
    found = findings((1, "A", 20.0, 40.0))
    groups = (Group(Fate.MATCHED, (1,), (1,)),)
    earlier = [prior(found, date(2026, 1, 1))]
    change = follow_up_of(found, groups, earlier, date(2026, 2, 1), kinds, PreferenceComparison(beyond_mm))
    assert change.other_preference == other
    assert FollowUp.from_json(json.loads(json.dumps(asdict(change)))) == change


def test_words_name_both_kinds_and_what_compares_equally() -> None:
    found = findings((1, "A", 26.0, 44.0))
    groups = (Group(Fate.MATCHED, (1,), (1,)),)
    earlier = [prior(findings((1, "A", 20.0, 40.0)), date(2026, 1, 1))]
    equal = EqualPreference(1, 4, "tightest", {"A": 20.6})
    kinds = ("tightest", "lesion 1 wider")
    change = follow_up_of(
        found, groups, earlier, date(2026, 2, 1), kinds, PreferenceComparison((-0.8, 0.7), equal)
    )
    assert accepted_words(change) == [
        'Accepted before: "tightest", drawn 0.8 mm tighter than the model draws.',
        'Accepted now: "lesion 1 wider", drawn 0.7 mm wider than the model draws.',
        "Now drawn 1.5 mm wider than before. This alone changes sizes.",
        'Below, "drawn as before" is the change with candidate 4 of round 1 ("tightest"), '
        "which is drawn most like before.",
    ]
    assert change.change_at_equal_preference(change.links[0]) == pytest.approx(0.03)
    assert FollowUp.from_json(json.loads(json.dumps(asdict(change)))) == change
    unknown = follow_up_of(found, groups, earlier, date(2026, 2, 1), kinds)
    assert accepted_words(unknown) == [
        'Accepted before: "tightest".',
        'Accepted now: "lesion 1 wider".',
    ]


def test_parts_count_together() -> None:
    first = findings((1, "A", 20.0, 40.0))
    now = findings((1, "A", 6.0, 20.0), (2, "y", 3.0, 15.0))
    groups = (Group(Fate.SPLIT, (1, 2), (1,)),)
    change = follow_up_of(now, groups, [prior(first, date(2026, 1, 1))], date(2026, 2, 1))
    assert change.points[-1].sum_mm == 35.0
    whole, part = change.links
    assert whole.volume_change == pytest.approx(-0.55)
    assert (part.tracking_uid, part.earlier_uids, part.volume_change) == ("y", ("A",), None)


def test_findings_survive_their_file(tmp_path: Path) -> None:
    change = follow_up_of(
        findings((1, "A", 6.0, 20.0)),
        (Group(Fate.MATCHED, (1,), (1,)),),
        [prior(findings((1, "A", 20.0, 40.0)), date(2026, 1, 1))],
        date(2026, 2, 1),
        ("tightest", "most inclusive"),
    )
    assert change.links[0].ml_range == (5.0, 7.0)
    found = findings((1, "A", 6.0, 20.0), follow_up=change)
    save_findings(tmp_path / "measurements.json", found)
    assert load_findings(tmp_path / "measurements.json") == found
    assert load_findings(tmp_path / "none.json") is None
    assert json.loads((tmp_path / "measurements.json").read_text())["follow_up"]["response"] == "PR"


def test_the_table_has_a_line_for_each_number() -> None:
    lines = as_csv(findings((1, "A", 6.0, 20.0))).splitlines()
    assert lines[0] == "target,tracking_uid,quantity,value,low,high,unit"
    assert "liver,,liver_ml,1500.0,1450.0,1550.0,ml" in lines
    assert "lesion 1,A,volume_ml,6.0,5.0,7.0,ml" in lines
    assert "lesion 1,A,long_mm,20.0,,,mm" in lines
