"""List findings on confirmations, and read the changes in a form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from dicom_config.model import Verb
from uair_node.cases.reader_choice import LIVER, ReaderChoice
from uair_node.cases.tables import Case, Round
from uair_node.selection.changed_findings import Changes, changes_by_number, offered_findings
from uair_node.selection.marked_round import MarkedRound

MOST_LISTED = 40
"""The largest number of findings on a form. A form has at most 50 fields."""
_FIELD = re.compile(r"finding-(\d{1,3})")


@dataclass(frozen=True)
class Finding:
    """An offered lesion: its number, the candidates that have it, and its volumes there."""

    number: int
    holders: tuple[int, ...]
    volumes_ml: tuple[float, ...]

    @property
    def size(self) -> str:
        """The lesion's volume in words; its smallest and largest volume if the candidates differ."""
        low, high = (f"{ml:.1f}" for ml in (min(self.volumes_ml), max(self.volumes_ml)))
        return f"{low} ml" if low == high else f"{low} to {high} ml"


def listed_findings(round_: Round | None) -> list[Finding]:
    """Return the lesions of a round's candidates by number, at most `MOST_LISTED`."""
    found: dict[int, list[tuple[int, float]]] = {}
    for candidate in round_.candidates if round_ else ():
        lesions = [value for value in candidate.targets if value > LIVER]
        for value, ml in zip(lesions, candidate.volumes_ml.get("lesions", ()), strict=False):
            found.setdefault(value - LIVER, []).append((candidate.k, float(ml)))
    return [
        Finding(number, tuple(k for k, _ in held), tuple(ml for _, ml in held))
        for number, held in sorted(found.items())
    ][:MOST_LISTED]


def changes_in(
    session: Session, case: Case, form: Mapping[str, str], verb: Verb, named: ReaderChoice | None
) -> MarkedRound | None:
    """Return the changes of findings in a form. The function raises the errors of `changes_by_number`.

    The result is None if `named` is given and the form drops no lesion.
    """
    said: dict[str, set[int]] = {"drop": set(), "keep": set()}
    for name, value in form.items():
        match = _FIELD.fullmatch(name)
        if match and value in said:
            said[value].add(int(match[1]))
    if named is not None and not said["drop"]:
        return None
    changes = Changes(dropped=said["drop"], kept=said["keep"] if named is None else ())
    return changes_by_number(session, offered_findings(case), changes, verb, named)
