"""The time zone of a result: Timezone Offset From UTC (0008,0201), and our times in this zone.

The offset is valid for all dates and times of an instance (PS3.3 C.12.1). So it is also valid for the study's
dates and times, which are copied from the series. The series' own offset is used. If the series has no
offset, then the offset of this machine's zone (``TZ``, or ``/etc/localtime``) at the time of the study is
used.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from pydicom import Dataset

KEYWORD = "TimezoneOffsetFromUTC"

_OFFSET = re.compile(r"([+-])(\d{2})([0-5]\d)")
_LEAST, _MOST = timedelta(hours=-12), timedelta(hours=14)
_WITHOUT_DATE = datetime(2000, 1, 1)
"""The date that determines the offset if a study has no date.

It is fixed, so that a repeated job makes the same bytes.
"""


def utc_offset(source: Dataset) -> str:
    """Return the UTC offset of a series' times in DICOM's form: ``+0100``. `source` is a header."""
    stated = _read(str(source.get(KEYWORD) or "").strip())
    return _written(stated if stated is not None else _local(_study_moment(source)))


def in_zone(moment: datetime, header: Dataset) -> datetime:
    """Return a time in the time zone of a header, without a time zone and without fractions of a second.

    `moment` is in UTC without a time zone.
    """
    offset = _read(str(header.get(KEYWORD) or "")) or timedelta()
    return moment.replace(tzinfo=UTC, microsecond=0).astimezone(timezone(offset)).replace(tzinfo=None)


def _read(text: str) -> timedelta | None:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return offset if _LEAST <= offset <= _MOST else None


def _written(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def _study_moment(source: Dataset) -> datetime:
    day, time = (str(source.get(keyword) or "") for keyword in ("StudyDate", "StudyTime"))
    for text, form in ((f"{day} {time[:4]}", "%Y%m%d %H%M"), (day, "%Y%m%d")):
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return _WITHOUT_DATE


def _local(moment: datetime) -> timedelta:
    try:
        return moment.astimezone().utcoffset() or timedelta()
    except (OverflowError, OSError, ValueError):  # the system's clock does not support the year
        return _WITHOUT_DATE.astimezone().utcoffset() or timedelta()
