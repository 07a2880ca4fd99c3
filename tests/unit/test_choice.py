"""The choice of a study's series for segmentation: rules, scores, reasons, and the dry run."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dicom_config.errors import ConfigError
from dicom_config.model import load_settings
from dicom_config.rules import RulesSection, SeriesRule
from tests.support.intake import context_in, received
from tests.support.series import affine_of, edit_all, noise_hu
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Transition, utc_now
from uair_node.cli import app
from uair_node.context import Context
from uair_node.dicom.headers import read_headers
from uair_node.intake.assembly import assemble
from uair_node.intake.choice import read_facts, score_series
from uair_node.intake.inbox import Inbox
from workers.phantoms.ct_series import write_ct_series

RULES = {
    "per_study": 1,
    "min_score": 1,
    "series": [
        {"name": "portal venous", "score": 10, "description": r"portal|venous|\bpv\b"},
        {"name": "venous delay", "score": 8, "contrast": True, "delay_s": {"min": 55, "max": 100}},
        {"name": "arterial", "score": 3, "description": "arter"},
        {"name": "thin", "score": 2, "slice_thickness_mm": {"max": 3}},
        {"name": "sharp kernel", "score": -5, "kernel": "^(B|Br)[67]"},
        {"name": "lung", "exclude": True, "description": "lung|thorax"},
        {"name": "whole liver", "score": 1, "coverage_mm": {"min": 70}},
    ],
}


def series(
    folder: Path, number: int, study: str = "2.25.7", slices: int = 16, **attributes: object
) -> list[Path]:
    hu = noise_hu((slices, 16, 16), number)
    paths = write_ct_series(
        folder / str(number),
        hu,
        affine_of(),
        study_instance_uid=study,
        series_instance_uid=f"{study}.{number}",
        series_number=number,
        series_description="",
    )
    return edit_all(paths, **{"SliceThickness": "5", **attributes})


def score(paths: list[Path], section: RulesSection | None = None) -> tuple[float, str]:
    made = score_series(read_facts(read_headers(paths)), section or RulesSection(**RULES))
    return made.value, made.reason


@pytest.mark.parametrize(
    ("attributes", "value", "reason"),
    [
        ({"SeriesDescription": "Abd PV 5.0"}, 11, "portal venous +10, whole liver +1: score 11"),
        ({"ProtocolName": "VENOUS"}, 11, "portal venous +10, whole liver +1: score 11"),
        ({"SeriesDescription": "previous"}, 1, "whole liver +1: score 1"),
        (
            {"SliceThickness": "1.5", "ConvolutionKernel": "B70f"},
            -2,
            "thin +2, sharp kernel -5, whole liver +1",
        ),
        ({"ConvolutionKernel": ["Br40d", "3"]}, 1, "whole liver +1"),
        (
            {"ContrastBolusAgent": "x", "ContrastBolusStartTime": "115830", "AcquisitionTime": "115940.5"},
            9,
            "venous delay +8, whole liver +1",
        ),
        (
            {"ContrastBolusAgent": "x", "ContrastBolusStartTime": "235930", "AcquisitionTime": "000040"},
            9,
            "venous delay +8",
        ),
        (
            {"ContrastBolusAgent": "x", "ContrastBolusStartTime": "115900", "AcquisitionTime": "115930"},
            1,
            "whole liver +1",
        ),
        ({"ContrastBolusStartTime": "115830", "AcquisitionTime": "115940"}, 1, "whole liver +1"),
        ({"ContrastBolusAgent": "x"}, 1, "whole liver +1"),
    ],
)
def test_a_series_scores_by_its_headers(
    tmp_path: Path, attributes: dict[str, object], value: float, reason: str
) -> None:
    found, words = score(series(tmp_path, 1, **attributes))
    assert found == value
    assert reason in words


def test_what_no_rule_matches_says_so(tmp_path: Path) -> None:
    assert score(series(tmp_path, 1, slices=12)) == (0, "no rule matches: score 0")


@pytest.mark.parametrize("modality", ["CT", "^ct$"])
def test_modality_is_matched_like_the_rest(tmp_path: Path, modality: str) -> None:
    section = RulesSection(series=(SeriesRule(name="ct", score=1, modality=modality),))
    assert score(series(tmp_path, 1), section)[0] == 1
    assert score(series(tmp_path, 2, Modality="MR"), section)[0] == 0


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"name": "a", "score": 1}, "needs a condition"),
        ({"name": "a", "modality": "CT"}, "needs a score or `exclude`"),
        ({"name": "a", "modality": "CT", "score": 1, "exclude": True}, "needs a score or `exclude`"),
        ({"name": "a", "score": 1, "description": "("}, "not a regular expression"),
        ({"name": "a", "score": 1, "delay_s": {"min": 2, "max": 1}}, "`min` is greater than `max`"),
    ],
)
def test_a_wrong_rule_is_answered_with_its_key(tmp_path: Path, rule: dict[str, object], words: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"rules": {"series": [rule]}}), "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(site)
    assert "rules.series.0" in caught.value.sentence
    assert words in caught.value.sentence


def _receive(context: Context, *paths: list[Path]) -> None:
    inbox = Inbox(context)
    for path in (path for copy in paths for path in copy):
        inbox.receive(received(path))


def _quiet(context: Context, *series_uids: str) -> None:
    with context.database.transaction() as session:
        for case in session.query(Case):
            if not series_uids or case.series_instance_uid in series_uids:
                case.last_instance_at = utc_now() - timedelta(seconds=30)


def _states(context: Context) -> dict[str, tuple[str, str]]:
    with context.database.transaction() as session:
        return {case.series_instance_uid[-1]: (case.state.value, case.code) for case in session.query(Case)}


def _context(folder: Path, rules: dict[str, object]) -> AbstractContextManager[Context]:
    intake = {"quiet_s": 20, "max_wait_s": 60, "min_free_bytes": 0}
    return context_in(folder / "data", f"sqlite:///{folder / 'u.sqlite'}", intake=intake, rules=rules)


def test_the_best_series_of_a_study_is_segmented_and_all_say_why(tmp_path: Path) -> None:
    with _context(tmp_path, RULES) as context:
        _receive(
            context,
            series(tmp_path, 1, SeriesDescription="arterial"),
            series(tmp_path, 2, SeriesDescription="portal"),
            series(tmp_path, 3, SeriesDescription="lung"),
            series(tmp_path, 4, slices=12),
            series(tmp_path, 5, study="2.25.8", SeriesDescription="arterial"),
        )
        _quiet(context)
        assemble(context)
        assert _states(context) == {
            "1": (CaseState.REJECTED, "other-series-chosen"),
            "2": (CaseState.READY, ""),
            "3": (CaseState.REJECTED, "excluded-by-rule"),
            "4": (CaseState.REJECTED, "score-too-low"),
            "5": (CaseState.READY, ""),
        }
        with context.database.transaction() as session:
            chosen = session.query(Case).filter_by(series_instance_uid="2.25.7.2").one()
            told = session.query(Transition).filter_by(case_id=chosen.id, state=CaseState.READY).one()
            assert told.reason == "16 slices, regular; portal venous +10, whole liver +1: score 11"
            other = session.query(Case).filter_by(series_instance_uid="2.25.7.1").one()
            assert "arterial +3" in other.sentence
            assert "portal venous +10" in other.sentence


def test_a_series_waits_for_the_rest_of_its_study(tmp_path: Path) -> None:
    with _context(tmp_path, RULES) as context:
        _receive(context, series(tmp_path, 1, SeriesDescription="arterial"))
        better = series(tmp_path, 2, SeriesDescription="portal")
        _receive(context, better[:12])
        _quiet(context, "2.25.7.1")
        assemble(context)
        assert _states(context)["1"] == (CaseState.RECEIVING, "")
        _receive(context, better[12:])
        _quiet(context)
        assemble(context)
        assert _states(context) == {
            "1": (CaseState.REJECTED, "other-series-chosen"),
            "2": (CaseState.READY, ""),
        }


def test_a_later_series_finds_the_place_taken(tmp_path: Path) -> None:
    with _context(tmp_path, RULES) as context:
        for number, description in ((1, "arterial"), (2, "portal")):
            _receive(context, series(tmp_path, number, SeriesDescription=description))
            _quiet(context)
            assemble(context)
        assert _states(context)["1"] == (CaseState.READY, "")
        assert _states(context)["2"] == (CaseState.REJECTED, "other-series-chosen")


def test_without_rules_everything_that_passes_is_segmented(tmp_path: Path) -> None:
    with _context(tmp_path, {}) as context:
        _receive(context, series(tmp_path, 1), series(tmp_path, 2))
        _quiet(context)
        assemble(context)
        assert set(_states(context).values()) == {(CaseState.READY, "")}


def test_the_dry_run_shows_what_would_run_and_why(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"rules": RULES}), "utf-8")
    study = tmp_path / "study"
    series(study, 1, SeriesDescription="arterial")
    series(study, 2, SeriesDescription="portal [x]")
    series(study, 3, slices=4)
    (study / "readme.txt").write_text("no DICOM", "utf-8")
    run = ["rules", "try", str(study), "--config", str(site)]
    result = CliRunner().invoke(app, [*run, "--json"])
    assert result.exit_code == 0, result.output
    told = {load["series_number"]: (load["runs"], load["code"]) for load in json.loads(result.stdout)}
    assert told == {1: (False, "other-series-chosen"), 2: (True, ""), 3: (False, "too-few-slices")}
    table = CliRunner().invoke(app, run, env={"COLUMNS": "200"})
    assert "portal [x]" in table.stdout
    assert "portal venous +10" in table.stdout
