"""A whole evaluation on a small phantom, and what the tables are made of."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from dicom_config.errors import ConfigError
from dicom_config.model import EngineSection
from workers.models.slice_networks import NAMES, build_slice_network
from workers.models.weights import save_weights
from workers.phantoms import PLAIN
from workers.research.evaluation.cli import evaluate as evaluate_command
from workers.research.evaluation.detection import detect, summed
from workers.research.evaluation.discover import find_cases
from workers.research.evaluation.evaluate import EvaluationOptions
from workers.research.evaluation.evaluated_cases import EvaluationCase, NiftiSource, PhantomSource
from workers.research.evaluation.fixed_preferences import wishes
from workers.research.evaluation.intervals import estimate
from workers.research.evaluation.json_report import as_json
from workers.research.evaluation.reader import one_for_all
from workers.research.evaluation.remember import RememberingPredictor, Stopwatch
from workers.research.evaluation.report import Grid, Header, as_markdown
from workers.research.evaluation.results import CaseResult, Method, PreferenceRun, compared
from workers.research.evaluation.run_cases import FIRST_PASS, Skipped, evaluate, learned
from workers.research.evaluation.single import GivenLesion, given_box
from workers.research.evaluation.table import differences, offers, preferences, rows, rule_differences
from workers.research.evaluation.views import write_pictures
from workers.research.evaluation.whole import Drawn, measures_of_found, opened
from workers.research.evaluation.workbench import COMPARED, RULES, build_workbench
from workers.site_engine import build_engine
from workers.uair.prompts import Prompts

HEADER = Header("1 phantom", 1, (), 4, 8, "embedded", "learned", "ab" * 32, {}, "0", "2026-01-05")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[CaseResult]:
    """One small phantom; U-Net and TransUNet have random weights."""
    pytest.importorskip("monai")
    folder = tmp_path_factory.mktemp("baselines")
    for name in NAMES:
        save_weights(build_slice_network(name), folder / f"{name}.safetensors")
    section = EngineSection(device="cpu", members=8, max_lesions=1)
    options = EvaluationOptions(rounds=2, seed=1, views=True, baselines=folder)
    found, skipped = evaluate([PhantomSource(4, "small", PLAIN)], section, options)
    assert not skipped
    return found


def dsc(results: list[CaseResult], method: str, target: str, rule: str | None = None) -> float:
    return next(
        row.dsc.mean
        for row in rows(results)
        if (row.method.name, row.target, row.method.rule) == (method, target, rule)
    )


@pytest.mark.parametrize(("width", "columns"), [(80, 7), (200, 13), (20, 1)])
def test_a_table_on_the_terminal_cuts_and_loses_no_word(width: int, columns: int) -> None:
    names = ("target", "method", "rule", "n", "DSC [95 % CI]", "Jaccard", "ASSD mm", "HD95 mm", "s", "picks")
    names += ("automatic", "interactable", "reader s")
    cells = ("tumour", "UAIR, 3 rounds", "belief", "40", "0.812 [0.790, 0.831]", ".69", "1.2", "7.3", "2")
    cells += ("2.0", "yes", "", "28")
    file = io.StringIO()
    Grid("Methods", names, (cells,)).print(Console(file=file, width=width))
    title, head, *lines = file.getvalue().rstrip().splitlines()
    assert title == "Methods"
    assert head.split() == " ".join(names[:columns]).split()
    if columns > 1:
        assert max(map(len, (head, *lines))) <= width
    named = [f"{name}: {cell}" for name, cell in list(zip(names, cells, strict=True))[columns:] if cell]
    assert " ".join(lines).split() == f"{' '.join(cells[:columns])} {', '.join(named)}".split()


def test_every_method_has_its_row_for_every_target(results: list[CaseResult]) -> None:
    expected = {(name, None) for name in (*NAMES, "manual", "auto", "ensemble")}
    expected |= {(name, rule) for name in ("uair1", "uair2") for rule in RULES}
    whole = {("ensemble_offered", None), ("finder", None)}
    for target in ("liver", "lesion", "tumour"):
        named = {(row.method.name, row.method.rule) for row in rows(results) if row.target == target}
        assert named == expected | (whole if target != "lesion" else set()), target


def test_other_readers_meet_both_the_default_rule_and_medoids(results: list[CaseResult]) -> None:
    played = {(name, rule) for name in ("uair1", "uair2") for rule in COMPARED}
    for reader, targets in (("noisy", {"liver", "lesion", "tumour"}), ("whole", {"liver", "tumour"})):
        found = rows(results, reader)
        assert {(row.method.name, row.method.rule) for row in found} == played
        assert {row.target for row in found} == targets


def test_rules_are_compared_pair_by_pair(results: list[CaseResult]) -> None:
    found = {
        (
            difference.method.name,
            difference.method.reader,
            difference.target,
            difference.other,
        ): difference.dsc.mean
        for difference in rule_differences(results)
    }
    expected = dsc(results, "uair2", "lesion", "belief") - dsc(results, "uair2", "lesion", "medoids")
    assert found["uair2", "best", "lesion", "medoids"] == pytest.approx(expected)
    assert ("uair2", "whole", "liver", "medoids") in found


def test_every_round_says_what_it_offers_and_what_it_doubts(results: list[CaseResult]) -> None:
    found = offers(results)
    assert [(row.method.name, row.method.rule) for row in found] == [
        (name, rule) for rule in RULES for name in ("uair1", "uair2")
    ]
    for row in found:
        assert 0 < row.between < 1
        assert 0 <= row.entropy <= 2
        assert 0 <= row.covered <= 1
        assert 0 <= row.precise <= 1
        assert row.corrected >= dsc(results, row.method.name, "lesion", row.method.rule) - 1e-9


def test_figures_are_plausible_and_picks_are_counted(results: list[CaseResult]) -> None:
    assert dsc(results, "manual", "liver") > 0.8
    assert dsc(results, "ensemble", "liver") > 0.6
    assert dsc(results, "manual", "lesion") > dsc(results, "auto", "lesion")
    picks = {(row.method.name, row.target): row.picks for row in rows(results)}
    assert picks["uair2", "liver"] == picks["uair2", "lesion"] == 2
    assert picks["auto", "lesion"] == picks["ensemble", "liver"] == 0
    assert picks["manual", "liver"] > 10
    told = {(row.method.name, row.target): row for row in rows(results)}
    assert told["uair2", "liver"].interactable
    assert told["uair2", "liver"].interactive_s == 28.0
    assert not told["finder", "liver"].interactable
    assert dsc(results, "finder", "liver") > 0.6


def test_a_pick_loses_nothing_from_round_to_round(results: list[CaseResult]) -> None:
    for rule in ("belief", "medoids", "max_variance"):
        for target in ("liver", "lesion"):
            assert dsc(results, "uair2", target, rule) >= dsc(results, "uair1", target, rule) - 1e-9


def test_only_boxes_drawn_make_a_row_unautomatic(results: list[CaseResult]) -> None:
    automatic = {(row.method.name, row.target): row.automatic for row in rows(results)}
    assert automatic["uair2", "tumour"]
    assert not automatic["manual", "tumour"]
    assert not automatic["uair1", "lesion"]


def test_a_reader_of_fixed_preference_ends_nearer_to_the_wish(
    results: list[CaseResult],
) -> None:
    found = preferences(results)
    assert {row.preference for row in found} == {"truth", "+2 mm", "-2 mm"}
    assert all(row.last >= row.first for row in found)
    assert all(1 <= row.rounds.mean <= 4 for row in found)


def test_what_is_evaluated_is_the_engine_that_a_site_runs() -> None:
    """With its lesion finder; only the rule of choice differs."""
    section = EngineSection(device="cpu", members=8)
    bench = build_workbench(section)
    site = build_engine(section)
    assert {engine.model_digest for engine in bench.engines.values()} == {bench.digest} == {site.model_digest}
    case = PhantomSource(4, "small", PLAIN).load()
    made, ours = site.first_round(case.hu, case.spacing_mm), bench.engines[section.rule].first_round
    for candidate, other in zip(made.candidates, ours(case.hu, case.spacing_mm).candidates, strict=True):
        np.testing.assert_array_equal(candidate.labels, other.labels)


def test_a_reader_is_remembered_by_all_cases_but_the_one_at_hand(results: list[CaseResult]) -> None:
    def case(name: str, millimetres: float) -> CaseResult:
        runs = tuple(PreferenceRun(name, value, "+2 mm", False, (0.8,), millimetres) for value in (2, 3))
        return replace(results[0], case=name, preferences=runs)

    read = [case(name, mm) for name, mm in (("a", 2.0), ("b", 2.2), ("c", 1.8), ("d", -3.0))]
    assert learned(read, "d")["+2 mm"] == pytest.approx(1.7, abs=0.3)
    assert learned(read, "a")["+2 mm"] < 0.5
    assert learned(read[:1], "a") == {"+2 mm": 0.0}


def test_what_is_remembered_brings_a_reader_nearer_in_round_1() -> None:
    """The reader who draws 2 mm more finds that among the four at once, if it is remembered."""
    bench = build_workbench(EngineSection(device="cpu", members=8))
    case = PhantomSource(4, "small", PLAIN).load()
    lesion = GivenLesion(case, 2, given_box(case, 2, 0), bench, 0)
    wish = next(wish for wish in wishes(lesion.truth, case.spacing_mm, None) if wish.preference == "+2 mm")
    unknown, known = lesion.seek(wish, "medoids"), lesion.seek(wish, "medoids", 2.0)
    assert (unknown.prior, known.prior) == (False, True)
    assert known.dices[0] > unknown.dices[0]
    assert unknown.difference_mm > 0


def test_a_second_rules_first_round_takes_as_long_as_the_first_rules() -> None:
    """Images that the engine has seen already count with the time that they took then."""
    bench = build_workbench(EngineSection(device="cpu", members=8, max_lesions=0))
    case = PhantomSource(4, "small", PLAIN).load()
    encoding = bench.predictor._encoded
    assert opened(case, bench, "medoids").first is not None
    assert encoding.saved_s == 0
    opened(case, bench, "medoids")
    assert encoding.saved_s == pytest.approx(sum(seconds for _, seconds, _ in encoding._answers.values()))


def test_a_lesion_of_two_voxels_goes_all_ways() -> None:
    bench = build_workbench(EngineSection(device="cpu", members=8))
    case = PhantomSource(4, "small", PLAIN).load()
    truth = case.truth.copy()
    z, y, x = np.argwhere(truth == 1)[len(np.argwhere(truth == 1)) // 2]
    truth[z, y, x : x + 2] = 9
    tiny = replace(case, truth=truth)
    lesion = GivenLesion(tiny, 9, given_box(tiny, 9, 0), bench, 0)
    found = [
        *lesion.baselines(),
        lesion.ensemble(),
        *(measure for measure, _ in lesion.play("max_variance", 2)),
    ]
    assert [entry.method.name for entry in found] == ["manual", "auto", "ensemble", "uair1", "uair2"]
    for wish in wishes(lesion.truth, tiny.spacing_mm, None):
        for remembered in (None, -2.0, 2.0):
            assert lesion.seek(wish, "medoids", remembered).dices


def test_differences_are_paired_with_the_last_round(results: list[CaseResult]) -> None:
    found = {
        (difference.target, difference.rule, difference.other): difference.dsc.mean
        for difference in differences(results)
    }
    expected = dsc(results, "uair2", "lesion", "medoids") - dsc(results, "manual", "lesion")
    assert found["lesion", "medoids", "manual"] == pytest.approx(expected)


def test_json_has_the_published_schema(results: list[CaseResult]) -> None:
    found = json.loads(json.dumps(as_json(HEADER, results)))
    named = {row["method"] for row in found["rows"]}
    assert named == {"unet", "transunet", "manual", "auto", "ensemble", "ensemble_offered", "finder", "uair1"}
    for row in found["rows"]:
        assert {"method", "rule", "target", "automatic", "n", "dsc", "jaccard", "seconds"} <= set(row)
        assert row["target"] in ("liver", "lesion", "tumour")
        assert 0 <= row["jaccard"] <= row["dsc"] <= 1
    assert set(found["detection"]["round1"]["recall"]) == {"<10", "10-20", ">20"}
    assert found["digest"] == HEADER.digest
    assert "not a medical device" in found["disclaimer"]


def test_markdown_holds_header_and_rows(results: list[CaseResult]) -> None:
    text = as_markdown(HEADER, results)
    assert text.startswith(
        "1 phantom: 1 cases, seed 4, 2026-01-05; N = 8, model embedded with localizer learned aba"
    )
    assert "| liver | UAIR, 2 rounds | max_variance |" in text
    assert "not a medical device" in text


def test_pictures_show_the_best_and_the_worst(results: list[CaseResult], tmp_path: Path) -> None:
    written = write_pictures(tmp_path, results)
    assert {path.name for path in written} >= {"liver-worst.png", "liver-best.png"}
    assert all(path.stat().st_size > 10_000 for path in written)


def test_a_real_unenhanced_ct_without_lesions_has_liver_rows_only(ct_dir: Path) -> None:
    pytest.importorskip("nibabel")
    sources = find_cases([ct_dir / "totalsegmentator_example" / "example_ct.nii.gz"])
    section = EngineSection(device="cpu", members=8, max_lesions=1)
    found, _ = evaluate(sources, section, EvaluationOptions(rounds=1))
    assert {row.target for row in rows(found)} == {"liver"}
    assert dsc(found, "manual", "liver") > 0.8
    assert dsc(found, "uair1", "liver", "medoids") > 0.5
    seen = as_json(HEADER, found)["detection"]["round1"]
    assert seen["cases_without_lesions"] == 1
    assert seen["recall_10mm_at_2_false_positives"] is None
    assert preferences(found) == []


def test_processes_report_in_order_and_leave_out_what_cannot_be_read(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    sources = [NiftiSource(name, tmp_path / f"{name}.nii", tmp_path / "seg.nii") for name in "abc"]
    for source in sources:
        source.ct.write_bytes(b"no NIfTI")
    done: list[float] = []
    found, skipped = evaluate(
        sources,
        EngineSection(device="cpu", threads=1),
        EvaluationOptions(),
        jobs=2,
        progress=lambda part, _: done.append(part),
    )
    assert found == []
    assert [entry.case for entry in skipped] == ["a", "b", "c"]
    assert all("nifti-unreadable" in entry.reason for entry in skipped)
    assert done == pytest.approx([FIRST_PASS / 3, FIRST_PASS * 2 / 3, FIRST_PASS, 1.0])


def test_the_interval_draws_whole_cases() -> None:
    values, cases = [0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"]
    found = estimate(values, cases)
    assert found.mean == 0.25
    assert (found.low, found.high) == (0.0, 1.0)
    assert estimate([0.3, 0.5], ["a", "a"]).low is None
    with pytest.raises(ValueError, match="0 values"):
        estimate([], [])


def test_the_interval_covers_the_mean_in_about_95_of_100_experiments() -> None:
    rng = np.random.default_rng(1)
    names = [str(n) for n in range(40)]
    covered = 0
    for _ in range(200):
        found = estimate(rng.normal(0.7, 0.1, 40).tolist(), names)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def case_of(truth: np.ndarray) -> EvaluationCase:
    return EvaluationCase("x", np.zeros(truth.shape, np.int16), (2.0, 2.0, 2.0), truth)


def test_phantoms_know_their_rims_and_are_of_the_test_setting() -> None:
    case = PhantomSource(9, "small", PLAIN).load()
    assert case.rims_mm == {}
    assert case.lesions == (2, 3)
    with_rims = [PhantomSource(seed, "small").load() for seed in (5000, 5001, 5002)]
    assert any(case.rims_mm for case in with_rims)
    assert all(0 < rim < 10 for case in with_rims for rim in case.rims_mm.values())


def test_lesions_are_found_or_invented_by_overlap() -> None:
    truth = np.zeros((20, 30, 30), np.uint8)
    truth[2:18, 2:28, 2:28] = 1
    truth[4:12, 4:12, 4:12] = 2  # 8 voxels of 2 mm a side: 19.9 mm as a sphere
    truth[14:16, 20:22, 20:22] = 3  # 5.0 mm
    labels = truth.copy()
    labels[labels == 3] = 1
    labels[6:10, 20:24, 20:24] = 4
    found = detect(case_of(truth), labels, {2: 0.9, 4: 0.6})
    assert found.diameters_mm == pytest.approx((19.85, 4.96), abs=0.01)
    assert found.confidence == (0.9, None)
    assert found.false_confidence == (0.6,)
    total = summed([found])
    assert total.recall == {"<10": (0, 1), "10-20": (1, 1), ">20": (0, 0)}
    assert total.false_positives == 1.0


def test_lesions_found_are_measured_one_by_one_and_tight_boxes_on_the_same() -> None:
    truth = np.zeros((20, 30, 30), np.uint8)
    truth[4:12, 4:12, 4:12] = 2
    truth[4:12, 20:28, 20:28] = 3
    offered = np.where(truth == 2, 5, 0).astype(np.uint8)
    picked = offered.copy()
    picked[4:8] = 0
    case = case_of(truth)
    drawn = [
        Drawn(Method(name, "medoids"), labels, 1.0)
        for name, labels in (("uair1", offered), ("uair2", picked))
    ]
    boxes = [
        compared(
            "x",
            Method("manual"),
            "lesion",
            truth == 2,
            truth == value,
            (2.0,) * 3,
            seconds=1,
            picks=1,
            lesion=value,
        )
        for value in (2, 3)
    ]
    found = list(measures_of_found(case, drawn, offered, boxes))
    assert {(entry.target, entry.lesion) for entry in found} == {("found", 2)}
    assert {entry.method.name: entry.overlap.dice for entry in found} == pytest.approx(
        {"uair1": 1.0, "uair2": 2 / 3, "manual": 1.0}
    )
    assert not list(measures_of_found(case, drawn, np.zeros_like(offered), boxes))


def test_recall_at_two_false_positives_cuts_the_unsure() -> None:
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[1:5, 1:5, 1:5] = 2
    base = detect(case_of(truth), truth, {2: 0.5})
    crowd = type(base)("x", (12.0, 12.0), (0.5, 0.9), (0.8, 0.7, 0.6))
    assert summed([crowd]).large_recall_at_two == 0.5
    assert summed([crowd, base]).large_recall_at_two == 1.0


class Counting:
    """A predictor that counts how often it is asked."""

    name, digest, device, input_size, mask_size, whole_slice = "x", "0", "cpu", 4, 2, False
    asked = 0

    def encode(self, hu: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
        self.asked += 1
        return hu

    def decode(self, embeddings: np.ndarray, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        self.asked += 1
        return np.zeros((len(prompts), 4, 2, 2), np.float32), np.zeros((len(prompts), 4), np.float32)

    def parts_of(self, embeddings: np.ndarray) -> tuple[torch.Tensor, ...]:
        return (torch.from_numpy(embeddings),)

    def from_parts(self, parts: tuple[torch.Tensor, ...]) -> np.ndarray:
        return parts[0].numpy()


def test_the_same_question_is_answered_once_and_its_time_is_kept() -> None:
    inner = Counting()
    predictor = RememberingPredictor(inner)
    slices = np.zeros((1, 4, 4), np.float32)
    prompts = Prompts(np.array([0]), np.array([[0, 0, 2, 2]], np.float32))
    predictor.decode(predictor.encode(slices, slices), prompts)
    watch = Stopwatch(predictor)
    predictor.decode(predictor.encode(slices, slices), prompts)
    assert inner.asked == 2
    assert predictor.saved_s > 0
    assert watch.seconds >= predictor.saved_s
    predictor.decode(predictor.encode(slices, slices + 1), prompts)
    assert inner.asked == 4
    predictor.forget()
    predictor.encode(slices, slices)
    assert inner.asked == 5


def invoked(arguments: list[str]) -> Result:
    app = typer.Typer()
    app.command()(evaluate_command)
    return CliRunner().invoke(app, arguments)


def test_the_command_prints_whole_tables_and_writes_what_is_asked_for(
    results: list[CaseResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(
        *_given: object, progress: Callable[..., Any], **_named: object
    ) -> tuple[list[CaseResult], list[Skipped]]:
        for part, what in ((0.0, "loading"), (0.2, "liver"), (0.5, "lesions")):
            progress(part, f"case 1 of 1: {what}")
        return results, [Skipped("broken", "truth-grid")]

    monkeypatch.setattr("workers.research.evaluation.run_cases.evaluate", told)
    files = {name: str(tmp_path / name) for name in ("markdown", "json", "pictures")}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    ended = invoked(["--phantoms", "1", "--seed", "4", *options])
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.count("case 1 of 1") == 1
    assert "not a medical device" in " ".join(ended.output.split())
    assert "Skipped broken: truth-grid" in ended.output
    assert "max_variance" in ended.output
    assert "…" not in ended.output
    assert "| tumour |" in (tmp_path / "markdown").read_text("utf-8")
    assert json.loads((tmp_path / "json").read_text("utf-8"))["seed"] == 4
    assert (tmp_path / "pictures" / "liver-worst.png").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["somewhere", "--phantoms", "2"], ["--masks", "x", "--phantoms", "1"]]
)
def test_the_command_wants_data_or_phantoms(arguments: list[str]) -> None:
    ended = invoked(arguments)
    assert isinstance(ended.exception, ConfigError)
    assert ended.exception.code == "evaluation-input"


def test_a_reader_of_whole_candidates_takes_the_best_mean_of_liver_and_tumour() -> None:
    truth = np.zeros((8, 10, 10), np.uint8)
    truth[1:7, 1:9, 1:9] = 1
    truth[2:6, 2:6, 2:6] = 2
    no_lesion = np.where(truth > 0, 1, 0).astype(np.uint8)
    half_a_liver = truth.copy()
    half_a_liver[:, 7:] = 0
    assert one_for_all([no_lesion, half_a_liver, truth], truth, (1, 2)) == {1: 3, 2: 3}
    assert one_for_all([no_lesion, half_a_liver], truth, (1, 2)) == {1: 2, 2: 2}
