"""Measurements and evaluations of a report: items of TID 1411, 1419 and 310 (PS3.16)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr import (
    CodedConcept,
    Measurement,
    MeasurementProperties,
    QualitativeEvaluation,
    SourceImageForMeasurement,
)
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code

from dicom_config import change_codes, codes
from dicom_config.quantities import Quantity
from uair_node.dicom.volume import SourceSlice
from uair_node.findings.follow_up import FollowUp, Link
from uair_node.findings.record import Value, Values

_RANGES = (
    standard.SCT.RangeOfUpperMeasurementUncertainty.value,
    standard.SCT.RangeOfLowerMeasurementUncertainty.value,
)


def measurements_of(
    quantities: Sequence[Quantity], values: Values, slice_: SourceSlice | None = None
) -> list[Measurement]:
    """Return a measurement item for each quantity that has a value.

    `slice_` is the slice on which the lesion's axes were measured; None for the organ.
    """
    return [
        _measurement(quantity, values[quantity.key], slice_)
        for quantity in quantities
        if quantity.key in values
    ]


def _measurement(quantity: Quantity, found: Value, slice_: SourceSlice | None) -> Measurement:
    # TID 1411 has no item for an axis itself, only for the slice on which the axis lies.
    images = None
    if quantity.on_slice and slice_ is not None:
        frames = None if slice_.frame is None else [slice_.frame]
        images = [SourceImageForMeasurement(slice_.sop_class_uid, slice_.sop_instance_uid, frames)]
    measurement = Measurement(
        name=quantity.code,
        value=found.value,
        unit=quantity.unit,
        derivation=quantity.derivation,
        properties=_uncertainty(quantity, found),
        referenced_images=images,
    )
    _as_ranges(measurement, quantity.unit)
    return measurement


def _as_ranges(measurement: Measurement, unit: Code) -> None:
    """Give ranges of uncertainty the unit of their number, and the relationship that TID 1419 requires.

    highdicom writes these ranges without a unit and as properties of the number.
    """
    for item in measurement[0].get("ContentSequence", ()):
        if item.ConceptNameCodeSequence[0].CodeValue in _RANGES:
            item.RelationshipType = "INFERRED FROM"
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [CodedConcept.from_code(unit)]


def _uncertainty(quantity: Quantity, found: Value) -> MeasurementProperties | None:
    """Return the interval of a value as ranges above and below the number (PS3.16 TID 310).

    Return None if the value has no interval.
    """
    if found.low is None or found.high is None:
        return None
    return MeasurementProperties(
        upper_measurement_uncertainty=round(found.high - found.value, quantity.decimals),
        lower_measurement_uncertainty=round(found.value - found.low, quantity.decimals),
    )


def earlier_measurements(link: Link) -> list[Measurement]:
    """Return items for a lesion's earlier volume (ml), earlier long axis (mm) and volume change (percent).

    The list is empty if a value is unknown.
    """
    if link.earlier_ml is None or link.earlier_mm is None or link.volume_change is None:
        return []
    return [
        _number(change_codes.VOLUME_BEFORE, round(link.earlier_ml, 3), codes.MILLILITRE),
        _number(change_codes.LONG_AXIS_BEFORE, round(link.earlier_mm, 2), codes.MILLIMETRE),
        _number(change_codes.VOLUME_CHANGE, round(100 * link.volume_change, 1), codes.PERCENT),
    ]


def change_of(link: Link) -> QualitativeEvaluation:
    """Return the fate of a lesion since the earlier study, as a coded evaluation."""
    return QualitativeEvaluation(change_codes.CHANGE, change_codes.FATES[link.fate])


def sums_of_diameters(follow_up: FollowUp) -> list[Measurement]:
    """Return items for the days since the earlier study and for sums of diameters: now, baseline, nadir."""
    sums = [point.sum_mm for point in follow_up.points]
    named = (
        (change_codes.SUM_NOW, sums[-1]),
        (change_codes.SUM_BASELINE, sums[0]),
        (change_codes.SUM_NADIR, min(sums[:-1])),
    )
    return [
        _number(change_codes.DAYS, follow_up.days, change_codes.DAY),
        *(_number(name, round(mm, 2), codes.MILLIMETRE) for name, mm in named),
    ]


def responses_of(follow_up: FollowUp) -> list[QualitativeEvaluation]:
    """Return the method (RECIST 1.1) and the response categories by diameters and by volumes."""
    said = (
        (change_codes.METHOD, change_codes.RECIST),
        (change_codes.RESPONSE, change_codes.RESPONSES[follow_up.response]),
        (change_codes.VOLUME_RESPONSE, change_codes.RESPONSES[follow_up.volume_response]),
    )
    return [QualitativeEvaluation(name, value) for name, value in said]


def _number(name: Code, value: float, unit: Code) -> Measurement:
    return Measurement(name=name, value=value, unit=unit)
