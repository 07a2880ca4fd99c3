"""Patient and study data of a header, and whether they match the words of a search."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

_TEXTS = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription")
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "PatientBirthDate")
_READ = [*_TEXTS, *_DATES]

_ISO_DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?")
_OTHER_DATE = re.compile(r"(\d{1,2})([./])(\d{1,2})\2(\d{4})")


@dataclass(frozen=True)
class PatientFacts:
    """Data that identify a case's patient and study. A value is empty if the header does not have it.

    Attributes
    ----------
    study_date
        In the form ``2026-03-12`` if the value is a valid date; else unchanged.
    texts, dates
        Values for a search: texts as `fold` returns them, dates as eight digits.
    """

    name: str
    patient_id: str
    study_date: str
    description: str
    texts: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    def matches(self, words: str) -> bool:
        """Return whether each word is a part of a text of the header, or one of its dates."""
        return all(
            any(word in text for text in self.texts)
            or any(date.startswith(start) for start in date_digits(word) for date in self.dates)
            for word in fold(words).split()
        )


def read_patient_facts(path: Path) -> PatientFacts:
    """Read the patient facts of a DICOM file. The function raises pydicom's exceptions."""
    return facts_of(dcmread(path, stop_before_pixels=True, specific_tags=list(_READ)))


def facts_of(header: Dataset) -> PatientFacts:
    """Return the patient facts of a header."""
    value = {keyword: str(header.get(keyword) or "").strip() for keyword in _READ}
    day = value["StudyDate"]
    descriptions = (value["StudyDescription"], value["SeriesDescription"])
    return PatientFacts(
        name=readable_name(value["PatientName"]),
        patient_id=value["PatientID"],
        study_date=f"{day[:4]}-{day[4:6]}-{day[6:]}" if re.fullmatch(r"\d{8}", day) else day,
        description=", ".join(dict.fromkeys(filter(None, descriptions))),
        texts=tuple(fold(_plain(value[keyword])) for keyword in _TEXTS),
        dates=tuple(value[keyword] for keyword in _DATES if value[keyword]),
    )


def readable_name(name: str) -> str:
    """Return a person's name without DICOM's separators, as "Doe, Jane". Other scripts follow in brackets."""
    groups = [
        ", ".join(filter(None, (part.strip() for part in group.split("^")))) for group in name.split("=")
    ]
    first, *others = list(filter(None, groups)) or [""]
    return f"{first} ({'; '.join(others)})" if others else first


def fold(text: str) -> str:
    """Return a text without case, accents and double spaces, for comparison."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in apart if not unicodedata.combining(letter)).split())


def date_digits(word: str) -> tuple[str, ...]:
    """Return the eight digits (or the first six) that a date may have in DICOM; empty if the word is no date.

    The forms are 2026-03-12, 2026-03, 20260312, 12.3.2026 and 3/12/2026. With slashes, day and month may
    have either order.
    """
    if re.fullmatch(r"\d{8}", word):
        return (word,)
    if iso := _ISO_DATE.fullmatch(word):
        return ("".join(part for part in iso.groups() if part),)
    if other := _OTHER_DATE.fullmatch(word):
        first, sign, second, year = other.groups()
        days = [f"{year}{int(second):02d}{int(first):02d}"]
        if sign == "/":
            days.append(f"{year}{int(first):02d}{int(second):02d}")
        return tuple(days)
    return ()


def _plain(text: str) -> str:
    return text.replace("^", " ").replace("=", " ")
