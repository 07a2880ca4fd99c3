"""Make the record of a case for an export: numbers, times, states and codes.

This module has the allow-list of keys for `case.json` and for the arrays of a round. A text stays only if it
is a word of the product: a state, a code or a digest. The list has no names of people, hosts, AE titles or
destinations, and no reasons, causes or descriptions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from dicom_config.model import Verb
from uair_node.cases.states import CaseState
from uair_node.cases.tables import MARKS, DeliveryState, ResultKind, SelectionOutcome, WorkKind
from uair_node.dicom.graphics import Shape
from uair_node.dicom.readers import Mechanism
from uair_node.operations.housekeeping.anonymous import Pseudonyms
from uair_node.storage.artifacts import save_arrays

_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{16,64}", re.ASCII)
_ARRAY = re.compile(r"[a-z]+\d*(_[a-z]+)*", re.ASCII)
_TARGET = re.compile(r"\d+( [a-z]+)?", re.ASCII)
_MECHANISMS = (*Mechanism, "edited-seg", MARKS, "command-line", "console", "unknown")


def kept_record(record: dict[str, Any], start: datetime, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return the kept part of a case's report (`reports.detail`), with times as seconds since `start`."""

    def uid(value: Any) -> Any:
        return pseudonyms.uid(str(value))

    def seconds(value: Any) -> float:
        moment = datetime.fromisoformat(str(value).removesuffix("Z"))
        return (moment - start.replace(microsecond=0)).total_seconds()

    marked_lesion = {
        "value": _number,
        "new": _number,
        "size_mm": _number,
        "marks": [{"shape": _word(*Shape), "points": _numbers}],
    }
    kept: dict[str, Any] = _keep(
        record,
        {
            "case": _number,
            "state": _word(*CaseState),
            "round": _number,
            "slices": _number,
            "series_instance_uid": uid,
            "study_instance_uid": uid,
            "created_at": seconds,
            "updated_at": seconds,
            "code": _code,
            "assumed": [_code],
            "rounds": [
                {
                    "round": _number,
                    "model_digest": _digest,
                    "created_at": seconds,
                    "computed_at": seconds,
                    "published_at": seconds,
                    "compute_seconds": _number,
                    "results": [
                        {
                            "kind": _word(*ResultKind),
                            "k": _number,
                            "sop_instance_uid": uid,
                            "series_instance_uid": uid,
                            "volumes_ml": {"liver": _number, "lesions": _numbers},
                            "deliveries": [{"state": _word(*DeliveryState), "attempts": _number}],
                        }
                    ],
                }
            ],
            "own_objects_returned": _number,
            "selections": [
                {
                    "at": seconds,
                    "round": _number,
                    "verb": _word(*Verb),
                    "picked": _number,
                    "per_target": _by_target,
                    "marks": {
                        "lesions": [marked_lesion],
                        "drops": [marked_lesion],
                        "left_out": [_code],
                        "picked": _number,
                    },
                    "mechanism": _word(*_MECHANISMS),
                    "outcome": _word(*SelectionOutcome),
                    "code": _code,
                }
            ],
            "due": [
                {"kind": _word(*WorkKind), "attempts": _number, "held_until": seconds, "not_before": seconds}
            ],
            "history": [{"at": seconds, "from": _word(*CaseState), "to": _word(*CaseState)}],
        },
    )
    return kept


def kept_arrays(path: Path) -> bytes:
    """Return the arrays of a round's file. Numbers stay unchanged, texts become empty.

    Raises
    ------
    ValueError, OSError, zipfile.BadZipFile
        The file is damaged.
    """
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: _kept_array(name, data[name]) for name in data.files if _ARRAY.fullmatch(name)}
    buffer = BytesIO()
    save_arrays(buffer, **arrays)
    return buffer.getvalue()


def _kept_array(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "biuf":
        return array
    if name == "header":  # JSON of the segmentation method
        return np.array(json.dumps(_numbers(json.loads(str(array)))))
    return np.zeros(array.shape, "<U1")


def _keep(value: Any, shape: Any) -> Any:
    """Return the part of a value that `shape` allows; None if `shape` does not allow the value."""
    if value is None:
        return None
    if isinstance(shape, dict):
        found = value if isinstance(value, dict) else {}
        return {key: _keep(found[key], inner) for key, inner in shape.items() if key in found}
    if isinstance(shape, list):
        kept = [_keep(item, shape[0]) for item in value] if isinstance(value, list) else []
        return [item for item in kept if item is not None]
    try:
        return shape(value)
    except (ValueError, TypeError):
        return None


def _number(value: Any) -> int | float:
    if isinstance(value, (bool, int, float)):
        return value
    raise ValueError("not a number")


def _numbers(value: Any) -> Any:
    """Return only the numbers and digests of nested lists and mappings. Keys are words of the product."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items() if _ARRAY.fullmatch(key)}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, str):
        return value if _DIGEST.fullmatch(value) else ""
    return value


def _by_target(value: Any) -> dict[str, int | float]:
    """Return only the values of targets and of their parts: ``{"2": 1, "2 upper": 4}``."""
    if not all(_TARGET.fullmatch(str(key)) for key in dict(value)):
        raise ValueError("not a target")
    return {key: _number(inner) for key, inner in dict(value).items()}


def _word(*words: StrEnum | str) -> Callable[[Any], str]:
    known = frozenset(map(str, words))

    def keep(value: Any) -> str:
        if str(value) not in known:
            raise ValueError("not a word of the product")
        return str(value)

    return keep


def _code(value: Any) -> str:
    if _CODE.fullmatch(str(value)) or value == "":
        return str(value)
    raise ValueError("not a code")


def _digest(value: Any) -> str:
    if _DIGEST.fullmatch(str(value)):
        return str(value)
    raise ValueError("not a digest")
