"""Search by patient data: read the headers of cases for some seconds, the newest case first.

The database has no patient data except a keyed digest of the Patient ID. The digest finds a whole Patient ID
at once. The words of a search are kept in the session's memory and never appear in an address.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sqlalchemy import select

from dicom_config.errors import TransientError, UairError
from uair_node.cases.tables import Case
from uair_node.context import Context
from uair_node.dicom.patient_facts import PatientFacts, read_patient_facts
from uair_node.dicom.readers import hash_patient_id
from uair_node.operations.case_list import first_slices
from uair_node.patient_keys import find_patient_keys

LONGEST_S = 5.0
"""The longest time of a look-up in seconds. Then it stops, and the user can continue it with older cases."""

_AT_A_TIME = 200
_READERS = 8
_MOST_FOUND = 1000


@dataclass(frozen=True)
class PatientLookup:
    """The words of a search for patient data, and the cases found so far.

    Attributes
    ----------
    number
        Number of the look-up in its session.
    found
        Numbers of cases.
    read, unreadable
        Number of cases whose header was read, and of cases without a readable file.
    before
        Number of a case. Cases older than this case are still to be read. None after the last case.
    """

    number: int
    words: str
    found: tuple[int, ...] = ()
    read: int = 0
    unreadable: int = 0
    before: int | None = 1 << 62


def look_through(context: Context, lookup: PatientLookup) -> PatientLookup:
    """Continue a look-up until all cases are read, or the time is over.

    Raises
    ------
    TransientError
        ``database-unavailable``, ``store-unavailable``.
    """
    deadline = time.monotonic() + LONGEST_S
    if not lookup.read:
        lookup = replace(lookup, found=_of_patient_id(context, lookup.words))
    while lookup.before is not None:
        lookup = _read_more(context, lookup, lookup.before)
        if time.monotonic() > deadline or len(lookup.found) >= _MOST_FOUND:
            break
    return lookup


def facts_of_cases(context: Context, paths: Mapping[int, str]) -> dict[int, PatientFacts | None]:
    """Read the header of a slice of each case, `paths` by case number; None if a header cannot be read."""
    with ThreadPoolExecutor(_READERS) as pool:
        facts = pool.map(lambda path: _facts(context, path), paths.values())
        return dict(zip(paths, facts, strict=True))


def _read_more(context: Context, lookup: PatientLookup, before: int) -> PatientLookup:
    with context.database.reading() as session:
        query = select(Case.id).where(Case.id < before).order_by(Case.id.desc()).limit(_AT_A_TIME)
        case_ids: Sequence[int] = session.scalars(query).all()
        paths = first_slices(session, case_ids)
    facts = facts_of_cases(context, paths)
    matching = [case_id for case_id, read in facts.items() if read is not None and read.matches(lookup.words)]
    return replace(
        lookup,
        found=tuple(sorted({*lookup.found, *matching})),
        read=lookup.read + sum(read is not None for read in facts.values()),
        unreadable=lookup.unreadable + len(case_ids) - sum(read is not None for read in facts.values()),
        before=min(case_ids) if len(case_ids) == _AT_A_TIME else None,
    )


def _facts(context: Context, path: str) -> PatientFacts | None:
    try:
        file = context.store.fetch_if_kept(path)
        return read_patient_facts(file) if file is not None else None
    except TransientError:
        raise
    except Exception:  # a foreign exception's text may quote the header
        return None


def _of_patient_id(context: Context, words: str) -> tuple[int, ...]:
    """Return the numbers of all cases whose Patient ID equals the typed words."""
    folder, configured = context.store.root, context.settings.intake.patient_secret_file
    try:
        keys = find_patient_keys(context.database, folder, configured)
    except TransientError:
        raise
    except UairError:  # a console on another machine may have no secret; it still reads the headers
        return ()
    key = keys.key(hash_patient_id(words)) if keys is not None else ""
    if not key:
        return ()
    with context.database.reading() as session:
        query = select(Case.id).where(Case.patient_key == key).order_by(Case.id.desc()).limit(_MOST_FOUND)
        return tuple(session.scalars(query))
