"""Count the true lesions that were found, by size, and the false findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workers.research.evaluation.evaluated_cases import EvaluationCase
from workers.research.evaluation.results import Detected
from workers.truth.metrics import FIRST_LESION, Labels

HIT_IOU = 0.1
"""Smallest intersection over union at which a prediction hits a lesion."""
SIZE_CLASSES_MM = (("<10", 0.0, 10.0), ("10-20", 10.0, 20.0), (">20", 20.0, np.inf))
LARGE_MM = 10.0
ALLOWED_FALSE = 2.0


def detect(case: EvaluationCase, labels: Labels, confidence: Mapping[int, float]) -> Detected:
    """Match the lesions of a label volume with the true lesions of the case.

    Parameters
    ----------
    labels
        ``(Z, Y, X)``.
    confidence
        Label value of a found lesion -> confidence of the engine. A label value without an entry has
        confidence 1.
    """
    hits: dict[int, list[float]] = {value: [] for value in case.lesions}
    false = []
    for value, found in _hits(case, labels):
        sure = confidence.get(value, 1.0)
        for true in found:
            hits[true].append(sure)
        if not found:
            false.append(sure)
    return Detected(
        case=case.name,
        diameters_mm=tuple(diameters_mm(case).values()),
        confidence=tuple(max(hits[true], default=None) for true in case.lesions),
        false_confidence=tuple(false),
    )


def diameters_mm(case: EvaluationCase) -> dict[int, float]:
    """Return label value of a true lesion -> diameter in mm of a sphere with its volume. Labels ascend."""
    voxel_mm3 = float(np.prod(case.spacing_mm))
    sizes = np.bincount(case.truth.ravel(), minlength=256)
    return {value: float(2 * (sizes[value] * voxel_mm3 * 0.75 / np.pi) ** (1 / 3)) for value in case.lesions}


def matched(case: EvaluationCase, labels: Labels) -> dict[int, int]:
    """Return label value of each found true lesion -> label value in `labels` with the highest IoU."""
    best: dict[int, tuple[float, int]] = {}
    for value, found in _hits(case, labels):
        for true, shared in found.items():
            best[true] = max(best.get(true, (0.0, 0)), (shared, value))
    return {true: value for true, (_, value) in best.items()}


def _hits(case: EvaluationCase, labels: Labels) -> Iterator[tuple[int, dict[int, float]]]:
    """Yield each lesion's label value in `labels`, and a mapping: true lesion that it hits -> IoU of both."""
    sizes, truth_sizes = (np.bincount(marked.ravel(), minlength=256) for marked in (labels, case.truth))
    for value in np.flatnonzero(sizes[FIRST_LESION:]) + FIRST_LESION:
        shared = np.bincount(case.truth[labels == value], minlength=256)
        union = sizes[value] + truth_sizes - shared
        found = {true: float(shared[true] / union[true]) for true in case.lesions}
        yield int(value), {true: iou for true, iou in found.items() if iou >= HIT_IOU}


@dataclass(frozen=True)
class Detection:
    """Lesion detection over cases.

    Attributes
    ----------
    recall
        Size class (diameter in mm) -> number of found true lesions, and number of all true lesions.
    false_positives
        False findings per case.
    large_recall_at_two
        Recall of lesions with a diameter of at least `LARGE_MM`. The confidence threshold is chosen so that
        `ALLOWED_FALSE` false findings per case remain. None if there are no such large lesions.
    cases, without_lesions
        Number of cases, and of cases without a lesion.
    false_positives_without_lesions
        False findings per case without a lesion; None if there is no such case.
    """

    recall: Mapping[str, tuple[int, int]]
    false_positives: float
    large_recall_at_two: float | None
    cases: int
    without_lesions: int
    false_positives_without_lesions: float | None


def summed(found: Sequence[Detected]) -> Detection:
    """Add up the detections of all cases."""
    pairs = [pair for case in found for pair in zip(case.diameters_mm, case.confidence, strict=True)]
    recall = {}
    for name, low, high in SIZE_CLASSES_MM:
        sure = [confidence for diameter, confidence in pairs if low <= diameter < high]
        recall[name] = (sum(confidence is not None for confidence in sure), len(sure))
    false = np.sort([confidence for case in found for confidence in case.false_confidence])[::-1]
    allowed = int(ALLOWED_FALSE * len(found))
    cut = float(false[allowed]) if len(false) > allowed else -np.inf
    large = [confidence for diameter, confidence in pairs if diameter >= LARGE_MM]
    healthy = [len(case.false_confidence) for case in found if not case.diameters_mm]
    return Detection(
        recall=recall,
        false_positives=len(false) / len(found),
        large_recall_at_two=float(
            np.mean([confidence is not None and confidence > cut for confidence in large])
        )
        if large
        else None,
        cases=len(found),
        without_lesions=len(healthy),
        false_positives_without_lesions=float(np.mean(healthy)) if healthy else None,
    )
