"""Convert the evaluation's tables, and the Dice of each case and lesion, to JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from workers.research.evaluation import table
from workers.research.evaluation.detection import HIT_IOU, Detection
from workers.research.evaluation.intervals import Estimate
from workers.research.evaluation.report import DISCLAIMER, Header, detections
from workers.research.evaluation.results import CaseResult

_JSON_METHODS = (
    "manual",
    "auto",
    "ensemble",
    "ensemble_offered",
    "finder",
    "uair1",
    "uair3",
    "unet",
    "transunet",
)


def as_json(header: Header, results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the header, all tables and the Dice of each case and lesion as JSON values.

    The key `rows` has the results of the paper's methods. The key `rounds` has the results of every round.
    The key `found` has the results of all methods on the lesions that the engine found by itself.
    """
    every = [_json_row(row) for row in table.rows(results)]
    rows = [row for row in every if row["target"] != "found"]
    return {
        **asdict(header),
        "disclaimer": DISCLAIMER,
        "rows": [row for row in rows if row["method"] in _JSON_METHODS],
        "rounds": [row for row in rows if row["method"].startswith("uair")],
        "found": [row for row in every if row["target"] == "found"],
        "noisy_reader": [_json_row(row) for row in table.rows(results, "noisy")],
        "whole_case_reader": [_json_row(row) for row in table.rows(results, "whole")],
        "parts_reader": [_json_row(row) for row in table.rows(results, "parts")],
        "measuring_reader": [_json_row(row) for row in table.rows(results, "measuring")],
        "strokes": asdict(found) if (found := table.strokes(results)) else None,
        "rule_differences": [
            {
                "target": difference.target,
                "method": difference.method.name,
                "reader": difference.method.reader,
                "minus": difference.other,
                "n": difference.n,
                **_json("dsc", difference.dsc),
            }
            for difference in table.rule_differences(results)
        ],
        "offers": [
            {**asdict(row), "method": row.method.name, "rule": row.method.rule}
            for row in table.offers(results)
        ],
        "differences": [
            {
                "target": difference.target,
                "rule": difference.rule,
                "minus": difference.other,
                "n": difference.n,
                **_json("dsc", difference.dsc),
            }
            for difference in table.differences(results)
        ],
        "preferences": [
            {
                "preference": preference.preference,
                "prior": preference.prior,
                "n": preference.n,
                **_json("rounds", preference.rounds),
                "reached": preference.reached,
                "dsc_round_1": preference.first,
                "dsc_end": preference.last,
            }
            for preference in table.preferences(results)
        ],
        "detection": {
            name: _json_detection(found)
            for name, (_, found) in zip(("round1", "last_round"), detections(results), strict=True)
        },
        "cases_dsc": list(_cases(results)),
    }


def _json_row(row: table.Row) -> dict[str, Any]:
    return {
        "method": row.method.name,
        "rule": row.method.rule,
        "target": row.target,
        "automatic": row.automatic,
        "n": row.n,
        "cases": row.cases,
        **_json("dsc", row.dsc),
        **_json("jaccard", row.jaccard),
        "assd_mm": row.average_surface_mm,
        "hd95_mm": row.hd95_mm,
        "seconds": row.seconds,
        "picks": row.picks,
        "interactable": row.interactable,
        "interactive_s": row.interactive_s,
    }


def _json(name: str, value: Estimate) -> dict[str, Any]:
    return {name: value.mean, f"{name}_ci": None if value.low is None else [value.low, value.high]}


def _json_detection(found: Detection) -> dict[str, Any]:
    return {
        "hit_iou": HIT_IOU,
        "recall": {
            name: {"found": hit, "of": of, "recall": hit / of if of else None}
            for name, (hit, of) in found.recall.items()
        },
        "false_positives_per_case": found.false_positives,
        "recall_10mm_at_2_false_positives": found.large_recall_at_two,
        "cases": found.cases,
        "cases_without_lesions": found.without_lesions,
        "false_positives_per_case_without_lesions": found.false_positives_without_lesions,
    }


def _cases(results: Sequence[CaseResult]) -> Iterator[dict[str, Any]]:
    for result in results:
        for measure in result.measures:
            yield {
                "case": measure.case,
                "method": measure.method.name,
                "rule": measure.method.rule,
                "reader": measure.method.reader,
                "target": measure.target,
                "lesion": measure.lesion - 1 if measure.lesion else None,
                "dsc": measure.overlap.dice,
            }
