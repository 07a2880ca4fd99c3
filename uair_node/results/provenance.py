"""Attributes of origin that all results besides segmentations share: pages, report, rejection note.

These objects hold no value of a clock or a random source (DESIGN invariant 2). This module does not know
their content.
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
    """Where an object comes from.

    Parameters
    ----------
    round
        1-based.
    model_name, model_digest, software_version
        What made it; the digest in hexadecimal, at most 64 characters.
    case_digest
        Digest of the source series.
    content_datetime
        When its content was computed, UTC without zone.
    series_datetime
        The same for its series, where that holds objects of several moments.
    """

    round: int
    model_name: str
    model_digest: str
    software_version: str
    case_digest: str
    content_datetime: datetime
    series_datetime: datetime | None = None


def shared_arguments(provenance: Provenance, source: Dataset) -> dict[str, Any]:
    """Return what all constructors of the library take: equipment, and dates in the zone of `source`."""
    seconds = in_zone(provenance.content_datetime, source)
    begun = in_zone(provenance.series_datetime or provenance.content_datetime, source)
    return {
        "manufacturer": codes.MANUFACTURER,
        "manufacturer_model_name": codes.long_string(provenance.model_name),
        "software_versions": codes.long_string(provenance.software_version),
        "device_serial_number": provenance.model_digest[:16],
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "content_date": seconds.date(),
        "content_time": seconds.time(),
        "series_date": begun.date(),
        "series_time": begun.time(),
        "specific_character_set": None,
    }


def make_reproducible(made: Dataset, provenance: Provenance, source: Dataset) -> Dataset:
    """Return the library's object as a plain data set of which a second run makes the same bytes.

    Parameters
    ----------
    source
        Header of the study: its time zone, and its character set as it is, the library refuses common ones.
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
