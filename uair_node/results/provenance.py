"""Attributes of origin that segmentations, pages, report, rejection note and structure set share.

These objects contain no value of a clock or a random source. This module does not depend on their content.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_config import codes
from uair_node.results.zone import KEYWORD, in_zone


@dataclass(frozen=True)
class Provenance:
    """The origin of an object.

    Parameters
    ----------
    round
        Number of the round, from 1.
    model_name, model_digest, software_version
        The model and the software that made the object. The digest is hexadecimal, with at most 64
        characters.
    case_digest
        Digest of the source series.
    content_datetime
        Time at which the object's content was computed, in UTC without a time zone.
    series_datetime
        Time at which the object's series began, if the series contains objects of several times; else None.
    """

    round: int
    model_name: str
    model_digest: str
    software_version: str
    case_digest: str
    content_datetime: datetime
    series_datetime: datetime | None = None


def shared_arguments(provenance: Provenance, source: Dataset) -> dict[str, Any]:
    """Return the arguments that all constructors of highdicom need: equipment and dates.

    The dates are in the time zone of the header `source`.
    """
    seconds = in_zone(provenance.content_datetime, source)
    begun = in_zone(provenance.series_datetime or provenance.content_datetime, source)
    return {
        "manufacturer": codes.MANUFACTURER,
        "manufacturer_model_name": codes.long_string(provenance.model_name),
        "software_versions": codes.long_string(provenance.software_version),
        # The "device" is a set of weights. The digest identifies the set.
        "device_serial_number": provenance.model_digest[:16],
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "content_date": seconds.date(),
        "content_time": seconds.time(),
        "series_date": begun.date(),
        "series_time": begun.time(),
        "specific_character_set": None,
    }


def make_reproducible(made: Dataset, provenance: Provenance, source: Dataset) -> Dataset:
    """Return highdicom's object as a plain data set. A second run gives the same bytes.

    Parameters
    ----------
    source
        Header of the study. Its time zone and its character set are copied, because highdicom refuses some
        common character sets.
    """
    plain = Dataset(made)
    plain.file_meta = made.file_meta
    moment = in_zone(provenance.content_datetime, source)
    plain.InstanceCreationDate = moment.strftime("%Y%m%d")
    plain.InstanceCreationTime = moment.strftime("%H%M%S")
    for equipment in plain.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S")
    for keyword in ("SpecificCharacterSet", KEYWORD):
        if keyword in source:
            plain[keyword] = source[keyword]
    return plain
