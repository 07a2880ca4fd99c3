"""The record of a measured segmentation. Report, table, page and JSON use this record.

This module has the record and its file `measurements.json`. Numbers are rounded only here, so that they are
equal in every place. This module does not measure, and it does not use DICOM objects.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dicom_config.modalities import CT, PROFILES, ModalityProfile
from dicom_config.modalities.profile import Unit
from dicom_config.quantities import QUANTITIES, Quantities, Quantity
from uair_node.findings.follow_up import FollowUp
from uair_node.findings.measurements import LesionMeasurements, Measurements
from uair_node.storage.artifacts import reading_artifact
from uair_node.storage.store import write_durably

NOMINAL = 0.9
"""The nominal coverage of intervals: the fraction of true values that they should contain.

docs/measurements.md has the measured coverage.
"""


@dataclass(frozen=True)
class Value:
    """A number, and the interval that contains the true number with the probability `NOMINAL`.

    `low` and `high` are None if the interval is unknown.
    """

    value: float
    low: float | None = None
    high: float | None = None


Values = Mapping[str, Value]
Numbers = Mapping[str, float]
Interval = tuple[float, float]


@dataclass(frozen=True)
class LesionFindings:
    """The measurements of a lesion.

    Parameters
    ----------
    number
        Lesion number. Its label value is 1 + number.
    tracking_uid, tracking_id
        The identity of the lesion in other rounds and studies.
    slice_index
        Index of the source slice on which the lesion's axes were measured.
    values
        The lesion's measured values, by the keys of `Quantities.lesion`.
    """

    number: int
    tracking_uid: str
    tracking_id: str
    slice_index: int
    values: Values


@dataclass(frozen=True)
class Findings:
    """A measured segmentation.

    Parameters
    ----------
    liver, parenchyma
        Values by the keys of `Quantities.liver` and `Quantities.parenchyma`.
    lesions
        The lesions, by ascending number.
    follow_up
        Changes since earlier studies; None if there is no earlier study.
    profile
        Name of the modality profile, which determines the quantities and units.
    """

    liver: Values
    parenchyma: Values
    lesions: tuple[LesionFindings, ...]
    follow_up: FollowUp | None = None
    profile: str = CT.name

    @property
    def quantities(self) -> Quantities:
        """The quantities of the modality profile."""
        return QUANTITIES[self.profile]

    @property
    def unit(self) -> Unit:
        """The unit of densities."""
        return PROFILES[self.profile].unit

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Findings:
        """Return the findings from a record of `as_json`."""
        lesions = tuple(
            LesionFindings(**{**lesion, "values": _values(lesion["values"])}) for lesion in record["lesions"]
        )
        follow_up = record["follow_up"] and FollowUp.from_json(record["follow_up"])
        kind = record.get("profile", CT.name)  # old records have no profile, because CT was the only profile
        return cls(_values(record["liver"]), _values(record["parenchyma"]), lesions, follow_up, kind)


def tabulate(
    measured: Measurements,
    tracking: Mapping[int, tuple[str, str]],
    shapes: Mapping[int, Numbers] | None = None,
    intervals: Mapping[tuple[int, str], Interval] | None = None,
    follow_up: FollowUp | None = None,
    profile: ModalityProfile = CT,
) -> Findings:
    """Combine measurements into findings.

    Parameters
    ----------
    tracking
        Lesion number -> Tracking UID and Tracking ID.
    shapes
        Lesion number -> shape descriptors by key.
    intervals
        (lesion number, key) -> interval. The number 0 is the liver.
    profile
        The modality profile of the measured volume.
    """
    known, kind, unit = intervals or {}, QUANTITIES[profile.name], profile.unit

    def values(number: int, quantities: Sequence[Quantity], numbers: Numbers) -> dict[str, Value]:
        found = {}
        for quantity in quantities:
            if quantity.key in numbers:
                bounds = known.get((number, quantity.key), (None, None))
                found[quantity.key] = _value(quantity, numbers[quantity.key], *bounds)
        return found

    lesions = tuple(
        LesionFindings(
            lesion.number,
            *tracking[lesion.number],
            lesion.diameters.slice_index,
            values(
                lesion.number,
                kind.lesion,
                {**lesion_numbers(lesion, unit), **(shapes or {}).get(lesion.number, {})},
            ),
        )
        for lesion in measured.lesions
    )
    return Findings(
        values(0, kind.liver, liver_numbers(measured)),
        values(0, kind.parenchyma, parenchyma_numbers(measured, unit)),
        lesions,
        follow_up,
        profile.name,
    )


def lesion_numbers(lesion: LesionMeasurements, unit: Unit) -> dict[str, float]:
    """Return the measurements of a lesion without shape descriptors, by key."""
    return {
        "volume_ml": lesion.volume_ml,
        "long_mm": lesion.diameters.long_mm,
        "short_mm": lesion.diameters.short_mm,
        **{f"{name}_{unit.suffix}": value for name, value in asdict(lesion.density).items()},
    }


def liver_numbers(measured: Measurements) -> dict[str, float]:
    """Return the measurements of the whole organ, by key."""
    return {
        "liver_ml": measured.liver_ml,
        "lesions": len(measured.lesions),
        "lesions_ml": measured.lesions_ml,
        "burden_percent": measured.burden_percent,
    }


def parenchyma_numbers(measured: Measurements, unit: Unit) -> dict[str, float]:
    """Return the measurements of the liver without its lesions, by key."""
    numbers = {"parenchyma_ml": measured.parenchyma_ml}
    if measured.parenchyma_mean is not None:
        numbers[f"parenchyma_{unit.suffix}"] = measured.parenchyma_mean
    return numbers


def save_findings(path: Path, findings: Findings) -> None:
    """Write findings durably."""
    text = json.dumps(findings.as_json(), indent=1, sort_keys=True)
    write_durably(path, lambda temporary: temporary.write_text(text, "utf-8"))


def load_findings(path: Path) -> Findings | None:
    """Read the file of `save_findings`; None if the file does not exist, as in old cases."""
    if not path.exists():
        return None
    with reading_artifact():
        return Findings.from_json(json.loads(path.read_text("utf-8")))


def as_csv(findings: Findings) -> str:
    """Return findings as CSV: a line for each number, with its interval if the interval is known."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["target", "tracking_uid", "quantity", "value", "low", "high", "unit"])

    def rows(target: str, uid: str, quantities: Sequence[Quantity], values: Values) -> None:
        for quantity in quantities:
            if quantity.key in values:
                found = values[quantity.key]
                bounds = ["" if part is None else part for part in (found.low, found.high)]
                table.writerow([target, uid, quantity.key, found.value, *bounds, quantity.unit.value])

    kind = findings.quantities
    rows("liver", "", kind.liver, findings.liver)
    rows("liver", "", kind.parenchyma, findings.parenchyma)
    for lesion in findings.lesions:
        rows(f"lesion {lesion.number}", lesion.tracking_uid, kind.lesion, lesion.values)
    return text.getvalue()


def _value(quantity: Quantity, value: float, low: float | None, high: float | None) -> Value:
    def rounded(number: float) -> float:
        # Without decimals, the result is an integer, such as a number of lesions.
        return round(float(number), quantity.decimals or None)

    if low is None or high is None:
        return Value(rounded(value))
    return Value(rounded(value), rounded(low), rounded(high))


def _values(record: Mapping[str, Any]) -> dict[str, Value]:
    return {key: Value(**value) for key, value in record.items()}
