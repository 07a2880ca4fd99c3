"""Intervals in the report: ranges of uncertainty as the template has them."""

import pytest
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.quantities import Quantity
from uair_node.findings.record import Value
from uair_node.results.report_measurements import _measurement


@pytest.mark.parametrize("unit", [codes.MILLILITRE, codes.MILLIMETRE, codes.HOUNSFIELD_UNIT, codes.PERCENT])
def test_a_range_has_the_unit_of_its_number_and_is_inferred_from(unit: Code) -> None:
    quantity = Quantity("x", "x", codes.VOLUME, unit, 1)
    (number,) = _measurement(quantity, Value(10.0, 8.0, 13.0), None)
    ranges = {
        item.ConceptNameCodeSequence[0].CodeValue: item
        for item in number.ContentSequence
        if item.ValueType == "NUM"
    }
    assert {code: float(item.MeasuredValueSequence[0].NumericValue) for code, item in ranges.items()} == {
        "371886008": 3.0,
        "371885007": 2.0,
    }
    for item in ranges.values():
        assert item.RelationshipType == "INFERRED FROM"
        (measured,) = item.MeasuredValueSequence
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == unit.value
