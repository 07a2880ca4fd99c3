"""Attributes of origin that segmentations, pages, report, rejection note and structure set share.

These objects contain no value of a clock or a random source. This module does not know their content.
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
        1-based.
    model_name, model_digest, software_version
        The model and software that made it. The digest is hexadecimal, with at most 64 characters.
    case_digest
        Digest of the source series.
    content_datetime
        Time at which its content was computed, UTC without zone.
    series_datetime
        The same for its series, if that holds objects of several times.
    """

    round: int
    model_name: str
    model_digest: str
    software_version: str
    case_digest: str
    content_datetime: datetime
    series_datetime: datetime | None = None


def shared_arguments(provenance: Provenance, source: Dataset) -> dict[str, Any]:
    """Return the arguments that all constructors of highdicom take: equipment, dates in `source`'s zone."""
    seconds = in_zone(provenance.content_datetime, source)
    begun = in_zone(provenance.series_datetime or provenance.content_datetime, source)
    return {
        "manufacturer": codes.MANUFACTURER,
        "manufacturer_model_name": codes.long_string(provenance.model_name),
        "software_versions": codes.long_string(provenance.software_version),
        # The "device" is a set of weights: this tells which.
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
        Header of the study. Its time zone and its character set are used; highdicom refuses some common sets.
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
