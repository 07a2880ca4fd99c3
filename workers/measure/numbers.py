"""Compute all numbers of a segmentation by key, for tables and for intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config.modalities import CT
from dicom_config.modalities.profile import Unit
from uair_node.findings.measurements import Measurements, measure
from uair_node.findings.record import lesion_numbers, liver_numbers, parenchyma_numbers
from workers.measure.shape import shape_of

Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]
LIVER = 0
"""The key of the whole organ, among keys that are lesion numbers."""
Numbers = Mapping[tuple[int, str], float]


def shapes_of(labels: Labels, spacing_mm: Spacing) -> dict[int, dict[str, float]]:
    """Return lesion number -> the measurements of the lesion's shape. Very small lesions are left out.

    Parameters
    ----------
    labels
        ``(Z, Y, X)``: 0 background, 1 liver, 1 + n lesion n.
    spacing_mm
        (z, y, x).
    """
    found = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        shape = shape_of(labels[box] == value, spacing_mm) if box and value > 1 else None
        if shape is not None:
            found[value - 1] = asdict(shape)
    return found


def numbers_of(
    values: NDArray[Any], labels: Labels, spacing_mm: Spacing, unit: Unit = CT.unit
) -> dict[tuple[int, str], float]:
    """Return all numbers of a segmentation: (lesion number or `LIVER`, key) -> value."""
    return flattened(measure(values, labels, spacing_mm), shapes_of(labels, spacing_mm), unit)


def flattened(
    measured: Measurements, shapes: Mapping[int, Mapping[str, float]], unit: Unit
) -> dict[tuple[int, str], float]:
    """Return all numbers of measurements and shapes: (lesion number or `LIVER`, key) -> value."""
    found = {(LIVER, key): value for key, value in liver_numbers(measured).items()}
    found |= {(LIVER, key): value for key, value in parenchyma_numbers(measured, unit).items()}
    for lesion in measured.lesions:
        numbers = {**lesion_numbers(lesion, unit), **shapes.get(lesion.number, {})}
        found |= {(lesion.number, key): value for key, value in numbers.items()}
    return found
