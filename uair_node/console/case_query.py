"""The query in the URL of a list of cases: filter, order, and the look-up by patient data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from dicom_config.errors import InputError
from uair_node.cases.states import CaseState
from uair_node.console.patient_lookup import PatientLookup
from uair_node.console.sessions import Session
from uair_node.operations.case_list import NEWEST_FIRST, CaseFilter, is_order


@dataclass(frozen=True)
class CaseQuery:
    """The query in the URL of a list of cases."""

    wanted: CaseFilter
    sort: str
    lookup: PatientLookup | None

    @property
    def fields(self) -> dict[str, str]:
        """Return the form fields that request the same list again."""
        given = {
            "search": self.wanted.search,
            "state": self.wanted.state,
            "found": str(self.lookup.number) if self.lookup else "",
            "sort": "" if self.sort == NEWEST_FIRST else self.sort,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def address(self) -> str:
        """Return path and query of the page that lists these cases."""
        return f"/cases?{urlencode(self.fields)}" if self.fields else "/cases"

    def sorted_by(self, column: str) -> str:
        """Return the address of the list sorted by a column.

        If the list is sorted by this column already, then the order is reversed.
        """
        down = self.sort == column
        return replace(self, sort=f"-{column}" if down else column).address

    def direction(self, column: str) -> str:
        """Return the sort direction of a column in the words of ``aria-sort``.

        The result is empty if the list is not sorted by this column.
        """
        return {column: "ascending", f"-{column}": "descending"}.get(self.sort, "")


def case_query(session: Session, given: Mapping[str, str]) -> CaseQuery:
    """Return the query in `given`, which is the query of an address or the fields of a form.

    Raises
    ------
    InputError
        ``lookup-over``: the query names a look-up that is not the session's last look-up.
    """
    state, sort = given.get("state", "").upper(), given.get("sort", NEWEST_FIRST)
    number, lookup = given.get("found", ""), session.lookup
    if number and (lookup is None or number != str(lookup.number)):
        sentence = "The console no longer keeps the result of this patient search."
        raise InputError("lookup-over", sentence, "Search for the patient again.")
    return CaseQuery(
        CaseFilter(
            state=state if state in CaseState.__members__ else "",
            search=given.get("search", "").strip()[:64],
            among=lookup.found if number and lookup else None,
        ),
        sort if is_order(sort) else NEWEST_FIRST,
        lookup if number else None,
    )
