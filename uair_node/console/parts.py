"""Let a reader take targets and parts from other candidates, on the page of a pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uair_node.cases.reader_choice import ReaderChoice, part_name, target_name
from uair_node.cases.tables import Round

_FIELD = "take"


@dataclass(frozen=True)
class Question:
    """A target or a part of a target, and the candidates from which a reader can take it.

    Attributes
    ----------
    field
        Name of the form's field: ``take-3`` for the target of label value 3, ``take-3-upper`` for its part.
    name
        The name in words: "lesion 2", "upper part of lesion 2".
    picture
        The picture's address, relative to a candidate's address: ``parts/3/0.jpg`` for the target,
        ``parts/3/1.jpg`` for its first part.
    holders
        Numbers of the candidates that have the target.
    """

    field: str
    name: str
    picture: str
    holders: tuple[int, ...]


def questions_of(round_: Round) -> list[Question]:
    """Return the targets that have parts in a round, each followed by its parts."""
    found = []
    for key, names in sorted(round_.parts.items(), key=lambda item: int(item[0])):
        value = int(key)
        holders = tuple(candidate.k for candidate in round_.candidates if value in candidate.targets)
        found.append(Question(f"{_FIELD}-{value}", target_name(value), f"parts/{value}/0.jpg", holders))
        for number, name in enumerate(names, start=1):
            picture = f"parts/{value}/{number}.jpg"
            found.append(Question(f"{_FIELD}-{value}-{name}", part_name(value, name), picture, holders))
    return found


def choice_in(form: Mapping[str, str], k: int) -> ReaderChoice:
    """Return candidate `k` with the targets and parts that a form takes from other candidates."""
    others = {}
    for field, text in form.items():
        mark, _, place = field.partition("-")
        value, _, name = place.partition("-")
        if mark != _FIELD or not value.isdecimal() or not text.isdecimal():
            continue
        if name or int(text) != k:
            others[place.replace("-", " ", 1)] = int(text)
    return ReaderChoice.from_stored(k, others)
